"""Runs that a script, nohup or a daemon starts: with signals ignored and standard streams closed.

Of every kind one starts as a shell starts it, others warm, in a process that has done to itself what the shell does.
"""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.csv
import pytest
from support.warm_commands import start_edgeemu

SCENARIO = """
model:
  shape: {n_layers: 2, d_model: 32, n_heads: 4, n_kv_heads: 2, head_dim: 8, d_ff: 64, vocab_size: 99, max_context: 4096}
devices: [{name: pi, count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}]
network: {default: {bandwidth: 100 Mbit/s, delay: 2 ms}}
policy: round-robin
workload: {prompts: [{tokens: 8}]}
"""
PAUSE_S = 0.3  # several tokens
ALL_CLOSED = "exec <&- >&- 2>&-"


@contextmanager
def running(
    directory: Path, shell: str, *options: str, command: Sequence[str] = ("run",), warm: bool
) -> Iterator[subprocess.Popen[str]]:
    """A command that starts after `shell`'s commands; killed if it is still there at the end."""
    (directory / "s.yaml").write_text(SCENARIO)
    words = [*command, "s.yaml", *options]
    if warm:
        process = start_edgeemu(*words, before=lambda: carry_out(shell), **surroundings(directory))
    else:
        program = [sys.executable, "-m", "edgeemu", *words]
        process = subprocess.Popen(["sh", "-c", f'{shell}; exec "$0" "$@"', *program], **surroundings(directory))
    with process:
        try:
            yield process
        finally:
            process.kill()


def surroundings(directory: Path) -> dict[str, Any]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return {**streams, "cwd": directory, "start_new_session": True}


def carry_out(shell: str) -> None:
    """Do to this process what a shell's command does to itself."""
    command, *words = shell.split()
    match command:
        case "trap":
            for name in words[1:]:
                signal.signal(signal.Signals[f"SIG{name}"], signal.SIG_IGN)
        case "umask":
            os.umask(int(words[0], 8))
        case "exec":
            for word in words:
                number = 0 if word[0] == "<" else int(word.partition(">")[0] or 1)
                os.close(number)
                if not word.endswith("&-"):
                    assert os.open(word.partition(">")[2], os.O_WRONLY) == number
        case _:
            raise NotImplementedError(shell)


@pytest.mark.parametrize("others", [(signal.SIGINT,), (signal.SIGHUP,), (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)])
def test_signals_that_were_ignored_stay_so_and_sigterm_ends_the_run(
    tmp_path: Path, others: tuple[signal.Signals, ...]
) -> None:
    """As `edgeemu run … &` in a script and `nohup edgeemu run …` are started."""
    ignored = " ".join(sign.name.removeprefix("SIG") for sign in others)
    long = ("--json", "--set", "time={mode: realtime, dilation: 1}", "--set", "workload.max_tokens=4000")
    with running(tmp_path, f"trap '' {ignored}", *long, warm=len(others) == 1) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith(">"):  # the prompt is being answered
            assert process.poll() is None
        for sign in others:
            os.killpg(process.pid, sign)
        time.sleep(PAUSE_S)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 128 + signal.SIGTERM
    assert err.endswith("\nedgeemu: ended by SIGTERM\n")
    (directory,) = (tmp_path / "runs").iterdir()
    assert len(json.loads((directory / "summary.json").read_text())["tokens"][0]) > 1


@pytest.mark.parametrize(
    "shell", ["exec <&-", "exec >&-", "exec 2>&-", ALL_CLOSED, "trap '' CHLD", "umask 077", "umask 000"]
)
def test_a_run_does_not_mind(tmp_path: Path, shell: str) -> None:
    settings = ("time.mode=virtual", "workload.max_tokens=3", "decisions.interval=9")
    options = [word for each in settings for word in ("--set", each)]
    with running(tmp_path, shell, *options, warm=shell != ALL_CLOSED) as process:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert "Traceback" not in err
    assert ("certificate: PASS" in out) == (">&-" not in shell.replace("2>&-", ""))
    assert ("start devices" in err) == ("2>&-" not in shell)
    (directory,) = (tmp_path / "runs").iterdir()
    assert len(json.loads((directory / "summary.json").read_text())["tokens"][0]) == 3


@pytest.mark.parametrize(
    ("command", "shell"),
    [
        ("simulate", "exec <&- >&-"),
        ("simulate", "exec <&- 2>&-"),
        ("simulate", "exec >&- 2>&-"),
        ("simulate", "exec 2>/dev/full"),
        ("compare --simulate --policies layers", ALL_CLOSED),
        ("profile links", ALL_CLOSED),
        ("validate", ALL_CLOSED),
        ("plan", "exec <&-"),
    ],
)
def test_no_command_minds_closed_streams_or_a_standard_error_that_is_full(
    tmp_path: Path, command: str, shell: str
) -> None:
    with running(tmp_path, shell, command=command.split(), warm=True) as process:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert "Traceback" not in err


def test_a_standard_output_that_is_full_is_named(tmp_path: Path) -> None:
    few = ("--set", "workload.max_tokens=3")
    with running(tmp_path, "exec >/dev/full", *few, command=["simulate"], warm=False) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert err.endswith("\nedgeemu: standard output: No space left on device\n")
    (directory,) = (tmp_path / "runs").iterdir()
    assert len(json.loads((directory / "summary.json").read_text())["tokens"][0]) == 3


def test_a_command_that_starts_warm_forks_after_arrow_has_made_a_pipe(tmp_path: Path) -> None:
    """Arrow handles forks by a pipe of its own, which it has once it has read a file of text."""
    pyarrow.csv.read_csv(io.BytesIO(b"a,b\n1,2\n"))
    with running(tmp_path, "umask 022", "--set", "workload.max_tokens=3", warm=True) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
