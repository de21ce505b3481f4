"""The certificate: how far a run's figures can be trusted. Knows figures, not how the run was made."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgeemu.report.figures import OperationFigures, TokenFigures
from edgeemu.report.statistics import in_order

WARN_INFLATION = 0.01  # wall-clock TPOT against emulated TPOT (of single tokens: TTFT)
INVALID_INFLATION = 0.05
WARN_LAG = 0.10  # p99 lateness against the mean TPOT


UNPACED = {
    "virtual": "virtual mode: time is computed, so the host cannot be late",
    "simulated": "simulated: time is computed, and no kernel has run",
}


VERDICTS = ("PASS", "WARN", "INVALID")  # from good to bad


def with_verdict(certificate: Mapping[str, Any], verdict: str, reasons: Sequence[str]) -> dict[str, Any]:
    """Add reasons to a certificate; the worse verdict counts."""
    worse = max(certificate["verdict"], verdict, key=VERDICTS.index)
    return {**certificate, "verdict": worse, "reasons": [*certificate["reasons"], *reasons]}


def certify(tokens: TokenFigures, ops: OperationFigures, *, mode: str, reordered: int) -> dict[str, Any]:
    """Make the certificate of summary.json: a verdict, its reasons, and the figures behind it.

    `mode` is `realtime`, or one of `UNPACED`. `lag` is the lateness of results on the wall clock; `overruns` the share
    of operations whose kernel ended after its time; `reordered` the messages that reached a pipe out of the order of
    their departure.
    """
    if mode in UNPACED:
        return {
            "verdict": "PASS",
            "reasons": [UNPACED[mode]],
            "lag_p99_ms": 0.0,
            "overruns": 0.0,
            "reordered": reordered,
        }
    later = ~tokens.first  # [tokens]
    judged, figure = (later, "TPOT") if later.any() else (tokens.first, "TTFT")
    emulated_s = in_order(tokens.latency_s[judged])
    inflation = in_order(tokens.wall_latency_s[judged]) / emulated_s - 1.0 if emulated_s else 0.0
    verdict, reasons = "PASS", []
    if not tokens.number:
        verdict, reasons = "INVALID", ["no token was generated"]
    if abs(inflation) > WARN_INFLATION:
        verdict = "INVALID" if abs(inflation) > INVALID_INFLATION else "WARN"
        reasons.append(f"wall-clock {figure} is {inflation:+.1%} off the emulated one; raise time.dilation")
    if tokens.number and ops.late_p99_s > WARN_LAG * emulated_s / int(judged.sum()):
        verdict = "WARN" if verdict == "PASS" else verdict
        reasons.append(f"p99 lateness {1000 * ops.late_p99_s:.1f} ms, over {WARN_LAG:.0%} of a token")
    return {
        "verdict": verdict,
        "reasons": reasons,
        "lag_p99_ms": 1000 * ops.late_p99_s,
        "overruns": ops.overruns,
        "reordered": reordered,
    }
