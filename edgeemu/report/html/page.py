"""An HTML page of tiles, sections, tables and pictures. Knows the template; not what is on the page."""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from edgeemu.report.drawn.palette import ALL
from edgeemu.report.drawn.sheet import NARROW, WIDE, Drawing, inline_svg
from edgeemu.report.formats import Table
from edgeemu.report.new_file import complete_file
from edgeemu.report.printable import printable, printable_cell

OPEN_ROWS = 14  # of a table; one with more is folded


class Tile(NamedTuple):
    """A figure at the top of a page."""

    label: str
    value: str
    note: str = ""


class Section(NamedTuple):
    """A part of a page: sentences, then tables, then pictures, then long texts."""

    anchor: str
    title: str
    lines: Sequence[str] = ()
    tables: Sequence[Table] = ()
    drawings: Sequence[Drawing] = ()
    texts: Sequence[tuple[str, str]] = ()  # title and text

    @property
    def empty(self) -> bool:
        return not (self.lines or self.tables or self.drawings or self.texts)


class Picture(NamedTuple):
    """A drawing as elements of the page, for wide and for narrow screens."""

    title: str
    wide: str
    narrow: str


def render(title: str, subtitle: str, tiles: Sequence[Tile], sections: Sequence[Section]) -> Iterator[str]:
    """Yield the page's text in pieces."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    here = Path(str(files(__package__)))
    loader = FileSystemLoader(here)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"plain": printable_cell, "text": printable, "sentence": _sentence}

    def picture(drawing: Drawing) -> Picture:
        return Picture(drawing.title, *(Markup(inline_svg(drawing, width)) for width in (WIDE, NARROW)))

    template: Any = environment.get_template("page.html.j2")
    yield from template.generate(
        title=title,
        subtitle=subtitle,
        tiles=tiles,
        sections=[section for section in sections if not section.empty],
        colours=ALL,
        picture=picture,
        open_rows=OPEN_ROWS,
        style=Markup((here / "page.css").read_text(encoding="utf-8")),
    )


def _sentence(line: str) -> str:
    """Make a sentence of a line of a terminal."""
    line = printable(line.strip())
    named = line.partition(" ")[0].endswith(":")  # what begins with the name of something keeps it as it is
    return (line if named else line[:1].upper() + line[1:]) + ("" if line.endswith((".", "!", "?", ":")) else ".")


def write_page(file: Path, pieces: Iterator[str]) -> None:
    """Write a page, so that a reader finds the old file or the new one, never half of it.

    Raises:
        RecordsError: the disk refuses it.
    """
    with complete_file(file, text=True) as opened:
        opened.writelines(pieces)
