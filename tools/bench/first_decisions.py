"""How long first decisions take on large clusters, by policy. Exits with 1 if one takes longer than it may.

Clusters are drawn from scenarios/thousand.yaml with other numbers, topologies, objectives and workloads. Times are
processor time of the policy's call, as the limit of a decision counts it, on one core; each cluster has a process of
its own, whose peak memory is shown. A policy may find that the model does not fit in its way; it may not be late.

`lookahead` has a limit of its own on scenarios/thousand.yaml: that is what users wait for.
"""

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import NamedTuple

from measure import SCENARIOS, Figure, report

from edgeemu.errors import InfeasibleError
from edgeemu.policies import POLICIES, policy
from edgeemu.run.make_plan import make_rehearsal, unplaced
from edgeemu.scenario.load import load_scenario

THOUSAND = "thousand.yaml"
LIMIT_S = 10.0  # the default limit of a scenario
THOUSAND_LIMIT_S = 1.5
LIMIT_MB = 1000


class Case(NamedTuple):
    """Cluster and workload: numbers of devices and layers, and what else is set."""

    n_devices: int
    n_layers: int
    settings: tuple[str, ...] = ()


NARROW = (
    "model.shape={d_model: 2048, n_heads: 32, n_kv_heads: 8, head_dim: 64, d_ff: 5632, vocab_size: 32000, "
    "max_context: 4096, n_layers: 1}",
)
EQUAL = ("devices[0].gflops=20 GFLOPS", "devices[0].memory=4 GB", "network.default={bandwidth: 1 Gbit/s, delay: 1 ms}")
FOUR = ("workload.prompts=[{tokens: 64}, {tokens: 64}, {tokens: 64}, {tokens: 64}]", "workload.concurrency=4")
STAR = ("network={topology: star, default: {bandwidth: 1 Gbit/s, delay: 1 ms}}",)
LINE = ("network={topology: line, default: {bandwidth: 1 Gbit/s, delay: 1 ms}}",)
ENERGY = (
    *("objective=energy", "devices[0].power={idle: 2 W, busy: 6 W}"),
    *(
        "network.default.energy={send: 5 nJ/bit, receive: 5 nJ/bit}",
        "devices[0].memory={uniform: {low: 20 GB, high: 90 GB}}",
    ),
)
LITTLE = ("devices[0].memory={uniform: {low: 100 MB, high: 300 MB}}",)
CASES = {
    THOUSAND: Case(1000, 80),
    "1,000 x 80, small model": Case(1000, 80, NARROW),
    "1,000 x 80, small model, little memory": Case(1000, 80, NARROW + LITTLE),
    "1,000 x 80, equal devices": Case(1000, 80, EQUAL),
    "1,000 x 80, four sequences": Case(1000, 80, NARROW + FOUR),
    "1,000 x 80, star": Case(1000, 80, STAR),
    "1,000 x 80, line": Case(1000, 80, LINE),
    "10,000 x 8": Case(10_000, 8),
    "10,000 x 8, small model": Case(10_000, 8, NARROW),
    "10,000 x 8, small model, little memory": Case(10_000, 8, NARROW + LITTLE),
    "10,000 x 8, least energy": Case(10_000, 8, ENERGY),
    "10,000 x 8, equal devices": Case(10_000, 8, EQUAL),
    "10,000 x 8, four sequences": Case(10_000, 8, FOUR),
    "10,000 x 8, star": Case(10_000, 8, STAR),
}


class Decision(NamedTuple):
    """Processor time of a first decision, and whether there was room for the placement."""

    took_s: float
    fits: bool


def decisions(case: Case, names: Sequence[str]) -> tuple[dict[str, Decision], float]:
    """First decisions on one cluster, and the peak of this process's memory in MB."""
    numbers = (f"devices[0].count={case.n_devices}", f"model.shape.n_layers={case.n_layers}")
    scenario = load_scenario(SCENARIOS / THOUSAND, (*case.settings, *numbers))
    found = {}
    for name in names:
        made = unplaced(scenario)  # with nothing kept from the policy before
        view = replace(
            made.view, rehearse=make_rehearsal(scenario, made.cluster, made.computes, made.view, made.requests)
        )
        place, fits = policy(name), True
        began_s = time.process_time()
        try:
            place(view, None)
        except InfeasibleError:
            fits = False
        found[name] = Decision(time.process_time() - began_s, fits)
    return found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", default="all", help="comma-separated; default: all built-in ones but exact")
    parser.add_argument("--cases", default=None, help="only cases whose name contains this text")
    parser.add_argument("--json", action="store_true", help="figures as one JSON document")
    options = parser.parse_args()
    names = sorted(set(POLICIES) - {"exact"}) if options.policies == "all" else options.policies.split(",")
    figures: list[Figure] = []
    for title, case in CASES.items():
        if options.cases and options.cases not in title:
            continue
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as one:
            found, peak_mb = one.submit(decisions, case, names).result()
        for name, decision in found.items():
            limit_s = THOUSAND_LIMIT_S if (title, name) == (THOUSAND, "lookahead") else LIMIT_S
            what = f"{name} on {title}" + ("" if decision.fits else " (finds no room)")
            figures.append(Figure(what, decision.took_s, limit_s, "s"))
        figures.append(Figure(f"peak memory, {title}", peak_mb, LIMIT_MB, "MB"))
    sys.exit(report(figures, options.json))


if __name__ == "__main__":
    main()
