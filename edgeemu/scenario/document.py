"""YAML text parsed to plain data, with the line of every value. Knows YAML; nothing of scenarios.

Scalars follow YAML 1.2's core schema, not 1.1's: `no` and `on` are text, `1e9` is a number, `1:30` is text.
Keys are text and must not repeat. Anchors work, and so do the merge keys (<<) of YAML 1.1; tags are refused.
"""

import contextlib
import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from edgeemu.errors import RequestError

Key = str | int
Position = tuple[Key, ...]  # of a value in the data: ("devices", 2, "memory")

_MAX_DEPTH = 50
_MAX_VALUES = 500_000  # read and checked, they take less than 200 MB and 3 s
_MAX_CHARACTERS = 8 << 20
_MAX_DIGITS = 100
_SLOWLY_READ = 1 << 17  # characters up to which a text that is no YAML is read once more, in Python
_MERGE = "<<"
_WIDTH = 200  # of written lines
_FLOAT = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)
_INT = re.compile(r"[-+]?\d+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_NO_YAML = yaml.reader.Reader.NON_PRINTABLE  # YAML 1.1, 5.1
_QUANTITY = re.compile(r"\d+(\.\d+)? [A-Za-z]+(/[A-Za-z]+)?", re.ASCII)  # needs no quotes
_PATH = re.compile(r"[\w-]+(\[\d{1,9}\])*(\.[\w-]+(\[\d{1,9}\])*)*", re.ASCII)
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_SAFE_LOADER = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader
_SAFE_DUMPER = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper


@dataclass
class Document:
    """Data of a file, and the place of each value in it."""

    data: Any
    file: str
    lines: dict[Position, int] = field(default_factory=dict)
    overrides: dict[Position, str] = field(default_factory=dict)  # values that an option has set, with its name
    files: dict[Position, str] = field(default_factory=dict)  # of values that were read from another file

    def error(self, position: Position, message: str) -> RequestError:
        """Error about the value at `position`: its file, line and field, or the option that set it."""
        for length in range(len(position), 0, -1):
            if position[:length] in self.overrides:
                return RequestError(message, field=f"{self.overrides[position[:length]]} {field_name(position)}")
        known = next((position[:n] for n in range(len(position), -1, -1) if position[:n] in self.lines), None)
        line = self.lines[known] if known is not None else None
        file = next((self.files[position[:n]] for n in range(len(position), 0, -1) if position[:n] in self.files), None)
        return RequestError(message, file=file or self.file, line=line, field=field_name(position) or None)

    def include(self, key: str, other: "Document") -> None:
        """Take the value of a top-level key from another document, with its file and lines."""
        self.data[key] = other.data[key]
        self.lines |= {position: line for position, line in other.lines.items() if position[:1] == (key,)}
        self.files[key,] = other.file
        self.overrides.pop((key,), None)


def field_name(position: Position) -> str:
    """Name of a field from its position: `devices[2].memory`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in position)
    return text.removeprefix(".")


def position_of(field: str) -> Position:
    """Position of a field from its name, the inverse of `field_name`."""
    return tuple(name or int(index) for name, index in re.findall(r"([\w-]+)|\[(\d+)\]", field))


def read(text: str, file: str) -> Document:
    """Parse the one document in `text`. Raises `RequestError` with file and line where it is not plain YAML."""
    if len(text) > _MAX_CHARACTERS:
        why = f"has {len(text):,} characters; at most {_MAX_CHARACTERS:,} are read of a scenario"
        raise RequestError(f"{why}. Put prompts, arrivals and traces into files of their own", file=file)
    if refused := _NO_YAML.search(text):
        line = text.count("\n", 0, refused.start()) + 1
        raise RequestError(f"not YAML: it has the character U+{ord(refused[0]):04X}", file=file, line=line)
    try:
        return _read(text, file, _SAFE_LOADER)
    except yaml.MarkedYAMLError as error:
        # The C parser can give up before `_Reader` sees the events that it would refuse, in its own words.
        if len(text) <= _SLOWLY_READ:
            with contextlib.suppress(yaml.MarkedYAMLError):
                _read(text, file, yaml.BaseLoader)
        mark = error.problem_mark or error.context_mark
        why = ", ".join(part for part in (error.context, error.problem) if part)
        raise RequestError(f"not YAML: {why}", file=file, line=mark.line + 1 if mark else None) from error


def _read(text: str, file: str, loader: Any) -> Document:
    document = Document(None, file, {(): 1})
    _Reader(document, yaml.parse(text, Loader=loader)).read()
    return document


class Inline(dict[str, Any]):
    """Mapping that is written on one line."""


class Lines(dict[str | int, Any]):
    """Mapping that is written with a line for each key."""


def write(data: Any) -> str:
    """Write plain data as YAML that `read`, and any reader of YAML 1.1, reads back to equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH, default_flow_style=None)


