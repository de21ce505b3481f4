"""`report --trace` writes a file, and says what is in it; what cannot be is refused before anything is written."""

import gzip
import json
from pathlib import Path

import pytest
from support.commands import Edgeemu

SCENARIO = """
model:
  shape: {n_layers: 1, d_model: 8, n_heads: 2, n_kv_heads: 2, head_dim: 4, d_ff: 8, vocab_size: 9, max_context: 64}
devices: [{name: a, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 8 MiB}]
policy: single
workload: {prompts: [{tokens: 2}], max_tokens: 4}
"""


@pytest.fixture
def directory(tmp_path: Path, edgeemu: Edgeemu) -> str:
    (tmp_path / "one.yaml").write_text(SCENARIO)
    status, out, err = edgeemu("simulate", str(tmp_path / "one.yaml"), "--json")
    assert status == 0, err
    made: str = json.loads(out)["directory"]
    return made


def test_a_trace_is_written_beside_the_report(edgeemu: Edgeemu, directory: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    status, out, err = edgeemu("report", directory, "--json", "--trace", str(path), "--tokens", "1-2")
    assert (status, json.loads(out)["ended"]) == (0, "done")
    opens = "open it with https://ui.perfetto.dev"
    assert err == f"written: {path}, with the operations of tokens 1-2; {opens}\n"
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert {event["args"]["step"] for event in events if event.get("cat") == "operation"} == {1, 2}
    assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--tokens", "1-2"), "--tokens: it is about --trace FILE, which is missing"),
        (("--trust",), "--trust: it is about --why, which is missing"),
        (("--only", "set=a"), "--only: it is about --measured FILE, which is missing"),
        (
            ("--measured", "{}/one.yaml", "--html", "{}/page.html"),
            "--measured: it is about --html or --figures of several runs, which is missing",
        ),
        (("--trace", "{}/t.json.gz", "--tokens", "2-1"), '--tokens: "2-1" is not a range of tokens such as 20-40'),
        (("--trace", "{}/t.json.gz", "--tokens", "4"), "--tokens: the run has tokens 0-3"),
        (("--trace", "{}/no/t.json.gz"), '--trace: "{}/no/t.json.gz" cannot be written: its directory is missing'),
        (("--trace", "{}"), '--trace: "{}" is a directory; name a file'),
    ],
)
def test_what_cannot_be_is_refused(
    edgeemu: Edgeemu, directory: str, tmp_path: Path, options: tuple[str, ...], why: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    status, out, err = edgeemu("report", directory, *(option.format(tmp_path) for option in options))
    assert (status, out) == (2, "")
    assert err.startswith(f"edgeemu: {why.format(tmp_path)}")
    assert sorted(tmp_path.rglob("*")) == before
