"""Profile of a calibrated board as YAML, which a scenario names (`profile: board.yaml`)."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from edgeemu.quantity import Quantity
from edgeemu.run.calibrate.fit import Calibration
from edgeemu.run.calibrate.measurement import RUN
from edgeemu.scenario.catalog import DeviceProfile, Sourced
from edgeemu.scenario.document import write
from edgeemu.units import BIT_RATE, BYTE_RATE, DURATION, FLOP_RATE, FRACTION, POWER, SIZE

QUANTITIES: Mapping[str, Quantity] = {
    "gflops": FLOP_RATE,
    "mem_bandwidth": BYTE_RATE,
    "overhead": DURATION,
    "message_overhead": DURATION,
    "message_latency": DURATION,
    "memory": SIZE,
    "nic": BIT_RATE,
}
DIGITS = 4  # of a fitted figure: more than any measurement has


class Known(NamedTuple):
    """What is known of a board beside the measurements: a profile of the catalog, and its memory if given."""

    like: DeviceProfile | None
    memory_bytes: int | None


def profile_text(title: str, made: Calibration, known: Known, data: Sequence[str]) -> str:
    """Write the profile of a calibrated board. `data` names what was fitted to."""
    source = f"Fitted by edgeemu calibrate under engine {made.engine} to {', '.join(data)}"
    fields: dict[str, Any] = {"title": title, "engine": made.engine}
    fields["gflops"] = _arithmetic(made, known)
    for field, value in made.figures.items():
        fields[field] = _entry(QUANTITIES[field].format_exact(rounded(value)), source, "measured")
    like = known.like
    if known.memory_bytes is not None:
        given = SIZE.format_exact(known.memory_bytes)
        fields["memory"] = _entry(given, "Given to edgeemu calibrate (--memory)", "measured")
    elif like is not None:
        fields["memory"] = _kept(like.memory, SIZE, like)
    if like is not None and like.nic is not None:
        fields["nic"] = _kept(like.nic, BIT_RATE, like)
    if like is not None:
        power = {key: _kept(each, POWER, like) for key in ("idle", "busy") if (each := getattr(like.power, key))}
        fields |= {"power": power} if power else {}
    fitted = list(map(abs, made.errors(fitted=True)))
    fields["fit"] = {
        "data": list(data),
        "standard_errors": {field: _percent(error) for field, error in made.standard_errors.items()},
        "not_told_apart": dict(made.refused),
        "median_error": _percent(median(fitted)),
        "worst_error": _percent(max(fitted)),
    }
    return write(fields)


def rounded(value: float) -> float:
    """A fitted figure, to as many digits as it can be worth."""
    return float(f"{value:.{DIGITS}g}")


def _arithmetic(made: Calibration, known: Known) -> dict[str, str]:
    """Arithmetic where no prompt was measured: the catalog's, if decoding then takes no longer than was fitted."""
    needed = max(
        made.figures["mem_bandwidth"] * 2 / (RUN[row.weights.name] / 8 * row.weights.stretch) for row, _ in made.rows
    )
    if known.like is not None and known.like.gflops.value >= needed:
        return _kept(known.like.gflops, FLOP_RATE, known.like)
    why = "No prompt was measured: what decoding needs to reach the fitted bandwidth; prompts may be faster"
    return _entry(FLOP_RATE.format_exact(rounded(1.02 * needed)), why, "derived")


def _kept(sourced: Sourced[Any], quantity: Quantity, like: DeviceProfile) -> dict[str, str]:
    return _entry(quantity.format_exact(sourced.value), f"As {like.name}'s: {sourced.source}", sourced.label)


def _entry(value: str, source: str, label: str | None) -> dict[str, str]:
    return {"value": value, "source": source} | ({"label": label} if label else {})


def _percent(share: float) -> str:
    return FRACTION.format_human(min(1.0, rounded(share)))
