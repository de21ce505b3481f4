"""Costs of failures under each policy: tables for README and docs/faults.md, and a picture. `--check` writes nothing.

    python tools/recovery.py            # writes what is between the marks in the pages, and docs/faults.svg
    python tools/recovery.py --check

All is simulated: the same on every host.
"""

import argparse
import asyncio
import re
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgeemu.errors import InfeasibleError
from edgeemu.report.formats import percent_text
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import load_scenario

ROOT = Path(__file__).resolve().parents[1]
PAGES, PICTURE = (ROOT / "README.md", ROOT / "docs" / "faults.md"), ROOT / "docs" / "faults.svg"
CHURN = ("lookahead", "resource-aware", "dynamic-layers", "layers", "mdi", "exo-ring", "galaxy", "round-robin")
LONG = ("lookahead", "resource-aware", "layers")
RECOVERIES = {"reprefill": "-", "replicate": "--"}  # and how they are drawn
PER_HOUR = (1, 2, 5, 10, 20)
TOKENS = 5000
MS = (30, 50, 100, 200, 500)
COLOURS = {"lookahead": "#104bc8", "resource-aware": "#a53404", "layers": "#068a6f"}


def summary_of(scenario: str, policy: str, *changes: str) -> dict[str, Any] | None:
    """Simulate a scenario; None where it does not come to its end."""
    read = load_scenario(ROOT / "scenarios" / scenario, changes)
    with TemporaryDirectory() as directory:
        try:
            run = run_scenario(read, policy=policy, out=Path(directory), observer=Silent(), simulate=True)
            return asyncio.run(run).summary
        except InfeasibleError:
            return None


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join(["---"] * len(columns)) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


Long = dict[tuple[str, str, int], dict[str, Any] | None]  # by policy, recovery and rate; None: no end


def churn_table() -> str:
    """Table of one device that leaves and one that joins, under each policy."""
    rows = []
    for policy in CHURN:
        calm, hit = summary_of("churn.yaml", policy, "faults=[]"), summary_of("churn.yaml", policy)
        copied = summary_of("churn.yaml", policy, "recovery=replicate")
        if calm is None or hit is None:
            rows.append([policy, *["no room"] * 7])
            continue
        failures = hit["failures"]
        spent = [f"{failures[key]['mean'] or 0:.0f} ms" for key in ("place_ms", "fill_ms")]
        ends = [f"{each['makespan_s']:.2f} s" if each is not None else "no room" for each in (calm, hit, copied)]
        rows.append([policy, str(failures["blocks"]), *spent, str(failures["rows"]), *ends])
    spent_on = ("blocks lost", "placed in", "caches filled in", "rows")
    return table(("policy", *spent_on, "without faults", "with them", "`replicate`"), rows)


def long_runs() -> Long:
    """Long runs on 25 devices that reboot at random."""
    kinds = list(product(LONG, RECOVERIES, PER_HOUR))
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return dict(zip(kinds, pool.map(long_run, *zip(*kinds, strict=True)), strict=True))


def long_run(policy: str, recovery: str, rate: int) -> dict[str, Any] | None:
    """Simulate one long run, and say so."""
    summary = summary_of(
        "lan-25.yaml",
        policy,
        f"workload.max_tokens={TOKENS}",
        "decisions.interval=8",
        f"recovery.caches={recovery}",
        f"faults=[{{rate: {rate} per hour, fault: reboot, for: 60 s}}]",
    )
    print(f"{policy}, {recovery}, {rate} per hour", file=sys.stderr, flush=True)
    return summary


def failures_of(summary: dict[str, Any]) -> dict[str, Any]:
    """Figures of a run's faults, also of one that had none."""
    return summary["failures"] or {"recoveries": 0, "availability": 1.0, "rows": 0}


def long_table(runs: Long) -> str:
    """Table of availability and time per token, by policy, recovery and rate."""
    rows = []
    for (policy, recovery, rate), summary in runs.items():
        if summary is None:
            rows.append([policy, recovery, str(rate), "no end", "0 %", "", ""])
            continue
        failures = failures_of(summary)
        figures = percent_text(failures["availability"], 1), f"{summary['tpot_ms']['mean']:.1f} ms"
        rows.append([policy, recovery, str(rate), str(failures["recoveries"]), *figures, str(failures["rows"])])
    columns = (
        "policy",
        "recovery",
        "reboots per hour and device",
        "recoveries",
        "available",
        "per token",
        "rows again",
    )
    return table(columns, rows)


def draw(runs: Long, file: Path) -> None:
    """Draw availability and time per token against the rate of failures, a line for each policy and recovery."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "edgeemu"
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.0), layout="constrained")
    for policy in LONG:
        for recovery, line in RECOVERIES.items():
            known = [(rate, runs[policy, recovery, rate]) for rate in PER_HOUR]
            points = [(rate, summary) for rate, summary in known if summary is not None]
            rates, style = [rate for rate, _ in points], {"linestyle": line, "marker": "o", "color": COLOURS[policy]}
            available = [100 * failures_of(summary)["availability"] for _, summary in points]
            left.plot(rates, available, label=f"{policy}, {recovery}", **style)
            right.plot(rates, [summary["tpot_ms"]["mean"] for _, summary in points], **style)
    left.set(xlabel="reboots per hour and device", ylabel="available, % of the time", xscale="log", ylim=(0, 102))
    right.set(xlabel="reboots per hour and device", ylabel="time per token, ms", xscale="log", yscale="log")
    right.set_yticks(MS, [str(ms) for ms in MS])
    for axes in (left, right):
        axes.set_xticks(PER_HOUR, [str(rate) for rate in PER_HOUR])
        axes.minorticks_off()
        axes.grid(visible=True, alpha=0.3)
    figure.legend(frameon=False, ncols=3, loc="outside upper center", fontsize="small")
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def with_tables(page: str, tables: dict[str, str]) -> str:
    """Put tables between their marks in a page, where it has them."""
    for name, text in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)
        page = pattern.sub(lambda match, text=text: match[1] + text + match[2], page)
    return page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if anything differs")
    check = parser.parse_args().check
    runs = long_runs()
    tables = {"churn": churn_table(), "long": long_table(runs)}
    pages = {page: with_tables(page.read_text(), tables) for page in PAGES}
    if check:
        return int(any(page.read_text() != text for page, text in pages.items()))
    for page, text in pages.items():
        page.write_text(text)
    draw(runs, PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
