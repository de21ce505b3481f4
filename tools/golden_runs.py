"""Compare short runs with their record: tokens, emulated times and summaries, to the last digit.

    python tools/golden_runs.py                   compare with tools/golden_runs.json; exit status 1 on a difference
    python tools/golden_runs.py --only chain      one scenario (may be repeated)
    python tools/golden_runs.py --write           record anew, after a change that is meant to change figures

Each scenario runs through the command line, on device processes (with real kernels) and in the simulator, so that the
record holds whatever is moved or renamed inside. Keys and columns that were added since are no difference.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).with_suffix(".json")

# Keys of summary.json, by path, that depend on the host: wall-clock time, real memory, and what is judged by them.
OF_THE_HOST = {
    "wall": "wall-clock time",
    "certificate": "judges the wall clock",
    "decisions.ms": "processor time of the policy",
    "controller_ms": "processor time of the policy",
    "decisions.of_token": "processor time of the policy",
    "directory": "where the records are",
    "memory.by_device.*.resident_bytes": "real memory of a process",
    "memory.by_device.*.baseline_bytes": "real memory of a process",
    "memory.by_device.*.group_peak_bytes": "real memory of a control group",
    "dilation": "chosen for this host, where it is auto",
    "ready_s": "wall-clock time",
    "loaded_s": "wall-clock time",
    "links": "wall-clock measurement",
}
# Peaks of ledgers count messages that wait, and on real processes these wait as the host has it.
OF_THE_HOST_IN_RUNS = {"memory.peak_bytes_max", "memory.by_device.*.peak_bytes"}
# Columns that are the same on every host.
COLUMNS = {
    "tokens": ("sequence", "step", "token", "text", "emulated_s", "latency_s"),
    "sequences": ("sequence", "arrival_s", "start_s", "queue_s", "ttft_s", "tpot_s", "end_s", "ended_by", "good"),
    "ops": ("device", "sequence", "step", "layer", "block", "groups", "rows", "ready_s", "start_s", "end_s"),
    "migrations": (
        *("sequence", "step", "epoch", "block", "source", "target", "bytes"),
        *("began_s", "ended_s", "pause_s", "outcome"),
    ),
}
# Devices may report rows in another order from run to run.
ORDER = {
    "tokens": itemgetter("sequence", "step"),
    "sequences": itemgetter("sequence"),
    "ops": lambda row: repr([row[key] for key in COLUMNS["ops"]]),
    "migrations": itemgetter("epoch", "block", "began_s"),
}
SMALL = """
seed: 5
model:
  shape:
    {n_layers: 4, d_model: 64, n_heads: 8, n_kv_heads: 4, head_dim: 8, d_ff: 128, vocab_size: 300, max_context: 128,
     tied_embeddings: true}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}
  - {name: b, count: 3, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 8 MiB}
network:
  default: {bandwidth: 10 Mbit/s, delay: 1 ms, jitter: 0.2 ms, loss: 1 %}
workload:
  prompts: [{tokens: 9}, {tokens: 4}]
  max_tokens: 12
