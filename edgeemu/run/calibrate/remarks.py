"""Remarks on a calibration: signs that its figures are not the board's, and what it cannot say."""

from collections.abc import Iterator

from edgeemu.report.figure_texts import human_text
from edgeemu.report.formats import percent_text
from edgeemu.run.calibrate.fit import Calibration
from edgeemu.scenario.catalog import DeviceProfile

FAR_OFF = 0.15  # relative error of a fitted time from which its row contradicts the others: above all in validation.md
UNSURE = 0.5  # relative standard error from which a figure is hardly known


def remarks(made: Calibration, like: DeviceProfile | None) -> list[str]:
    """Say what speaks against the figures. `like`: the profile of the catalog whose board this is, if it is one."""
    found = [*_above_peak(made, like), *_far_off(made)]
    for field, share in made.standard_errors.items():
        if share > UNSURE:
            found.append(f"{field} is hardly known: ± {percent_text(share)}")
    if made.is_exact:
        found.append("there are as many figures as numbers measured: how far off the figures are cannot be told")
    return found


def _above_peak(made: Calibration, like: DeviceProfile | None) -> Iterator[str]:
    for field in ("mem_bandwidth", "gflops"):
        peak, value = getattr(like, field, None), made.figures.get(field, 0.0)
        if like is not None and peak is not None and peak.label == "peak" and value > peak.value:
            fitted, most = human_text(field, value), human_text(field, peak.value)
            yield (
                f"{field} is {fitted}, and the data sheet of {like.name} says {most} at most: the engine, the model or "
                "a format may be another than was measured"
            )


def _far_off(made: Calibration) -> Iterator[str]:
    for row, predicted in made.rows:
        error = predicted.taken_s / row.taken_s - 1
        if row.fitted and abs(error) > FAR_OFF:
            yield (
                f"{row.where} is {percent_text(error, signed=True)} off: it contradicts others, or this engine does "
                "not explain it"
            )
