"""Damaged inputs: real ones with edits, as bytes and as trees of JSON. Knows no format but JSON."""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

Files = dict[str, bytes]  # content by name, of the directory that an input is
T = TypeVar("T")

MAX_BYTES = 2**20  # of an input: repetitions stop there
EXTREMES = [0, 1, -1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1]
EXTREMES += [-(2**31), -(2**63), 2**63, 2**64 - 1]

# Texts that stand for what `json.dumps` does not write.
DEEP, DIGITS, NUMBER = "<deep>", "<digits>", "<number>"
WRITTEN = {DEEP: "[" * 5000 + "]" * 5000, DIGITS: "9" * 5000, NUMBER: "1e999999"}
ODD_TEXTS = ["", *WRITTEN, "\ud800", "\x1b[31m", "../x", "/dev/zero", "a" * 3000, "nan", "1e400", "e\u0301", "\0"]

_numbers = st.sampled_from(EXTREMES) | st.integers(-(2**65), 2**65) | st.floats()
_texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=6)
_scalars = st.none() | st.booleans() | _numbers | _texts
_lists = st.lists(_scalars, max_size=3) | st.integers(0, 5000).map(lambda length: [0] * length)
_values = _scalars | _lists | st.dictionaries(_texts, _scalars, max_size=2)


@lru_cache(maxsize=1)
def odd_values(number: int, count: int = 300) -> list[Any]:
    """Values of all types of JSON, equal for equal numbers."""
    found: list[Any] = []

    @seed(number)
    @settings(max_examples=count, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(_values)
    def keep(value: Any) -> None:
        found.append(value)

    keep()
    return found


class Twice(str):
    """Key that can stand in an object beside an equal one."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


_REMOVED = object()


class Editor:
    """Makes random edits, the same for the same numbers."""

    def __init__(self, values_seed: int, number: int) -> None:
        self._values = odd_values(values_seed)
        self._random = Random(number)

    def choose(self, options: Sequence[T]) -> T:
        return self._random.choice(options)

    def odds(self, share: float) -> bool:
        return self._random.random() < share

    def edited(self, seeds: Sequence[bytes], words: Sequence[bytes] = (b"\0",)) -> bytes:
        """Bytes of one of the seeds with one to four edits; `words` are put in."""
        edits: list[Callable[[bytearray, int], None]] = [self._flip, self._overwrite, self._number, self._delete]
        edits += [self._repeat, lambda raw, at: self._splice(raw, at, seeds), self._cut]
        edits += [lambda raw, at: self._insert(raw, at, words)] * 2
        raw = bytearray(self.choose(seeds))
        for _ in range(self._random.randint(1, 4)):
            near = self.odds(0.5)  # the beginning: headers
            self.choose(edits)(raw, self._random.randint(0, min(len(raw), 256) if near else len(raw)))
        return bytes(raw[:MAX_BYTES])

    def _flip(self, raw: bytearray, at: int) -> None:
        raw[at : at + 1] = bytes(byte ^ 1 << self._random.randrange(8) for byte in raw[at : at + 1])

    def _overwrite(self, raw: bytearray, at: int) -> None:
        new = self._random.randbytes(self._random.randint(1, 8))
        raw[at : at + len(new)] = new

    def _number(self, raw: bytearray, at: int) -> None:
        size = self.choose([1, 2, 4, 8])
        raw[at : at + size] = (self.choose(EXTREMES) % 256**size).to_bytes(size, self.choose(["little", "big"]))

    def _insert(self, raw: bytearray, at: int, words: Sequence[bytes]) -> None:
        raw[at:at] = self.choose(words)

    def _delete(self, raw: bytearray, at: int) -> None:
        del raw[at : at + self._random.randint(1, self.choose([4, 40, 400]))]

    def _repeat(self, raw: bytearray, at: int) -> None:
        span = raw[at : at + self._random.randint(1, self.choose([4, 40, 400]))]
        raw[at:at] = span * min(self.choose([1, 1, 2, 100, 5000]), MAX_BYTES // (len(span) + 1))

    def _splice(self, raw: bytearray, at: int, seeds: Sequence[bytes]) -> None:
        other = self.choose(seeds)
        raw[at:] = other[self._random.randint(0, len(other)) :]

    def _cut(self, raw: bytearray, at: int) -> None:
        if self.odds(0.3):
            del raw[at:]

    def rearranged(self, pieces: Sequence[str], more: Sequence[str]) -> list[str]:
        """Pieces of a text with one to three others between them, and perhaps without one of their own."""
        found = list(pieces)
        for _ in range(self._random.randint(1, 3)):
            found.insert(self._random.randint(0, len(found)), self.choose(more))
        if self.odds(0.2):
            del found[self._random.randrange(len(found))]
        return found

    def value(self, words: Sequence[str]) -> Any:
        """Any value of JSON, or one of these words."""
        return self.choose(words) if words and self.odds(0.25) else self.choose(self._values)

    def edited_tree(self, trees: Sequence[Any], words: Sequence[str] = ()) -> Any:
        """One of these trees of JSON with one to four edits: other values, more, less, moved, doubled keys."""
        tree = self.choose(trees)
        for _ in range(self._random.randint(1, 4)):
            tree = self._change(tree, tree, words)
        return None if tree is _REMOVED else tree

    def _change(self, tree: Any, whole: Any, words: Sequence[str]) -> Any:
        keys = _keys(tree)
        if keys and self.odds(0.9):
            deeper = [key for key in keys if isinstance(tree[key], dict | list)]
            key = self.choose(deeper if deeper and self.odds(0.6) else keys)
            return _with(tree, key, self._change(tree[key], whole, words))
        kind = self._random.randrange(6)
        if kind == 0:
            return _REMOVED
        if kind == 1:
            return self._somewhere(whole)
        if kind == 2 and isinstance(tree, dict) and keys:
            return tree | {Twice(self.choose(keys)): self.value(words)}
        if kind in (2, 3) and isinstance(tree, dict):
            key = self.value(words)
            return tree | {key if isinstance(key, str) else "x": self.value(words)}
        if kind in (2, 3) and isinstance(tree, list) and 0 < len(tree) < 1000:
            is_flat = not any(isinstance(item, list | dict) for item in tree)
            return tree * (self.choose([2, 300]) if is_flat else 2)
        return self.value(words)

    def _somewhere(self, tree: Any) -> Any:
        """Value from any place of a tree."""
        while (keys := _keys(tree)) and self.odds(0.75):
            tree = tree[self.choose(keys)]
        return tree


def _keys(tree: Any) -> list[Any]:
    return list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []


def _with(tree: Any, key: Any, value: Any) -> Any:
    """A tree that differs in one item; the others are shared."""
    if isinstance(tree, list):
        return [*tree[:key], *([] if value is _REMOVED else [value]), *tree[key + 1 :]]
    if value is _REMOVED:
        return {name: item for name, item in tree.items() if name is not key}
    return {name: value if name is key else item for name, item in tree.items()}


def as_json(tree: Any) -> bytes:
    text = json.dumps(tree)
    for word, written in WRITTEN.items():
        text = text.replace(json.dumps(word), written)
    return text.encode()[:MAX_BYTES]
