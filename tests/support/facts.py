"""Facts and tokens of a run that nobody has made, for tests of what is computed from them."""

from typing import Any

from edgeemu.report.facts import DeviceFacts, RunFacts
from edgeemu.report.rows import TokenRow


def some_facts(**changes: Any) -> RunFacts:
    """Facts of a simulated run on two devices, with some fields changed."""
    known: dict[str, Any] = {
        "scenario": "quickstart",
        "policy": "greedy",
        "model": "tiny",
        "devices": [DeviceFacts("pi", 100, 1.0, 3.0), DeviceFacts("nano", 90, 1.0, 5.0, 7)],
        "mode": "simulated",
        "objective": "latency",
        "concurrency": 1,
        "cost": "physical",
        "links": "stamped",
        "energy_budget_j": None,
        "missing_power": "",
        "placed_in_s": 0.002,
        "has_events": False,
        "relative_devices": [],
        "decisions_measured": True,
        "decided_on": None,
    }
    return RunFacts(**{**known, **changes})


def token_row(sequence: int, step: int, emulated_s: float, latency_s: float) -> TokenRow:
    """Row of a token that was released when the one before it was there; the clock takes twice the time."""
    instants = emulated_s - latency_s, emulated_s, latency_s, 2 * emulated_s, 1.1 * latency_s
    return TokenRow(sequence, step, 100 + step, f" w{step}", *instants)
