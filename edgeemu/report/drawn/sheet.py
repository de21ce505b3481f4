"""Sheets that pictures are drawn on: wide or narrow for a page, or of a column's width for a paper.

A picture on a page has no colours of its own but variables of the page's style, so that it is right on a dark
background too; its texts are texts.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgeemu.report.disk import writing
from edgeemu.report.drawn.palette import ALL, GRID, INK, PAPER, SOFT
from edgeemu.report.new_file import new_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = 920, 358  # of a page, in its pixels
FONT = 12.0
SUFFIXES = (".svg", ".pdf", ".png")
_COLUMN, _PAGE = 358, 737  # of a paper, in points: included 3.5 or 7.2 inches wide, letters are 8.4 points high
_DPI = 210  # 300 when it is included so
_FONTS = ("DejaVu Sans", "Verdana", "Geneva", "sans-serif")  # all as wide as those that places are reckoned with
_VARIABLES = {colour.light: f"var(--{colour.name})" for colour in ALL}


class Sheet:
    """A figure of fixed width, whose height is what is drawn on it needs. Lengths are pixels of a page."""

    def __init__(self, width: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        self.width = width
        layout = ConstrainedLayoutEngine(w_pad=4 / 72, h_pad=4 / 72)
        self.figure: Figure = Figure(figsize=(width / 72, 1.0), layout=layout)
        FigureCanvasAgg(self.figure)

    @property
    def narrow(self) -> bool:
        return self.width < 600

    def height(self, pixels: float) -> None:
        self.figure.set_size_inches(self.width / 72, pixels / 72)

    def axes(self, height: float) -> Axes:
        """Make the only axes of a sheet of that height."""
        self.height(height)
        return self.figure.add_subplot()

    def legend(self, handles: Sequence[Any]) -> None:
        """Put a legend below everything, in as many columns as there is room for."""
        if not handles:
            return
        longest = max(len(str(handle.get_label())) for handle in handles)
        columns = max(1, int((self.width - 20) / (0.62 * FONT * longest + 44)))
        rows = -(-len(handles) // columns)
        self.height(self.figure.get_size_inches()[1] * 72 + 18 * rows)
        self.figure.legend(
            handles=list(handles),
            loc="outside lower left",
            ncols=min(columns, len(handles)),
            frameon=False,
            borderpad=0.2,
        )


def beside(axes: Axes, at: tuple[float, float], text: str) -> None:
    """Write to the right of a point."""
    axes.annotate(text, at, (5, 0), textcoords="offset points", va="center", ha="left", color=INK.light)


class Drawing(NamedTuple):
    """A picture: the name of its files, a title, what it says for who cannot see it, and how it is drawn."""

    name: str
    title: str
    caption: str
    draw: Callable[[Sheet], None]
    column: bool = True  # of a paper: one column is wide enough


@contextmanager
def style(salt: str) -> Iterator[None]:
    """Draw within it as all pictures look; `salt`: the same picture gets the same names of elements."""
    from matplotlib import rc_context

    ink, soft = INK.light, SOFT.light
    settings: dict[str, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "pdf.fonttype": 42,
        "font.family": "DejaVu Sans",
        "font.size": FONT,
        "figure.titlesize": FONT,
        "figure.labelsize": FONT,
        "axes.titlesize": FONT,
        "axes.labelsize": FONT,
        "legend.fontsize": FONT,
        "xtick.labelsize": FONT - 1,
        "ytick.labelsize": FONT - 1,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": soft,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.facecolor": "none",
        "axes.grid": False,
        "axes.axisbelow": True,
        "grid.color": GRID.light,
        "grid.linewidth": 0.8,
        "text.color": ink,
        "xtick.color": soft,
        "ytick.color": soft,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "patch.linewidth": 0.0,
        "lines.linewidth": 1.6,
        "legend.handlelength": 1.2,
        "legend.handleheight": 0.9,
        "legend.columnspacing": 1.4,
        "path.simplify": True,
        "text.parse_math": False,  # names and values of users are no formulas
    }
    with rc_context(settings):  # type: ignore[arg-type]  # that knows each key
        yield


def inline_svg(drawing: Drawing, width: float) -> str:
    """Draw for a page: an element `svg` whose colours are variables, and whose names are its own."""
    name = f"{drawing.name}-{'w' if width >= 600 else 'n'}"
    with style(name):
        sheet = Sheet(width)
        drawing.draw(sheet)
        file = io.StringIO()
        sheet.figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _for_page(file.getvalue(), name, drawing.caption)


def _for_page(text: str, name: str, caption: str) -> str:
    from markupsafe import escape

    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: _VARIABLES.get(found[0], found[0]), text)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", text))
    numbers = count()
    names = {old: f"{name}-{next(numbers)}" for old in sorted(used)}
    text = re.sub(r" id=\"([^\"]*)\"", lambda found: f' id="{names[found[1]]}"' if found[1] in names else "", text)
    text = re.sub(r"(url\(#|href=\"#)([^\")]+)", lambda found: found[1] + names[found[2]], text)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d{2})\d+", r"\1", tag[0]), text)  # places, not what is written
    text = text.replace("'DejaVu Sans'", ", ".join(f"'{font}'" if " " in font else font for font in _FONTS))
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box[0]} role="img"'
    return f'{head} aria-label="{escape(caption)}">{text[text.index(">") + 1 :]}'


def save(drawing: Drawing, directory: Path) -> list[Path]:
    """Draw for a paper, of one or two columns' width, and write the files; return their paths."""
    with style(drawing.name):
        sheet = Sheet(_COLUMN if drawing.column else _PAGE)
        drawing.draw(sheet)
        files = [directory / f"{drawing.name}{suffix}" for suffix in SUFFIXES]
        figure = sheet.figure
        for file in files:
            metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(file.suffix)
            with writing(file), new_file(file) as opened:
                figure.savefig(opened, format=file.suffix[1:], dpi=_DPI, facecolor=PAPER.light, metadata=metadata)
    return files
