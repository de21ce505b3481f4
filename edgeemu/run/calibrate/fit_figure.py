"""Picture of a calibration: measured against predicted times, on equal logarithmic axes."""

from collections.abc import Sequence
from pathlib import Path

from edgeemu.report.drawn.palette import PAPER
from edgeemu.report.drawn.sheet import style
from edgeemu.report.formats import percent_text
from edgeemu.run.calibrate.fit import Calibration

MARKERS = "osD^v*XP"


def draw_fit(made: Sequence[tuple[str, Calibration]], file: Path, within: float = 0.15) -> None:
    """Draw calibrations with their names, and write the picture by the file's suffix; a band shows `within`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style("fit"):
        figure = Figure(figsize=(6.0, 5.0), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        times = [1e3 * each for _, one in made for row, p in one.rows for each in (row.taken_s, p.taken_s)]
        ends = [min(times) / 1.5, max(times) * 1.5]
        axes.fill_between(
            ends,
            [each * (1 - within) for each in ends],
            [each * (1 + within) for each in ends],
            color="0.9",
            label=f"within {percent_text(within)}",
        )
        axes.plot(ends, ends, color="black", linewidth=0.8)
        for n, (name, one) in enumerate(made):
            for fitted in (True, False):
                points = [(row.taken_s * 1e3, p.taken_s * 1e3) for row, p in one.rows if row.fitted == fitted]
                if points:
                    axes.plot(
                        *zip(*points, strict=True),
                        marker=MARKERS[n % len(MARKERS)],
                        color=f"C{n % 10}",
                        linestyle="none",
                        fillstyle="none" if fitted else "full",
                        label=f"{name}, {'fitted' if fitted else 'predicted'}",
                    )
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured (ms)", ylabel="predicted (ms)")
        axes.grid(visible=True, which="major")
        axes.legend(frameon=False, fontsize=10)
        figure.savefig(file, dpi=150, facecolor=PAPER.light, metadata={"Date": None} if file.suffix == ".svg" else None)
