"""Tables and document of a calibration: the figures with their standard errors, and each row with its prediction."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgeemu.report.figure_texts import human_text
from edgeemu.report.formats import Table, percent_text
from edgeemu.run.calibrate.fit import Calibration


def figure_table(made: Calibration) -> Table:
    """Make the table of figures: fitted with their standard errors, or why not."""
    rows = []
    for field, value in made.figures.items():
        error = made.standard_errors.get(field)
        shown = "–" if error is None else f"± {percent_text(error, 1)}"
        rows.append([field, human_text(field, value), shown, "fitted"])
    rows += [[field, "–", "–", f"not fitted: {why}"] for field, why in made.refused.items()]
    return Table(("figure", ">value", ">standard error", ""), rows)


def row_table(made: Calibration) -> Table:
    """Make the table of residuals: measured and predicted times, those that were only predicted marked."""
    rows = [
        [
            row.label,
            *(human_text("duration", taken_s) for taken_s in (row.taken_s, predicted.taken_s)),
            percent_text((predicted.taken_s / row.taken_s - 1), 1, signed=True),
            *_part(row.compute_s, predicted.compute_s),
            "fitted" if row.fitted else "predicted",
            row.where,
        ]
        for row, predicted in made.rows
    ]
    return Table(
        ("measurement", ">measured", ">predicted", ">error", ">computing", ">computing, predicted", "", "row"),
        rows,
        ("computing, predicted", "computing", "row"),
    )


def _part(measured_s: float | None, predicted_s: float) -> tuple[str, str]:
    if measured_s is None:
        return "–", "–"
    return human_text("duration", measured_s), human_text("duration", predicted_s)


def fit_document(made: Calibration, remarks: Sequence[str], left_out: Sequence[str]) -> Mapping[str, Any]:
    """Make the JSON document of a calibration, in base units."""
    return {
        "engine": made.engine,
        "figures": dict(made.figures),
        "standard_errors": dict(made.standard_errors),
        "not_told_apart": dict(made.refused),
        "remarks": list(remarks),
        "left_out": list(left_out),
        "rows": [
            {
                "row": row.where,
                "model": row.model,
                "nodes": row.nodes,
                "phase": row.phase,
                "fitted": row.fitted,
                "measured_s": row.taken_s,
                "predicted_s": predicted.taken_s,
                "error": predicted.taken_s / row.taken_s - 1,
                "measured_compute_s": row.compute_s,
                "predicted_compute_s": predicted.compute_s,
            }
            for row, predicted in made.rows
        ],
    }
