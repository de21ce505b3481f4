"""Whether anything grows in a long run: 20,000 tokens on device processes, in virtual time, with a migration at each.

    python tools/bench/growth.py            # the table, and status 1 if something grows; some minutes
    python tools/bench/growth.py --write    # writes it into docs/performance.md, too
    python tools/bench/growth.py --tokens 4000

Each process of `edgeemu run` is looked at after every thousandth token: its resident memory, its open files, and the
processor time that all of them took since. Sequences have 200 tokens, so that caches, which grow by design, have the
same size at each look. The first fifth of the run is not judged: what is loaded once is loaded there.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from measure import ROOT, Figure, report

PAGE = ROOT / "docs" / "performance.md"
TABLE = re.compile(r"(?<=<!-- growth -->\n).*?(?=<!-- /growth -->)", re.DOTALL)
POLICY = f"{Path(__file__).parent / 'restless.py'}:Restless"
SEQUENCE_TOKENS, EVERY = 200, 1000
SCENARIO = """
name: growth
model:
  shape: {{n_layers: 2, d_model: 32, n_heads: 4, n_kv_heads: 4, head_dim: 8, d_ff: 64, vocab_size: 90,
    max_context: 256}}
devices: [{{name: device, count: 3, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 16 MiB}}]
network: {{default: {{bandwidth: 100 Mbit/s, delay: 1 ms}}}}
decisions: {{interval: 1, threshold: 0, time: 0 ms}}
time: {{mode: virtual}}
workload: {{prompts: [{{tokens: 4, repeat: {sequences}}}], max_tokens: {tokens}}}
"""


class Look(NamedTuple):
    """State of a run after so many tokens: resident memory and open files by process, processor time of all."""

    tokens: int
    resident_mb: dict[str, float]
    files: dict[str, int]
    cpu_s: float


def family(pid: int, name: str = "controller") -> Iterator[tuple[str, Path]]:
    """Yield the processes of a run, from its controller on, with names that say what they are for."""
    yield name, Path(f"/proc/{pid}")
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            if name == "controller":
                is_server = b"edgeemu.host.fork_server" in Path(f"/proc/{child}/cmdline").read_bytes()
                yield from family(child, "fork server" if is_server else "supervisor")
            elif name == "supervisor":
                yield from family(child, "policy")
            else:
                yield from family(child, Path(f"/proc/{child}/comm").read_text().strip())


def look(controller: int, tokens: int) -> Look:
    resident_mb, files, ticks = {}, {}, 0
    for name, process in family(controller):
        fields = (process / "stat").read_text().rsplit(")", 1)[1]
        resident_mb[name] = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        files[name] = len(list((process / "fd").iterdir()))
        ticks += sum(map(int, fields.split()[11:13]))  # user and system time: proc_pid_stat(5)
    return Look(tokens, resident_mb, files, ticks / os.sysconf("SC_CLK_TCK"))


def counted(text: IO[bytes]) -> Iterator[int]:
    """Yield the number of tokens that a run has printed, after each piece of its output."""
    tokens, in_prompt = 0, False
    while piece := os.read(text.fileno(), 1 << 16):
        for character in piece.decode("ascii", "replace"):
            in_prompt = character == ">" or (in_prompt and character != "\n")
            tokens += character == " " and not in_prompt
        yield tokens


def looks(tokens: int) -> tuple[list[Look], float, int]:
    """Run; return what was seen, the most MB that the controller ever held, and the number of blocks that moved."""
    found: list[Look] = []
    with tempfile.TemporaryDirectory() as directory:
        scenario = Path(directory) / "growth.yaml"
        scenario.write_text(SCENARIO.format(sequences=tokens // SEQUENCE_TOKENS, tokens=SEQUENCE_TOKENS))
        command = [sys.executable, "-m", "edgeemu", "run", str(scenario), "--policy", POLICY]
        with subprocess.Popen([*command, "--out", directory], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
            assert run.stdout is not None
            for count in counted(run.stdout):
                if EVERY * (len(found) + 1) <= count < tokens:
                    found.append(look(run.pid, count))
            _, status, used = os.wait4(run.pid, 0)
            run.returncode = os.waitstatus_to_exitcode(status)
        if run.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: exit status {run.returncode}")
        (summary,) = Path(directory).glob("*/summary.json")
        moved: int = json.loads(summary.read_text())["migrations"]["count"]
    return found, used.ru_maxrss * 1024 / 1e6, moved


def cpu_ms(found: list[Look]) -> list[float]:
    """Processor time of each token, between one look and the next."""
    return [1e3 * (b.cpu_s - a.cpu_s) / (b.tokens - a.tokens) for a, b in pairwise(found)]


def growth(values: list[float]) -> float:
    """Growth of a straight line through the values, in per cent of their mean."""
    slope, _ = np.polyfit(range(len(values)), values, 1)
    return float(100 * slope * (len(values) - 1) / np.mean(values))


def figures(found: list[Look], peak_mb: float) -> list[Figure]:
    judged = found[len(found) // 5 :]
    shown = []
    for name in judged[0].resident_mb:
        held = [look.resident_mb[name] for look in judged]
        spread = 100 * (max(held) / min(held) - 1)
        shown.append(Figure(f"{name}: spread of its resident memory ({min(held):.1f} MB at least)", spread, 2.0, "%"))
    files = max(max(seen) - min(seen) for seen in zip(*(look.files.values() for look in judged), strict=True))
    last_mb = judged[-1].resident_mb["controller"]
    return [
        *shown,
        Figure("open files that came to any process", files, 0, ""),
        Figure("growth of the processor time of a token", growth(cpu_ms(judged)), 10.0, "%"),
        Figure(f"controller: most at the end, beyond its {last_mb:.0f} MB", peak_mb - last_mb, 150.0, "MB"),
    ]


def table(found: list[Look]) -> str:
    """Rows of docs/performance.md, one for each tenth of the run."""
    names = list(found[0].resident_mb)
    rows = [["tokens", *(f"{name}, MB" for name in names), "open files", "processor time of a token, ms"]]
    rows += [["---:"] * len(rows[0])]
    times_ms = cpu_ms(found)
    for number in range(len(found) % 2, len(found), 2):
        seen = found[number]
        held = [f"{seen.resident_mb[name]:.1f}" for name in names]
        time_ms = f"{times_ms[number - 1]:.2f}" if number else ""
        rows.append([f"{seen.tokens:,}", *held, str(sum(seen.files.values())), time_ms])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=20_000, metavar="N", help="length of the run")
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    asked = parser.parse_args()
    found, peak_mb, moved = looks(asked.tokens)
    measured = table(found) + f"\n{asked.tokens:,} tokens, {moved:,} blocks moved.\n"
    if asked.write:
        PAGE.write_text(TABLE.sub(measured, PAGE.read_text("utf-8")), "utf-8")
    elif not asked.json:
        print(measured)
    sys.exit(report(figures(found, peak_mb), asked.json))


if __name__ == "__main__":
    main()
