"""`report --html` and `--figures` write whole pages and pictures of any run, and say so."""

import json
from pathlib import Path

import pytest
from support.commands import Edgeemu
from support.html_pages import read_page

from edgeemu.report.record_files import RecordWriter
from edgeemu.report.run_directory import RunDirectory

MOVING = """
name: moving
model:
  shape: {n_layers: 6, d_model: 96, n_heads: 6, n_kv_heads: 3, head_dim: 16, d_ff: 256, vocab_size: 400,
          max_context: 30000}
devices:
  - {name: laptop, gflops: 5 GFLOPS, mem_bandwidth: 0.9 GB/s, memory: 1.2 MiB}
  - {name: raspberry-pi, count: 3, gflops: 2 GFLOPS, mem_bandwidth: 0.5 GB/s, memory: 1 MiB}
  - {name: nano, gflops: 4 GFLOPS, mem_bandwidth: 0.6 GB/s, memory: 2 MiB}
network: {default: {bandwidth: 100 Mbit/s, delay: 50 us}}
policy: lookahead
sharding: {divide: false}
decisions: {interval: 4, time: 0.2 ms}
events: [{at_token: 12, device: laptop, speed: 0.2}]
workload: {prompts: [{tokens: 9}], max_tokens: 40}
"""
SECTIONS = ["text", "latency", "time", "devices", "memory", "placement", "links", "decisions", "trust", "run"]


@pytest.fixture
def moving(tmp_path: Path) -> str:
    path = tmp_path / "moving.yaml"
    path.write_text(MOVING)
    return str(path)


def simulated(edgeemu: Edgeemu, scenario: str, *options: str) -> str:
    """Directory of a simulated run."""
    status, out, err = edgeemu("simulate", scenario, "--json", *options)
    assert status == 0, err
    directory: str = json.loads(out)["directory"]
    return directory


def test_a_page_has_all_that_is_known(edgeemu: Edgeemu, moving: str) -> None:
    run = simulated(edgeemu, moving)
    status, _, err = edgeemu("report", run, "--html", "page.html")
    assert (status, err) == (0, "written: page.html\n")
    page = read_page(Path("page.html"))
    assert page.sections == SECTIONS
    assert page.references == []
    assert page.tags.isdisjoint({"script", "iframe", "img", "object"})
    summary = json.loads((Path(run) / "summary.json").read_text())
    assert f"{summary['tpot_ms']['mean']:.1f} ms" in page.text
    assert len(page.pictures) % 2 == 0
    parts = next(table for table in page.tables if table[0][0] == "where a token's time goes")
    total_ms = sum(float(row[1].split()[0]) for row in parts[1:])
    assert total_ms == pytest.approx(summary["tpot_ms"]["mean"], rel=0.02)
    (decided,) = (table for table in page.tables if table[0][0] == "before token")
    assert any("laptop measured at" in row[1] for row in decided[1:])
    assert all("blocks moved" in row[2] for row in decided[1:])
    texts = [set(page.texts(number)) for number in range(len(page.pictures))]
    for label, number in (("latency (ms)", 2), ("time per token (ms)", 4), ("memory (MiB)", 2), ("speed left (%)", 2)):
        assert sum(label in each for each in texts) == number, label
    assert sum("time on the timeline (s)" in each for each in texts) == 4


def test_a_page_with_what_would_help(edgeemu: Edgeemu, tiny: str) -> None:
    run = simulated(edgeemu, tiny)
    status, _, err = edgeemu("report", run, "--why", "--html", "page.html")
    assert status == 0, err
    page = read_page(Path("page.html"))
    assert "What would help most:" in page.text or "None of these changes would help" in page.text
    assert any(table[0][0] == "what if" for table in page.tables)


