"""Figures of a scenario, by simulating it: speed, time to the first token, energy, price of its boards."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import fsum, isnan
from statistics import fmean

from edgeemu.policies.view.step_energy import missing_power
from edgeemu.report.advice import Figures
from edgeemu.report.energy import account, radio_energy
from edgeemu.report.facts import DeviceFacts
from edgeemu.report.rows import DeviceRow, LinkRow, OperationRow, Row, TableName, TokenRow
from edgeemu.run.advise.replacements import price_usd
from edgeemu.run.backend import RunMeasurements
from edgeemu.run.plan import Plan
from edgeemu.run.simulate_plan import TokenTimes, simulate_plan
from edgeemu.scenario.devices import DeviceSpec


class _Kept(TokenTimes):
    """Sink of what figures are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.generating: dict[int, tuple[float, float]] = {}  # by sequence: first and last token
        self.busy_s: dict[str, float] = defaultdict(float)
        self.later_j = 0.0  # for later tokens, beside idle power; NaN: not known

    def append(self, table: TableName, rows: Sequence[Row]) -> None:
        if table not in ("tokens", "devices", "links", "ops"):
            return
        for row in rows if table != "ops" or isinstance(rows, list) else ():
            if isinstance(row, TokenRow):
                self.take(row)
            elif isinstance(row, OperationRow):  # of a transfer: those of steps come in columns, and with devices
                self.busy_s[row.device] += row.end_s - row.start_s
            elif isinstance(row, DeviceRow | LinkRow):
                if isinstance(row, DeviceRow):
                    self.busy_s[row.device] += row.busy_s
                if row.step > 0:
                    self.later_j += float("nan") if row.energy_j is None else row.energy_j

    def take(self, row: TokenRow) -> None:
        super().take(row)
        first_s, _ = self.generating.get(row.sequence, (row.emulated_s, 0.0))
        self.generating[row.sequence] = first_s, row.emulated_s


def simulated_figures(plan: Plan, lengths: Sequence[int]) -> Figures:
    """Simulate a plan with sequences of these lengths; one at least has two tokens. Sequences without any are left out.

    Energy per token is that of the whole workload: what later tokens need counts as often as there are such tokens.
    """
    kept = _Kept()
    backend = simulate_plan(plan, lengths, kept)
    generating_s = covered_s(list(kept.generating.values()))
    return Figures(
        fmean(kept.later_s),
        len(kept.later_s) / generating_s,
        fmean(kept.first_s),
        _token_j(plan, kept, backend.measured, generating_s),
        boards_usd(plan.scenario.devices),
    )


def covered_s(spans: Sequence[tuple[float, float]]) -> float:
    """Time that is in one span at least."""
    total_s, until_s = [], float("-inf")
    for begin_s, end_s in sorted(spans):
        total_s.append(max(0.0, end_s - max(begin_s, until_s)))
        until_s = max(until_s, end_s)
    return fsum(total_s)


def _token_j(plan: Plan, kept: _Kept, measured: RunMeasurements, generating_s: float) -> float | None:
    """Energy per token of the whole workload; None where a figure is missing."""
    devices = [DeviceFacts(d.name, d.memory_bytes, d.idle_w, d.busy_w) for d in plan.cluster.devices]
    sent: Mapping[tuple[int, int], int] = measured.sent_bytes or {}
    radio, missing = radio_energy(plan.cluster, sent), missing_power(plan.cluster.devices)
    total_j = account(devices, kept.end_s - kept.begin_s, kept.busy_s, radio, missing).total_j
    if total_j is None or isnan(kept.later_j):
        return None
    idle_j = fsum(device.idle_w or 0.0 for device in plan.cluster.devices) * generating_s
    n_later = sum(request.max_tokens - 1 for request in plan.requests)
    # Of sequences that were left out, prompts cost as those that were not.
    total_j *= (whole := len(plan.requests) / len(kept.first_s))
    more_j = (n_later / len(kept.later_s) - whole) * (kept.later_j + idle_j)
    return (total_j + more_j) / (n_later + len(plan.requests))


def boards_usd(specs: Sequence[DeviceSpec]) -> float | None:
    """Price of all boards; None: that of one is not known."""
    prices = [(spec.count, price_usd(spec.profile)) for spec in specs]
    known = [count * price for count, price in prices if price is not None]
    return fsum(known) if len(known) == len(prices) else None