def inline_items(items: Sequence[Inline]) -> str:
    """Write a list of mappings as `write` does, a hundred thousand values in a moment; "": a line would be too long."""
    texts: dict[tuple[type, Any], str] = {}

    def text(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join([f"{key}: {text(inner)}" for key, inner in value.items()]) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(text, value)) + "]"
        known = type(value), value
        found = texts.get(known)
        if found is None:
            quantity = isinstance(value, str) and _QUANTITY.fullmatch(value)
            found = texts[known] = value if quantity else write([value]).strip()[1:-1]
        return found

    lines = [f"- {text(item)}\n" for item in items]
    return "" if any(len(line) > _WIDTH - 10 or line.count("\n") > 1 for line in lines) else "".join(lines)


def override(document: Document, setting: str, shorthands: Mapping[Position, str], name: str = "--set") -> None:
    """Apply one `--set PATH=VALUE`, or what another option of this form says, to a document; VALUE is YAML.

    `shorthands` has, by position, the key that bare text in place of a mapping stands for (`model: x` means
    `model: {name: x}`), so that a setting inside it finds a mapping.
    """
    path, equals, text = setting.partition("=")
    option = f"{name} {path.strip()}"
    if not equals or not path.strip():
        raise RequestError("write PATH=VALUE, e.g. devices[2].memory=1GiB", field=f"{name} {setting}")
    if not _PATH.fullmatch(path.strip()):
        raise RequestError("not a path (write e.g. devices[2].memory)", field=option)
    position = position_of(path.strip())
    if len(position) > _MAX_DEPTH:
        raise RequestError("nested too deeply", field=f"{name} {field_name(position[:3])}")
    try:
        value = read(text, option).data
    except RequestError as error:
        raise RequestError(error.message, field=option) from error
    if document.data is None:
        document.data = {}
    holder: Any = document.data
    for depth, key in enumerate(position):
        at = position[:depth]
        last = depth == len(position) - 1
        _check_step(holder, key, at, option)
        if last:
            holder[key] = value
        else:
            inner = holder[key] if isinstance(key, int) else holder.get(key)
            if inner is None:
                inner = {}
            elif position[: depth + 1] in shorthands and isinstance(inner, str):
                inner = {shorthands[position[: depth + 1]]: inner}
            holder[key] = copy.copy(inner)  # a YAML alias can share it with another place
            holder = holder[key]
    document.overrides[position] = name


def _check_step(holder: Any, key: Key, at: Position, option: str) -> None:
    where = field_name(at) or "the scenario"
    if isinstance(key, int):
        if not isinstance(holder, list):
            raise RequestError(f"{where} is not a list", field=option)
        if key >= len(holder):
            raise RequestError(f"{where} has {len(holder)} entries, the last is [{len(holder) - 1}]", field=option)
    elif not isinstance(holder, dict):
        hint = " (write e.g. [0])" if isinstance(holder, list) else ""
        raise RequestError(f"{where} is not a mapping{hint}", field=option)


class _Anchored(NamedTuple):
    """Value with an anchor: its data, how many values it has with those in it, and how deep they are nested."""

    data: Any
    values: int
    height: int