@pytest.mark.usefixtures("figures_are_svg")
@pytest.mark.parametrize(
    "settings",
    [
        ("workload.max_tokens=1",),
        ("workload.prompts=[{tokens: 5}]", "workload.max_tokens=1"),
        ("devices=[{name: only, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}]",),
        ("workload.concurrency=2",),
    ],
    ids=["first tokens", "one token", "one device", "two at once"],
)
def test_pages_of_small_runs(edgeemu: Edgeemu, tiny: str, settings: tuple[str, ...]) -> None:
    run = simulated(edgeemu, tiny, *(part for setting in settings for part in ("--set", setting)))
    status, _, err = edgeemu("report", run, "--html", "page.html", "--figures", "figures")
    assert status == 0, err
    assert err.startswith("written: page.html\nwritten: figures, with ")
    assert read_page(Path("page.html")).references == []


def test_a_page_of_a_run_without_a_token(edgeemu: Edgeemu, tiny: str, tmp_path: Path) -> None:
    made = RunDirectory(Path(simulated(edgeemu, tiny)))
    empty = RunDirectory(tmp_path / "empty")
    empty.path.mkdir()
    RecordWriter(empty.path).close()
    empty.write_facts(made.read_facts())
    empty.write_scenario((made.path / "scenario.yaml").read_text())
    status, _, err = edgeemu("report", str(empty.path), "--html", "page.html", "--figures", "figures")
    assert status == 0, err
    page = read_page(Path("page.html"))
    assert "No token was generated." in page.text
    assert [file.name for file in sorted(Path("figures").iterdir())] == [f"topology.{s}" for s in ("pdf", "png", "svg")]


def test_a_scenario_that_is_gone_costs_the_picture_of_the_cluster_only(edgeemu: Edgeemu, tiny: str) -> None:
    run = simulated(edgeemu, tiny)
    edgeemu("report", run, "--html", "whole.html")
    (Path(run) / "scenario.yaml").unlink()
    status, _, err = edgeemu("report", run, "--html", "page.html")
    assert status == 0, err
    assert len(read_page(Path("whole.html")).pictures) - len(read_page(Path("page.html")).pictures) == 2


def test_figures_are_files_of_three_kinds(edgeemu: Edgeemu, tiny: str) -> None:
    run = simulated(edgeemu, tiny, "--set", "workload.prompts=[{tokens: 8}]")
    status, out, err = edgeemu("report", run, "--figures", "figures", "--json")
    assert status == 0
    assert json.loads(out)["scenario"] == "tiny"
    written = list(Path("figures").iterdir())
    assert err == f"written: figures, with {len(written)} files\n"
    begins = {".svg": b"<?xml", ".pdf": b"%PDF", ".png": b"\x89PNG"}
    assert all(file.read_bytes().startswith(begins[file.suffix]) for file in written)
    names = {file.stem for file in written}
    assert {"latency", "time-parts", "breakdown", "occupation", "memory", "placement", "links", "topology"} <= names
    assert "latency (ms)" in Path("figures/latency.svg").read_text()  # text as text


def test_the_same_figures_from_the_same_run(edgeemu: Edgeemu, tiny: str) -> None:
    run = simulated(edgeemu, tiny)
    for name in ("one", "two"):
        edgeemu("report", run, "--figures", name, "--html", f"{name}.html")
    assert Path("one.html").read_bytes() == Path("two.html").read_bytes()
    for file in Path("one").iterdir():
        assert file.read_bytes() == (Path("two") / file.name).read_bytes(), file.name


def test_a_plan_has_figures(edgeemu: Edgeemu, tiny: str) -> None:
    status, _, err = edgeemu("plan", tiny, "--figures", "figures")
    assert status == 0
    assert {file.stem for file in Path("figures").iterdir()} == {"topology", "placement"}
    assert err == "written: figures, with 6 files\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--html", "nowhere/page.html"),
            '--html: "nowhere/page.html" cannot be written: its directory is missing or not yours',
        ),
        (("--html", "."), '--html: "." is a directory; name a file'),
        (("--figures", "tiny.yaml/figures"), '--figures: "tiny.yaml/figures" cannot be made: Not a directory'),
    ],
)
def test_files_that_cannot_be_written(edgeemu: Edgeemu, tiny: str, options: tuple[str, ...], said: str) -> None:
    run = simulated(edgeemu, tiny)
    assert edgeemu("report", run, *options) == (2, "", f"edgeemu: {said}\n")