"""


SLOWED = (  # a device of little memory slows down, and blocks leave it
    "events=[{at_token: 4, device: a, speed: 5 %}]",
    "network.default={bandwidth: 100 Mbit/s, delay: 0.1 ms, jitter: 0.02 ms}",
    "devices[0].memory=600 kB",
    "devices[1].memory=600 kB",
    "workload.max_tokens=30",
)


@dataclass(frozen=True)
class Case:
    """One scenario: a file of scenarios/, or `text`; the settings; and the commands that it runs under."""

    settings: tuple[str, ...]
    file: str | None = None
    text: str = SMALL
    commands: tuple[str, ...] = ("run", "simulate")
    moves: bool = False  # blocks must have moved, or the case shows nothing


CASES = {
    "chain": Case(("policy=layers", "workload.max_tokens=6"), "quickstart.yaml"),
    "scattered-heads": Case(("policy=round-robin",)),
    "paced": Case(("policy=round-robin", "time.mode=realtime", "time.dilation=1.0"), commands=("run",)),
    "shards-in-a-ring": Case(("workload.max_tokens=4", "workload.prompts=[{tokens: 48}]"), "galaxy-lan.yaml"),
    "several-sequences": Case(
        (
            "policy=mdi",
            "workload.concurrency=3",
            "workload.prompts=[{tokens: 7}, {tokens: 3}, {tokens: 12}, {tokens: 5}, {tokens: 2}]",
            "workload.arrivals={trace: [0 ms, 1 ms, 2 ms, 30 ms, 31 ms]}",
        )
    ),
    "migration-with-pause": Case((*SLOWED, "policy=resource-aware", "migration.mode=pause"), moves=True),
    "migration-with-precopy": Case(
        (*SLOWED, "policy=lookahead", "sharding.divide=false", "migration={mode: precopy, chunk: 1 kB}"), moves=True
    ),
    "star-with-shared-channel": Case(("policy=round-robin", "workload.max_tokens=3"), "star-wifi.yaml"),
    "literal-costs": Case(
        ("cost=literal", "workload.max_tokens=60", "policy=resource-aware"),
        "one-layer-25.yaml",
        commands=("simulate",),
    ),
}


def produced(case: Case, command: str) -> dict[str, Any]:
    """Run a case with one command; its figures that are the same on every host."""
    with tempfile.TemporaryDirectory() as directory:
        scenario = ROOT / "scenarios" / case.file if case.file else Path(directory) / "golden.yaml"
        if not case.file:
            scenario.write_text(case.text)
        settings = ("time.mode=virtual", "decisions.time=0 ms", *case.settings)
        if command == "simulate":
            settings = settings[1:]
        options = [option for setting in settings for option in ("--set", setting)]
        arguments = [command, str(scenario), *options, "--json", "--out", f"{directory}/runs"]
        done = subprocess.run([sys.executable, "-m", "edgeemu", *arguments], cwd=ROOT, capture_output=True)
        if done.returncode not in (0, 5):  # 5: the certificate is INVALID, which is the host's affair
            raise SystemExit(f"edgeemu {' '.join(arguments)}\n{done.stderr.decode()}")
        (run,) = Path(directory, "runs").iterdir()
        summary = json.loads((run / "summary.json").read_text())
        tables = {name: pq.read_table(run / f"{name}.parquet").to_pylist() for name in COLUMNS}
    if case.moves and not tables["migrations"]:
        raise SystemExit("nothing moved: this case shows nothing of migrations")
    return {
        "summary": without_host(summary, {*OF_THE_HOST, *(OF_THE_HOST_IN_RUNS if command == "run" else ())}),
        "latency_s": [row["latency_s"] for row in tables["tokens"]],
        "columns": {
            f"{name}.{column}": digest([row[column] for row in sorted(rows, key=ORDER[name])])
            for name, rows in tables.items()
            for column in COLUMNS[name]
        },
    }


def digest(values: list[Any]) -> str:
    """A short digest of a column's values, which tells apart what differs in the last digit."""
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=8).hexdigest()


def without_host(value: Any, excluded: set[str], path: str = "") -> Any:
    """A part of summary.json without the keys at these paths, in which `*` is any device."""
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, inner in value.items():
        inside = f"{path}.{'*' if path.endswith('by_device') else key}".strip(".")
        if inside not in excluded:
            kept[key] = without_host(inner, excluded, inside)
    return kept


def differences(recorded: Any, found: Any, path: str = "") -> Iterator[str]:
    """Differences of what was found from the record; additions are none."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        for key, value in recorded.items():
            inside = f"{path}.{key}".strip(".")
            if key not in found:
                yield f"{inside} is missing"
            else:
                yield from differences(value, found[key], inside)
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for index, (one, other) in enumerate(zip(recorded, found, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif recorded != found:
        yield f"{path}: {recorded!r:.120} is recorded, now it is {found!r:.120}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=CASES, help="this scenario; may be repeated")
    parser.add_argument("--write", action="store_true", help="record anew instead of comparing")
    options = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    failed = False
    for name in options.only or CASES:
        for command in CASES[name].commands:
            label = f"{name} ({command})"
            found = json.loads(json.dumps(produced(CASES[name], command)))
            if options.write:
                record[label] = found
                print(f"{label}: recorded", flush=True)
                continue
            if label not in record:
                raise SystemExit(f"{label} is not recorded (run with --write)")
            unequal = list(differences(record[label], found))
            print(f"{label}: {f'{len(unequal)} differences' if unequal else 'equal'}", flush=True)
            for line in unequal[:5]:
                print(f"  {line}")
            failed |= bool(unequal)
    if options.write:
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
