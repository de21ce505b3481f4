"""Profile of a calibrated board as YAML, which a scenario names (`profile: board.yaml`)."""

from statistics import median
from typing import Any, NamedTuple

from edgeemu.errors import RequestError
from edgeemu.report.figure_texts import exact_text, human_text, value_of
from edgeemu.run.calibrate.fit import Calibration
from edgeemu.run.calibrate.measurement import RUN
from edgeemu.scenario.catalog import DeviceProfile, Sourced, device_profile, device_profiles
from edgeemu.scenario.document import write

OVERHEADS = ("overhead", "message_overhead", "byte_overhead", "message_latency")
DIGITS = 4  # of a fitted figure: more than any measurement has


class Beside(NamedTuple):
    """Figures of a board beside those that are measured: a profile of the catalog, and its memory if given."""

    like: DeviceProfile | None
    memory_bytes: int | None


def beside_measurements(device: str | None, like: str | None, memory: str | None) -> Beside:
    """Read what options say of a board beside the measurements. Raises `RequestError`."""
    named = like or (device if device in device_profiles() else None)
    try:
        profile = None if named is None else device_profile(named)
    except RequestError as error:
        raise RequestError(error.message, field="--like") from None
    try:
        memory_bytes = None if memory is None else int(value_of("memory", memory))
    except RequestError as error:
        raise RequestError(error.message, field="--memory") from None
    if memory_bytes is None and (profile is None or profile.memory is None):
        raise RequestError("the memory of the board is not known: give --like PROFILE (edgeemu devices) or --memory")
    return Beside(profile, memory_bytes)


def profile_text(title: str, made: Calibration, beside: Beside) -> str:
    """Write the profile of a calibrated board."""
    data = list(dict.fromkeys(row.where for row, _ in made.rows if row.fitted))
    source = f"Fitted by edgeemu calibrate under engine {made.engine} to {', '.join(data)}"
    fields: dict[str, Any] = {"title": title, "engine": made.engine}
    fields["gflops"] = _arithmetic(made, beside)
    for field, value in made.figures.items():
        fields[field] = _entry(exact_text(field, rounded(value)), source, "derived")
    for field, value in _held(made).items():
        fields[field] = _entry(exact_text(field, value), "As the runs had it; they do not tell it", "derived")
    like = beside.like
    if beside.memory_bytes is not None:
        given = exact_text("memory", beside.memory_bytes)
        fields["memory"] = _entry(given, "Given to edgeemu calibrate (--memory)", "measured")
    if like is not None:
        for key in ("memory", "memory_reserved", "nic"):
            if key not in fields and (kept := getattr(like, key)) is not None:
                fields[key] = _kept(key, kept, like)
        power = {key: _kept("power", each, like) for key in ("idle", "busy") if (each := getattr(like.power, key))}
        fields |= {"power": power} if power else {}
    fitted = list(map(abs, made.errors(fitted=True)))
    fields["fit"] = {
        "data": list(data),
        "standard_errors": {field: _percent(error) for field, error in made.standard_errors.items()},
        "not_told_apart": dict(made.refused),
    }
    if not made.is_exact:
        fields["fit"] |= {"median_error": _percent(median(fitted)), "worst_error": _percent(max(fitted))}
    return write(fields)


def _held(made: Calibration) -> dict[str, float]:
    """Overheads that runs had and that are not fitted: the fitted figures hold beside them. Raises `RequestError`."""
    boards = [row.scenario.devices[0] for row, _ in made.rows if row.scenario is not None]
    found = {}
    for field in OVERHEADS:
        values = {getattr(board, field) or 0.0 for board in boards}
        if len(values) > 1 and field not in made.figures:
            raise RequestError(f"the runs had several values of {field}, which they do not tell: take one of them")
        found[field] = max(values, default=0.0)
    return {field: value for field, value in found.items() if value and field not in made.figures}


def rounded(value: float) -> float:
    """A fitted figure, to as many digits as it can be worth."""
    return float(f"{value:.{DIGITS}g}")


def _arithmetic(made: Calibration, beside: Beside) -> dict[str, str]:
    """Arithmetic where no prompt was measured: the catalog's, if decoding then takes no longer than was fitted."""
    needed = max(
        made.figures["mem_bandwidth"] * 2 / (RUN[row.weights.name] / 8 * row.weights.stretch) for row, _ in made.rows
    )
    if beside.like is not None and beside.like.gflops.value >= needed:
        return _kept("gflops", beside.like.gflops, beside.like)
    why = "No prompt was measured: what decoding needs to reach the fitted bandwidth; prompts may be faster"
    return _entry(exact_text("gflops", rounded(1.02 * needed)), why, "derived")


def _kept(key: str, sourced: Sourced[Any], like: DeviceProfile) -> dict[str, str]:
    return _entry(exact_text(key, sourced.value), f"As {like.name}'s: {sourced.source}", sourced.label)


def _entry(value: str, source: str, label: str) -> dict[str, str]:
    return {"value": value, "source": source, "label": label}


def _percent(share: float) -> str:
    return human_text("share", min(1.0, rounded(share)))
