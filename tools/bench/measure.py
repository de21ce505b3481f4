"""Runs of edgeemu's command line for benchmarks, and the figures that they are judged by."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
SCENARIOS = ROOT / "scenarios"


class Figure(NamedTuple):
    """Measured figure, and the most that it may be."""

    what: str
    measured: float
    limit: float
    unit: str

    @property
    def reached(self) -> bool:
        return self.measured <= self.limit


def report(found: list[Figure], as_json: bool) -> int:
    """Print figures as a table or as JSON. Returns 1 if one of them misses its limit, else 0."""
    if as_json:
        print(json.dumps([{**figure._asdict(), "reached": figure.reached} for figure in found], indent=2))
    else:
        for figure in found:
            mark = "ok  " if figure.reached else "MISS"
            print(f"{mark}  {figure.measured:8.3f} {figure.unit:<2} (at most {figure.limit:g})  {figure.what}")
    return int(not all(figure.reached for figure in found))


def edgeemu(command: str, scenario: Path | str, *options: str) -> dict[str, Any]:
    """The document that a command of edgeemu prints. Ends this program with the error if there is one."""
    with tempfile.TemporaryDirectory() as out:
        line = [sys.executable, "-m", "edgeemu", command, str(scenario), *options, "--out", out, "--json"]
        done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        document: dict[str, Any] = json.loads(done.stdout)
        if "error" in document:
            raise SystemExit(f"{' '.join(line)}: {document['error']}")
        if "directory" in document:
            document["records"] = {
                name: pq.read_table(Path(document["directory"]) / f"{name}.parquet").to_pylist()
                for name in ("tokens", "migrations")
            }
    return document


def command_s(*arguments: str, bytecode: Path) -> float:
    """Processor time of a command of edgeemu, from start to end. The bytecode of its modules is kept in a directory."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    line = [sys.executable, "-m", "edgeemu", *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Run:
    """One `edgeemu run` or `simulate`: its summary, its tokens and its migrations."""

    def __init__(self, command: str, scenario: Path | str, *settings: str, policy: str | None = None) -> None:
        options = ["--policy", policy] if policy else []
        options += [word for setting in settings for word in ("--set", setting)]
        began_s = time.monotonic()
        self.summary = edgeemu(command, scenario, *options)
        self.took_s = time.monotonic() - began_s
        records = self.summary.pop("records")
        self.tokens, self.migrations = records["tokens"], records["migrations"]

    @property
    def tpot_ms(self) -> float:
        mean: float = self.summary["tpot_ms"]["mean"]
        return mean

    def mean_ms(self, first: int, end: int | None = None) -> float:
        """Mean latency of the tokens from step `first` to before step `end`."""
        rows = [row["latency_s"] for row in self.tokens if row["step"] >= first and (end is None or row["step"] < end)]
        return 1000 * sum(rows) / len(rows)
