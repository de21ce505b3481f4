"""How far a run's figures can be trusted. Pure; knows records, not how the run was made."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgeemu.report.rows import OperationRow, TokenRow
from edgeemu.report.statistics import percentile

WARN_INFLATION = 0.01  # wall-clock TPOT against emulated TPOT (of single tokens: TTFT)
INVALID_INFLATION = 0.05
WARN_LAG = 0.10  # p99 lag against the mean of the same


UNPACED = {
    "virtual": "virtual mode: time is arithmetic, so the host cannot be late",
    "simulated": "simulated: time is arithmetic, and no kernel has run",
}


VERDICTS = ("PASS", "WARN", "INVALID")  # from good to bad


def with_verdict(certificate: Mapping[str, Any], verdict: str, reasons: Sequence[str]) -> dict[str, Any]:
    """A certificate with more reasons; the worse verdict counts."""
    worse = max(certificate["verdict"], verdict, key=VERDICTS.index)
    return {**certificate, "verdict": worse, "reasons": [*certificate["reasons"], *reasons]}


def certify(tokens: Sequence[TokenRow], ops: Sequence[OperationRow], *, mode: str, reordered: int) -> dict[str, Any]:
    """The certificate of summary.json: a verdict, its reasons, and the figures behind it.

    `mode` is `realtime`, or one of `UNPACED`. `lag` is how late results were on the wall clock; `overruns` the share of
    operations whose kernel ended after its time; `reordered` the messages that met a pipe out of the order of their
    departure.
    """
    if mode in UNPACED:
        return {
            "verdict": "PASS",
            "reasons": [UNPACED[mode]],
            "lag_p99_ms": 0.0,
            "overruns": 0.0,
            "reordered": reordered,
        }
    late_s = sorted(op.late_s for op in ops)
    lag_p99_s = percentile(late_s, 99) if late_s else 0.0
    overruns = sum(op.overrun for op in ops) / len(ops) if ops else 0.0
    later = [token for token in tokens if token.step > 0]
    judged, figure = (later, "TPOT") if later else (tokens, "TTFT")
    emulated_s = sum(token.latency_s for token in judged)
    inflation = sum(token.wall_latency_s for token in judged) / emulated_s - 1.0 if emulated_s else 0.0
    verdict, reasons = "PASS", []
    if not tokens:
        verdict, reasons = "INVALID", ["there is no token to measure the host by"]
    if abs(inflation) > WARN_INFLATION:
        verdict = "INVALID" if abs(inflation) > INVALID_INFLATION else "WARN"
        reasons.append(f"the wall clock's {figure} is {inflation:+.1%} off the emulated one; raise time.dilation")
    if judged and lag_p99_s > WARN_LAG * emulated_s / len(judged):
        verdict = "WARN" if verdict == "PASS" else verdict
        reasons.append(f"results were up to {1000 * lag_p99_s:.1f} ms late (p99), over {WARN_LAG:.0%} of a token")
    return {
        "verdict": verdict,
        "reasons": reasons,
        "lag_p99_ms": 1000 * lag_p99_s,
        "overruns": overruns,
        "reordered": reordered,
    }
