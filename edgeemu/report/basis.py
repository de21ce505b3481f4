"""Basis of the figures of a run or a plan: labels of devices' and links' figures, and what they were held against.

Values and words; `run.basis` collects them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeemu.units import FRACTION

LABELS = {  # from the worst to the best, each with its words
    "peak": "peaks of data sheets",
    "given": "what the scenario gives",
    "derived": "derived figures",
    "measured": "measured figures",
}
UNHELD = "nobody has held them against a board"
_SHOWN = 2  # figures that are named


@dataclass(frozen=True, slots=True)
class HeldAgainst:
    """Measurements against which predictions for such boards were held under this engine; the worst set of several."""

    boards: str
    data: str
    median_error: float
    worst_error: float
    calibrated: bool  # whether the boards of this run are calibrated for this engine, as those were


@dataclass(frozen=True, slots=True)
class Basis:
    """Basis of figures. `figures` has the names of those that were used, by label, from the worst to the best."""

    engine: str
    figures: dict[str, list[str]]
    held: HeldAgainst | None = None
    fits: dict[str, float | None] = field(default_factory=dict)  # calibrated boards: worst error of their own data
    formats: dict[str, str] = field(default_factory=dict)  # that the engine chose, by key of `precision`

    @property
    def label(self) -> str:
        """The worst label."""
        return next(iter(self.figures))

    @property
    def is_validated(self) -> bool:
        """Whether predictions for boards that were calibrated as these are have been held against measurements.

        Boards that are further from the data they were fitted to than those predictions were are not such boards.
        """
        if self.held is None or not self.held.calibrated:
            return False
        worst = self.held.worst_error
        return all(error is None or error <= worst for error in self.fits.values())


def basis_document(basis: Basis | None) -> dict[str, Any] | None:
    """Make the block of a JSON document; None for records that do not say."""
    if basis is None:
        return None
    held = None if basis.held is None else asdict(basis.held)
    named = {"label": basis.label, "engine": basis.engine, "figures": dict(basis.figures)}
    return named | {"formats": dict(basis.formats), "fits": dict(basis.fits), "held_against": held}


def basis_line(document: Mapping[str, Any] | None) -> str:
    """Say in a line what figures rest on, from their block; empty without one."""
    if document is None:
        return ""
    figures, label = document["figures"], document["label"]
    named = ", ".join(figures[label][:_SHOWN]) + (", …" if len(figures[label]) > _SHOWN else "")
    worst = " at worst" if len(figures) > 1 else ""
    engine, held = f"engine {document['engine']}{_formats(document)}", document["held_against"]
    return f"figures rest on {LABELS[label]} ({named}){worst}; {engine}; {_fits(document)}{_held(held)}"


def _formats(document: Mapping[str, Any]) -> str:
    """Say which number formats are the engine's choice; records of earlier versions do not know."""
    formats: Mapping[str, str] = document.get("formats", {})
    chosen = ", ".join(f"{key} {name}" for key, name in formats.items())
    return f", whose formats these are: {chosen} (precision)" if chosen else ""


def _fits(document: Mapping[str, Any]) -> str:
    """Say how far calibrated figures are from their own data; records of earlier versions do not know."""
    fits: Mapping[str, float | None] = document.get("fits", {})
    known = [error for error in fits.values() if error is not None]
    told = [f"fitted to their own data within {FRACTION.format_human(max(known))}"] if known else []
    unknown = [name for name, error in fits.items() if error is None]
    told += [f"no error is known of the fit of {', '.join(unknown)}"] if unknown else []
    return "".join(f"{each}; " for each in told)


def _held(held: Mapping[str, Any] | None) -> str:
    if held is None:
        return UNHELD
    median, worst = (FRACTION.format_human(held[key]) for key in ("median_error", "worst_error"))
    errors = f"predictions for {held['boards']} were {median} off in the median, {worst} at most ({held['data']})"
    return errors if held["calibrated"] else f"calibrated, {errors}, and these are not calibrated"
