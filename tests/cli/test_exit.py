"""Ends of a command: signals, terminals, readers that go away, full outputs."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest
from support.warm_commands import run_edgeemu, start_edgeemu

from edgeemu.report.record_files import read_table


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_and_what_there_is_can_be_read(tmp_path: Path, tiny: str, sign: signal.Signals) -> None:
    slow = ["--set", "time={mode: realtime, dilation: 1}", "--set", "workload.max_tokens=2000", "--json"]
    with start_edgeemu(
        *("run", tiny, *slow), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        assert running.stdout is not None
        while not running.stderr.readline().startswith(">"):  # the first prompt is being answered
            assert running.poll() is None
        time.sleep(0.3)
        running.send_signal(sign)
        err = running.stderr.read()
        out = running.stdout.read()
        assert running.wait(10) == 128 + sign
    assert err.endswith(f"\nedgeemu: ended by {sign.name}\n")
    assert "Traceback" not in err
    assert json.loads(out) == {"error": f"ended by {sign.name}", "status": 128 + sign}
    (directory,) = (tmp_path / "runs").iterdir()
    rows = read_table(directory, "tokens")
    assert rows.num_rows
    assert len(json.loads((directory / "summary.json").read_text())["tokens"][0]) == rows.num_rows


def in_a_terminal(arguments: tuple[str, ...], environment: dict[str, str]) -> tuple[int, str]:
    """Run the command with a terminal of 70 columns; exit status and all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 70, 0, 0))
    written = bytearray()

    def read() -> None:
        while True:
            try:
                written.extend(os.read(ours, 65536))
            except OSError:  # nobody has the other end any more
                return

    terminal = {**os.environ, "TERM": "xterm", **environment}
    with start_edgeemu(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=terminal) as running:
        os.close(theirs)
        reader = threading.Thread(target=read)
        reader.start()
        status = running.wait(60)
        reader.join()
    os.close(ours)
    return status, written.decode()


def test_on_a_terminal_there_is_a_bar_and_then_tables(tiny: str, tmp_path: Path) -> None:
    arguments = ("run", tiny, "--out", str(tmp_path), "--set", "workload.max_tokens=40")
    status, seen = in_a_terminal(arguments, {})
    assert status == 0
    assert "━" in seen  # the bar
    assert "│" in seen  # a table
    assert "start devices" in seen
    assert seen.count("\x1b[?25h") == seen.count("\x1b[?25l") == 1  # the cursor is back
    colours = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
    assert colours.search(seen)
    status, seen = in_a_terminal(arguments, {"NO_COLOR": "1"})
    assert status == 0
    assert not colours.search(seen)


def test_a_reader_that_goes_away_is_no_error() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        run = run_edgeemu("models", stdout=theirs, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(theirs)
    assert (run.returncode, run.stderr) == (141, "")


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["validate", "nowhere.yaml", "--json"]])
def test_an_output_that_is_full_is_one_message(arguments: list[str], buffered: bool) -> None:
    """Buffered output fails when it is flushed, and what is left of it must not fail once more at exit."""
    env = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    with Path("/dev/full").open("w") as full:
        run = run_edgeemu(*arguments, stdout=full, stderr=subprocess.PIPE, text=True, env=env)
    assert run.returncode == 4
    assert run.stderr.startswith("edgeemu: ")
    assert run.stderr.count("\n") == 1


def bytes_in(pipe: int) -> int:
    """Number of bytes that wait in a pipe."""
    (number,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(number)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_slow_reader_gets_all_of_an_answer(unbuffered: str) -> None:
    """The pipe holds 64 KiB, and the end that is written to does not block: some programs have theirs so."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with start_edgeemu("schema", stdout=theirs, stderr=subprocess.PIPE, env=env) as running:
        os.close(theirs)
        while bytes_in(ours) < 1 << 16:
            assert running.poll() is None
            time.sleep(0.05)
        with os.fdopen(ours, "rb") as pipe:
            read = pipe.read()
        assert running.stderr is not None
        assert (running.wait(10), running.stderr.read()) == (0, b"")
    assert len(read) > 1 << 16
    assert json.loads(read)["title"]


@pytest.mark.parametrize("form", ["", "--json", "--csv"])
def test_an_interrupted_comparison_keeps_what_has_ended(tmp_path: Path, tiny: str, form: str) -> None:
    slow = ["--set", "time={mode: realtime, dilation: 1}", "--policies", "round-robin,layers", "--out", str(tmp_path)]
    long = ["--set", "workload.max_tokens=120", "--set", "workload.prompts=[{tokens: 8}]"]
    arguments = ("compare", tiny, *slow, *long, *([form] if form else []))
    with start_edgeemu(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        while not (line := running.stdout.readline()).startswith("layers (run 2 of 3"):
            assert line, "it has ended"
        running.send_signal(signal.SIGTERM)
        rest = running.stdout.read()
        assert running.wait(20) == 143
    assert "edgeemu: ended by SIGTERM" in rest
    if form == "--json":
        document = json.loads(rest[rest.index("\n{") :])
        assert (document["status"], [row["policy"] for row in document["policies"]]) == (143, ["round-robin"])
        assert document["policies"][0]["figures"]["tpot_ms"]["median"] > 0
    else:
        (row,) = (line for line in rest.splitlines() if re.match("round-robin[ ,]", line))
        assert re.search("[ ,]best[ ,]", row)


@pytest.mark.parametrize("form", ["", "--json"])
def test_an_interrupted_comparison_of_draws_keeps_policies_that_have_ended(
    tmp_path: Path, tiny: str, form: str
) -> None:
    slow = ["--set", "time={mode: realtime, dilation: 1}", "--set", "workload.max_tokens=20", "--out", str(tmp_path)]
    policies = ["--policies", "round-robin,layers", "--seeds", "2"]
    arguments = ("compare", tiny, *slow, *policies, *([form] if form else []))
    with start_edgeemu(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        while not (line := running.stdout.readline()).startswith("run 4 of 6"):  # they begin in the order of policies
            assert line, "it has ended"
        running.send_signal(signal.SIGTERM)
        rest = running.stdout.read()
        assert running.wait(20) == 143
    assert "edgeemu: ended by SIGTERM" in rest
    if form == "--json":
        document = json.loads(rest[rest.index("\n{") :])
        assert {row["policy"] for row in document["policies"]} >= {"round-robin"}
        assert document["seeds"] == [0, 1]
    else:
        assert "interrupted: only of policies whose runs have all ended" in rest
        assert any(line.startswith("round-robin ") for line in rest.splitlines())
