"""The commands as a user meets them: what they print where, their exit status, and how they end."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from support.commands import Edgeemu

from edgeemu.cli import app
from edgeemu.errors import InfeasibleError, RunError
from edgeemu.report.record_files import read_table

NOT_THERE = os.strerror(errno.ENOENT).lower()


def test_a_placement_is_written_and_read_again(edgeemu: Edgeemu, tiny: str) -> None:
    status, written, _ = edgeemu("plan", tiny, "--yaml")
    assert status == 0
    assert written.startswith("# custom on 3 devices as round-robin places it first")
    beside = Path(tiny).with_name("mine.yaml")
    beside.write_text(written)
    given = ("--set", "placement=mine.yaml", "--policy", "given")
    documents = [json.loads(edgeemu("plan", tiny, "--json", *more)[1]) for more in ((), given)]
    assert [document["policy"] for document in documents] == ["round-robin", "given"]
    assert documents[0]["placement"] == documents[1]["placement"]
    status, _, err = edgeemu("plan", tiny, "--yaml", "--json")
    assert status == 2
    assert "choose one of --yaml and --json" in err


def test_a_run_prints_text_and_figures_and_leaves_its_records(edgeemu: Edgeemu, tiny: str) -> None:
    status, out, err = edgeemu("run", tiny, "--set", "decisions.interval=9")
    assert status == 0
    assert "> (8 random tokens)\n" in out
    assert re.search(r"time per output token +\d+\.\d ms", out)
    assert re.search(r"^nano +\S+ KiB +64 MiB", out, re.MULTILINE)
    assert "10 tokens" in out
    assert "certificate: PASS" in out
    assert "start devices: 3/3" in err
    assert "\x1b" not in out + err
    directory = Path(out.splitlines()[-1].removeprefix("records: "))
    assert directory.parent.name == "runs"
    assert sorted(path.name for path in directory.iterdir()) == [
        "conditions.parquet",
        "decisions.parquet",
        "devices.parquet",
        "facts.json",
        "faults.parquet",
        "links.parquet",
        "meta.json",
        "migrations.parquet",
        "ops.parquet",
        "placements.parquet",
        "recoveries.parquet",
        "scenario.yaml",
        "sequences.parquet",
        "summary.json",
        "tokens.parquet",
    ]
    assert read_table(directory, "tokens").column("sequence").to_pylist() == [0] * 5 + [1] * 5


def test_with_json_there_is_one_document_and_nothing_else(edgeemu: Edgeemu, tiny: str, tmp_path: Path) -> None:
    status, out, err = edgeemu(
        "run", tiny, "--json", "--policy", "layers", "--set", "workload.max_tokens=3", "--out", "o"
    )
    assert status == 0
    summary = json.loads(out)
    assert [len(tokens) for tokens in summary["tokens"]] == [3, 3]
    assert summary["policy"] == "layers"
    assert "> (8 random tokens)" in err
    written = json.loads((tmp_path / summary["directory"] / "summary.json").read_text())
    assert summary == written | {"directory": summary["directory"]}
    assert Path(summary["directory"]).parent == Path("o")


def test_a_plan_says_who_holds_what(edgeemu: Edgeemu, tiny: str) -> None:
    status, out, _ = edgeemu("plan", tiny, "--policy", "layers")
    assert status == 0
    assert re.search(r"^pi-1 +.*embed, layer 0", out, re.MULTILINE)
    assert len(re.findall(r" vs possible$|\+\d+\.\d %$", out, re.MULTILINE)) == 3, "two prompts"
    by_host = edgeemu("plan", tiny, "--set", "devices[0]={name: half, host_fraction: 0.5, memory: 1 MB}")[1]
    assert "possible: not known; there is no proven bound for this cluster" in by_host
    status, out, _ = edgeemu("plan", tiny, "--json")
    plan = json.loads(out)
    held = [block for entry in plan["placement"] for block in entry["blocks"]]
    assert sorted(held) == sorted(
        ["embed", "lm_head"]
        + [f"{kind}({layer})" for kind in ("proj", "ffn") for layer in (0, 1)]
        + [f"head({layer},{group})" for layer in (0, 1) for group in (0, 1)]
    )
    assert [entry["prompt_tokens"] for entry in plan["predicted"]] == [8, 4]
    assert all(entry["ttft_ms"] > 0 and entry["tpot_ms"] > 0 for entry in plan["predicted"])
    above = [entry["tpot_ms"] / plan["bounds"]["tpot_ms"] - 1 for entry in plan["predicted"]]
    assert [entry["above_bound"] for entry in plan["predicted"]] == pytest.approx(above)


def test_what_is_planned_is_what_runs(edgeemu: Edgeemu, tiny: str) -> None:
    planned = json.loads(edgeemu("plan", tiny, "--json")[1])
    ran = json.loads(edgeemu("run", tiny, "--json")[1])
    assert ran["ttft_ms"]["mean"] == pytest.approx(
        sum(entry["ttft_ms"] for entry in planned["predicted"]) / 2, rel=1e-6
    )
    peaks = {name: used["peak_bytes"] for name, used in ran["memory"]["by_device"].items()}
    for entry in planned["placement"]:
        assert peaks[entry["device"]] <= entry["memory"]["total_bytes"]


def test_validate_says_what_was_checked(edgeemu: Edgeemu, tiny: str) -> None:
    status, out, _ = edgeemu("validate", tiny)
    assert (status, out) == (0, f"{tiny} is valid: custom on 3 devices, 2 prompts; round-robin finds room for it\n")
    assert json.loads(edgeemu("validate", tiny, "--json")[1])["valid"] is True


@pytest.mark.parametrize("listing", ["devices", "models", "engines", "policies"])
def test_listings_are_the_same_for_people_and_programs(edgeemu: Edgeemu, listing: str) -> None:
    status, out, _ = edgeemu(listing)
    assert status == 0
    names = [line.split()[0] for line in out.splitlines()[1:]]
    assert names == [entry["name"] for entry in json.loads(edgeemu(listing, "--json")[1])]
    assert len(names) >= 4


def test_the_schema_is_json(edgeemu: Edgeemu) -> None:
    status, out, _ = edgeemu("schema")
    assert status == 0
    assert "workload" in json.loads(out)["properties"]


@pytest.mark.parametrize(
    "name",
    [
        "run",
        "validate",
        "plan",
        "devices",
        "models",
        "engines",
        "policies",
        "schema",
        "profile links",
        "calibrate",
        "observe",
    ],
)
def test_every_command_has_examples_that_it_accepts(edgeemu: Edgeemu, name: str) -> None:
    status, out, _ = edgeemu(*name.split(), "--help")
    assert status == 0
    examples = re.findall(rf"^ +edgeemu ({name}.*)$", out, re.MULTILINE)
    assert examples, out
    options = {word for example in examples for word in example.split() if word.startswith("--")}
    command: Any = typer.main.get_command(app.app_of())
    for word in name.split():
        command = command.commands[word]
    assert options <= {option for parameter in command.params for option in parameter.opts}


def test_help_says_the_exit_statuses(edgeemu: Edgeemu) -> None:
    status, out, _ = edgeemu()
    assert status == 0
    for text in (
        "2    invalid request",
        "3    infeasible",
        "130  ended by Ctrl-C",
        "EDGEEMU_DEBUG=1",
    ):
        assert text in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["rnu"], 2, r"rnu\b.*[^.] \(see: edgeemu --help\)"),
        (["run"], 2, r"SCENARIO\b.*[^.] \(see: edgeemu run --help\)"),
        (["run", "tiny.yaml", "--polcy", "x"], 2, r"--polcy\b.*[^.] \(see: edgeemu run --help\)"),
        (["run", "tinny.yaml"], 2, rf'tinny.yaml: {NOT_THERE} \(did you mean "tiny.yaml"\?\)'),
        (["plan", "tiny.yaml", "--policy", "gredy"], 2, r'"gredy" \(did you mean "greedy"\?\)'),
        (["plan", "tiny.yaml", "--set", "polcy=single"], 2, r'did you mean "policy"\?'),
        (["run", "tiny.yaml", "--set", "devices[0].memory=3 MB/s"], 2, r'devices\[0\].memory: "3 MB/s" is not a size'),
        (["run", "tiny.yaml", "--set", "devices[0].memory=1 KiB", "--set", "devices[1].memory=1 KiB"], 3, "has room"),
        (["run", "tiny.yaml", "--out", "tiny.yaml"], 2, '--out: "tiny.yaml" cannot be made'),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_is_one_message_with_its_status(
    edgeemu: Edgeemu, tiny: str, arguments: list[str], status: int, message: str, as_json: bool
) -> None:
    assert Path(tiny).samefile("tiny.yaml")
    got, out, err = edgeemu(*arguments, *(["--json"] if as_json else []))
    assert got == status
    assert re.search(message, err)
    assert err.startswith("edgeemu: ")
    assert "Traceback" not in err
    if as_json:
        document = json.loads(out)
        assert document["status"] == status
        assert re.search(message, document["error"])
    else:
        assert out == ""
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (RunError("device nano was killed by SIGKILL"), 4, "edgeemu: device nano was killed by SIGKILL\n"),
        (InfeasibleError("no room"), 3, "edgeemu: no room\n"),
        (KeyboardInterrupt(), 130, "edgeemu: ended by SIGINT\n"),
        (PermissionError(13, "Permission denied", "/x"), 4, "edgeemu: /x: Permission denied\n"),
        (KeyError("x"), 4, "edgeemu: this is a bug: KeyError: 'x'"),
        (MemoryError(), 4, "edgeemu: this process gets no more memory: see what is free (free -h), its limits"),
    ],
)
def test_every_kind_of_failure_has_a_status(
    edgeemu: Edgeemu,
    tiny: str,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    message: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("edgeemu.run.make_plan.make_plan", fail)
    got, out, err = edgeemu("plan", tiny)
    assert (got, out) == (status, "")
    assert err.startswith(message)
    assert "Traceback" not in err
    monkeypatch.setenv("EDGEEMU_DEBUG", "1")
    assert "Traceback (most recent call last)" in edgeemu("plan", tiny)[2]


def test_a_certificate_that_is_invalid_is_status_5(
    edgeemu: Edgeemu, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = {"verdict": "INVALID", "reasons": ["the host is too slow"], "means": "", "prediction_off": None}
    monkeypatch.setattr("edgeemu.report.summary.certify", lambda _: verdict)
    status, out, _ = edgeemu("run", tiny)
    assert status == 5
    assert "certificate: INVALID\n  the host is too slow\n" in out
