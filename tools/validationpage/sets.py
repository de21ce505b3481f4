"""Data sets of tests/validation: their rows, fitted and predicted under their engines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from edgeemu.run.calibrate.fit import Calibration, calibrate
from edgeemu.run.calibrate.measurement import Measurement
from edgeemu.run.calibrate.predictor import Predicted
from edgeemu.run.calibrate.profile_text import Beside, beside_measurements
from edgeemu.run.calibrate.read_csv import Defaults
from edgeemu.run.calibrate.read_measured import read_measured
from edgeemu.scenario.catalog.engines import engine_entry
from edgeemu.scenario.document import read

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "validation"
FEW_NODES = 4  # up to which the errors of a class of boards hold; eight nodes have reasons of their own


@dataclass(frozen=True)
class DataSet:
    """One data set: what sets.yaml says of it, and its calibration."""

    name: str
    title: str
    boards: str
    engine: str
    fitted_on: str
    made: Calibration
    profile: str  # of the file that has the board's figures; "" for none
    beside: Beside | None
    left_out: tuple[tuple[Measurement, Predicted], ...]  # each row predicted from the others, where all were fitted

    @cached_property
    def predicted(self) -> list[tuple[Measurement, Predicted]]:
        """Rows that were not fitted to when they were predicted."""
        return [pair for pair in self.made.rows if not pair[0].fitted] or list(self.left_out)

    @cached_property
    def held(self) -> list[float]:
        """Errors of the predicted rows up to `FEW_NODES` nodes."""
        return [error(pair) for pair in self.predicted if pair[0].nodes <= FEW_NODES]

    @property
    def typical(self) -> float | None:
        return median(map(abs, self.held)) if self.held else None

    @property
    def worst(self) -> float | None:
        return max(map(abs, self.held)) if self.held else None

    @property
    def direction(self) -> str:
        """Whether predicted times are mostly too long or too short."""
        if all(each > 0 for each in self.held):
            return "slower than measured"
        if all(each < 0 for each in self.held):
            return "faster than measured"
        return "both ways"


def error(pair: tuple[Measurement, Predicted]) -> float:
    """Relative error of a predicted time."""
    return pair[1].taken_s / pair[0].taken_s - 1.0


def data_sets() -> list[DataSet]:
    """Read, fit and predict every data set."""
    file = DATA / "sets.yaml"
    return [_made(name, fields) for name, fields in read(file.read_text("utf-8"), str(file)).data.items()]


def _made(name: str, fields: dict[str, Any]) -> DataSet:
    only, fit = fields["only"], fields.get("fit", {})
    engine, rows, left_out = read_measured([DATA / "measured.csv"], str(fields["engine"]), Defaults(), only, fit)
    assert not left_out, left_out
    rows = [replace(row, where=row.where.removeprefix(f"{ROOT}/")) for row in rows]
    texts = {key: str(fields[key]) for key in ("title", "boards", "engine", "fitted_on")}
    all_fitted = all(row.fitted for row in rows)
    profile, like, memory = (fields.get(key) for key in ("profile", "like", "memory"))
    beside = beside_measurements(None, like and str(like), memory and str(memory)) if profile else None
    return DataSet(
        name,
        **texts,
        made=calibrate(engine, rows),
        profile=str(profile or ""),
        beside=beside,
        left_out=_left_out(str(fields["engine"]), rows) if all_fitted else (),
    )


def _left_out(engine: str, rows: Sequence[Measurement]) -> tuple[tuple[Measurement, Predicted], ...]:
    """Predict each row from the others alone."""
    found = []
    for row in rows if len(rows) > 1 else ():
        made = calibrate(engine_entry(engine), [replace(each, fitted=each is not row) for each in rows])
        found += [pair for pair in made.rows if not pair[0].fitted]
    return tuple(found)
