"""From a run's tokens and memory to summary.json. Pure arithmetic on rows; knows no files, devices or clocks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeemu.report.rows import OperationRow, SequenceRow, TokenRow
from edgeemu.report.statistics import ratio, statistics_ms


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """What a device used at most, and what it might."""

    peak_bytes: int
    cap_bytes: int


def summarise(
    *,
    scenario: str,
    policy: str,
    model: str,
    devices: int,
    tokens: Sequence[TokenRow],
    sequences: Sequence[SequenceRow] = (),
    ops: Sequence[OperationRow] = (),
    memory: Mapping[str, DeviceMemory],
    controller_s: Sequence[float],
    certificate: Mapping[str, Any],
    migrations: Mapping[str, Any] | None = None,
    texts: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The contents of summary.json.

    TTFT and TPOT are emulated; TPOT is over all tokens but the first of each sequence. `wall.inflation` is the time
    that the clock took for the tokens over the time that the timeline says. Where there is no sample there is null.
    The makespan is from the first arrival to the last token.
    `controller_s` are the controller's decision times. `texts`, by sequence, replaces those joined from the tokens.
    """
    by_sequence: dict[int, list[TokenRow]] = {}
    for row in sorted(tokens, key=lambda row: (row.sequence, row.step)):
        by_sequence.setdefault(row.sequence, []).append(row)
    first = [row for row in tokens if row.step == 0]
    later = [row for row in tokens if row.step > 0]
    span = span_s(tokens)
    return {
        "scenario": scenario,
        "policy": policy,
        "model": model,
        "devices": devices,
        "text": (
            list(texts) if texts is not None else ["".join(row.text for row in rows) for rows in by_sequence.values()]
        ),
        "tokens": [[row.token for row in rows] for rows in by_sequence.values()],
        "ttft_ms": statistics_ms([row.latency_s for row in first]),
        "tpot_ms": statistics_ms([row.latency_s for row in later]),
        "throughput_tok_s": len(tokens) / span if span > 0 else None,
        "makespan_s": span,
        "goodput": _goodput(sequences, span),
        "sequences": [row._asdict() for row in sorted(sequences)],
        "idle": _idle(ops, span),
        "wall": {
            "ttft_ms": statistics_ms([row.wall_latency_s for row in first]),
            "tpot_ms": statistics_ms([row.wall_latency_s for row in later]),
            "inflation": ratio(sum(row.wall_latency_s for row in later), sum(row.latency_s for row in later)),
        },
        "migrations": dict(migrations or {"count": 0, "bytes": 0, "ms": 0.0}),
        "memory": {
            "peak_bytes_max": max((device.peak_bytes for device in memory.values()), default=0),
            "by_device": {
                name: {"peak_bytes": device.peak_bytes, "cap_bytes": device.cap_bytes}
                for name, device in memory.items()
            },
        },
        "controller_ms": {key: value for key, value in statistics_ms(controller_s).items() if key in ("mean", "p99")},
        "certificate": dict(certificate),
    }


def span_s(tokens: Sequence[TokenRow]) -> float:
    """From the first start of a sequence to the last token, on the timeline."""
    starts_s = (row.emulated_s - row.latency_s for row in tokens if row.step == 0)
    return max((row.emulated_s for row in tokens), default=0.0) - min(starts_s, default=0.0)


def _goodput(sequences: Sequence[SequenceRow], span_s: float) -> dict[str, float | int] | None:
    """Sequences that kept the latency target, per second and in all; None where there is none.

    As request goodput is in serving benchmarks (Zhong et al., DistServe, OSDI 2024; vLLM's benchmark_serving.py).
    """
    judged = [row.good for row in sequences if row.good is not None]
    if not judged or span_s <= 0:
        return None
    return {"sequences_per_s": sum(judged) / span_s, "met": sum(judged), "of": len(judged)}


def _idle(ops: Sequence[OperationRow], span_s: float) -> dict[str, Any] | None:
    """Which share of the time devices that were at work at all were not, and how many were on average."""
    busy_s: dict[str, float] = defaultdict(float)
    for op in ops:
        busy_s[op.device] += op.end_s - op.start_s
    if not busy_s or span_s <= 0:
        return None
    idle = {device: 1.0 - spent_s / span_s for device, spent_s in sorted(busy_s.items())}
    at_work = sum(busy_s.values()) / span_s
    return {"min": min(idle.values()), "max": max(idle.values()), "at_work": at_work, "by_device": idle}
