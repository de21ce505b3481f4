"""A picture on a page has its style from the page, and its texts as they were written."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edgeemu.report.drawn.palette import ALL, DEVICES, INK
from edgeemu.report.drawn.sheet import NARROW, WIDE, Drawing, Sheet, inline_svg, save


def draw(sheet: Sheet) -> None:
    axes = sheet.axes(200)
    line = axes.plot([0.0, 1.0], [0.0, 1.0], color=DEVICES[0].light, label="0.123456 <b> & co")
    axes.set_xlabel("time (s)")
    sheet.legend(line)


DRAWING = Drawing("some", "Some", 'a "caption" <b>', draw)


def texts_of(svg: str) -> list[str | None]:
    return [each.text for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_picture_of_a_page(width: int) -> None:
    text = inline_svg(DRAWING, width)
    element = ElementTree.fromstring(text)
    assert element.get("role") == "img"
    assert element.get("aria-label") == DRAWING.caption
    assert element.get("viewBox", "").split()[2] == str(width)
    assert {"time (s)", "0.123456 <b> & co"} <= set(texts_of(text))
    assert not re.findall("|".join(colour.light for colour in ALL), text), "a colour that the page cannot change"
    assert f"var(--{DEVICES[0].name})" in text
    assert f"var(--{INK.name})" in text


def test_names_with_dollars_are_no_formulas(tmp_path: Path) -> None:
    name = "costs $5_{ and $6"
    drawing = DRAWING._replace(draw=lambda sheet: sheet.legend(sheet.axes(200).plot([0.0], [0.0], label=name)))
    assert name in texts_of(inline_svg(drawing, WIDE))
    svg, *_ = save(drawing, tmp_path)
    assert name in texts_of(svg.read_text())


def test_names_in_pictures_are_their_own() -> None:
    texts = [inline_svg(DRAWING, width) for width in (WIDE, NARROW)]
    names = [re.findall(r' id="([^"]*)"', text) for text in texts]
    assert names[0]
    assert len({*names[0], *names[1]}) == len(names[0]) + len(names[1])


def test_a_narrow_picture_has_its_legend_in_lines() -> None:
    def several(sheet: Sheet) -> None:
        axes = sheet.axes(100)
        sheet.legend([axes.plot([0, 1], [0, n], label=f"a rather long name {n}")[0] for n in range(5)])

    heights = [
        float(
            ElementTree.fromstring(inline_svg(Drawing("some", "S", "c", several), width)).get("viewBox", "").split()[3]
        )
        for width in (WIDE, NARROW)
    ]
    assert heights[1] > heights[0] > 100


def test_files_for_a_paper(tmp_path: Path) -> None:
    files = save(DRAWING, tmp_path)
    assert [file.name for file in files] == ["some.svg", "some.pdf", "some.png"]
    assert DEVICES[0].light in files[0].read_text(), "paper is white"