class _Reader:
    """Composer of the parser's events to data with lines. (PyYAML's own composer can overflow the stack.)"""

    def __init__(self, document: Document, events: Iterator[Any]) -> None:
        self._document = document
        self._events = events
        self._anchored: dict[str, _Anchored] = {}
        self._values = 0
        self._deepest = 0

    def read(self) -> None:
        n_documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                n_documents += 1
                if n_documents > 1:
                    raise self._error(event, (), "a second document begins here; there can be one")
                self._document.data = self._value(next(self._events), (), 0)

    def _value(self, event: Any, position: Position, above: int) -> Any:
        """Value that begins with an event. Its line is noted if it is not that of the value above, which holds it."""
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event, position)
        if event.tag not in (None, "!"):
            raise self._error(event, position, f"the tag {event.tag} is not supported here")
        self._count(event, position, 1, 0)
        line, values, outside = _line(event), self._values, self._deepest
        self._deepest = len(position)
        if line != above:
            self._document.lines.setdefault(position, line)
        noted = self._document.lines.get(position, line)
        if isinstance(event, yaml.ScalarEvent):
            plain = not event.style and event.tag is None
            found = self._plain(event, position) if plain else event.value
        elif isinstance(event, yaml.SequenceStartEvent):
            found = self._items(position, noted)
        else:
            found = self._entries(position)
        if event.anchor is not None:
            height = self._deepest - len(position)
            self._anchored[event.anchor] = _Anchored(found, self._values - values + 1, height)
        self._deepest = max(outside, self._deepest)
        return found

    def _aliased(self, event: Any, position: Position) -> Any:
        if event.anchor not in self._anchored:
            raise self._error(event, position, f"there is no complete value named &{event.anchor} before")
        anchored = self._anchored[event.anchor]
        self._count(event, position, anchored.values, anchored.height)
        self._deepest = max(self._deepest, len(position) + anchored.height)
        return anchored.data

    def _count(self, event: Any, position: Position, values: int, height: int) -> None:
        """Refuse what would take long to check: each alias counts as often as it stands for its values."""
        self._values += values
        if self._values > _MAX_VALUES:
            raise self._error(event, position[:3], f"more than {_MAX_VALUES:,} values, aliases written out")
        if len(position) + height > _MAX_DEPTH:
            raise self._error(event, position[:3], "nested too deeply")

    def _items(self, position: Position, line: int) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.append(self._value(event, (*position, len(found)), line))
        return found

    def _entries(self, position: Position) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[dict[str, Any]] = []
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._error(event, position, "a key must be text")
            key, line, inner = event.value, _line(event), (*position, event.value)
            if key in lines:
                raise self._error(event, position, f'the key "{key}" is here twice (first on line {lines[key]})')
            lines[key] = self._document.lines[inner] = line
            value = self._value(next(self._events), inner, line)
            if key == _MERGE and not event.style:
                merged = self._mappings(event, value, position)
            else:
                found[key] = value
        for mapping in merged:  # own keys win, then earlier mappings: yaml.org/type/merge.html
            for key, value in mapping.items():
                if key not in found:
                    found[key] = value
                    self._document.lines.setdefault((*position, key), lines[_MERGE])
        return found

    def _mappings(self, event: Any, value: Any, position: Position) -> list[dict[str, Any]]:
        mappings = value if isinstance(value, list) else [value]
        if not all(isinstance(mapping, dict) for mapping in mappings):
            raise self._error(event, position, "a merge key (<<) takes a mapping, or a list of mappings")
        return mappings

    def _plain(self, event: Any, position: Position) -> Any:
        text: str = event.value
        if text in _WORDS or (text.lower() in _WORDS and (text.istitle() or text.isupper())):
            return _WORDS[text.lower()]
        is_integer = _INT.fullmatch(text)
        if not is_integer and not _FLOAT.fullmatch(text):
            return text
        if len(text) > _MAX_DIGITS:
            raise self._error(event, position, f"a number of {len(text)} characters; at most {_MAX_DIGITS} are read")
        if is_integer:
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))

    def _error(self, event: Any, position: Position, message: str) -> RequestError:
        return RequestError(message, file=self._document.file, line=_line(event), field=field_name(position) or None)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


class _Dumper(_SAFE_DUMPER):  # type: ignore[misc,valid-type]
    """Dumper that quotes text which YAML 1.2 would read as a number (PyYAML knows YAML 1.1), and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


_Dumper.add_representer(
    Inline, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)
)
_Dumper.add_representer(
    Lines, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=False)
)
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(rf"^(?:{_FLOAT.pattern}|{_INT.pattern})$"), list("-+.0123456789")
)
