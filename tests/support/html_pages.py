"""A page read by two parsers that have not made it: its structure, its links, and the pictures in it."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

VOID = {"meta", "link", "input", "br", "hr", "img"}
SVG = "{http://www.w3.org/2000/svg}"


class ReadPage(NamedTuple):
    """Contents of a page."""

    sections: list[str]  # their ids
    tables: list[list[list[str]]]
    pictures: list[ElementTree.Element]  # for wide and for narrow screens by turns
    text: str
    references: list[str]  # to anything outside
    tags: set[str]

    def texts(self, picture: int) -> list[str]:
        """Texts of a picture."""
        return [each.text or "" for each in self.pictures[picture].iter(f"{SVG}text")]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.sections: list[str] = []
        self.references: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.text: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert not name.startswith("on"), "no script"
            if name == "id":
                self.ids.append(value or "")
                if tag == "section":
                    self.sections.append(value or "")
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.references.append(value or "")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}>, line {self.getpos()[0]}"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if "style" not in self.open and "svg" not in self.open:
            self.text.append(data)


def read_page(file: Path) -> ReadPage:
    """Read a page, and check what every page has to be: whole, with names of its own, and without a reference."""
    content = file.read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(content)
    reader.close()
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids)), "an id stands twice"
    inside = {f"#{each}" for each in reader.ids}
    outside = [each for each in reader.references if each not in inside and each != "data:,"]
    outside += [each for each in re.findall(r"url\(([^)]*)\)|@import", content) if each.strip("\"'") not in inside]
    pictures = [ElementTree.fromstring(each) for each in re.findall(r"<svg.*?</svg>", content, re.DOTALL)]
    return ReadPage(reader.sections, reader.tables, pictures, "".join(reader.text), outside, reader.tags)
