"""How the page is written: figures, sentences, tables. A sentence that brings a figure of its own is refused."""

import re
from collections.abc import Callable, Iterable, Sequence
from statistics import quantiles
from typing import NamedTuple

BARE_FIGURE = re.compile(r"(?<![\w`])\d")


class Claim(NamedTuple):
    """A row of a paper's table. `said` is quoted from the source and may have figures; nothing else may."""

    said: str
    source: str  # P, A, N or D, as the page explains
    ours: str
    command: str
    difference: str


def sentence(template: str, **figures: str) -> str:
    """A sentence with figures put in. ValueError: it has one that no run has made."""
    without_fields = re.sub(r"\{\w+\}", "", template)
    if found := BARE_FIGURE.search(without_fields):
        raise ValueError(f"a figure is typed by hand at {without_fields[found.start() :][:30]!r}")
    return template.format(**figures)


def claims_table(claims: Iterable[Claim]) -> str:
    rows = [(f"{c.said} [{c.source}]", c.ours, f"`{c.command}`", c.difference) for c in claims]
    return table(("claim", "here", "from", "difference"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; columns whose heading begins with `>` are flush right."""
    names = [name.removeprefix(">") for name in head]
    rule = ["---:" if name.startswith(">") else "---" for name in head]
    lines = [names, rule, *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def percent(share: float, digits: int = 0) -> str:
    """12 %; with a true minus below zero, and none where all that is shown is zero."""
    shown = f"{100 * share:.{digits}f}"
    return f"{shown.lstrip('-') if float(shown) == 0 else shown.replace('-', '−')} %"


def change(share: float, digits: int = 0) -> str:
    """By how much something grew or fell, with its sign: +12 %, −3 %."""
    shown = percent(share, digits)
    return shown if shown.startswith("−") or float(shown.split()[0]) == 0 else f"+{shown}"


def times(factor: float) -> str:
    return f"{factor:.1f} ×" if factor < 9.95 else f"{factor:.0f} ×"


def duration(seconds: float) -> str:
    if seconds < 1.0:
        return f"{significant(1e3 * seconds)} ms"
    return f"{significant(seconds)} s"


def size(count: float) -> str:
    unit, name = next((u, n) for u, n in ((1e9, "GB"), (1e6, "MB"), (1.0, "B")) if count >= u or u == 1.0)
    return f"{significant(count / unit)} {name}"


def rate(tokens_per_s: float) -> str:
    return significant(tokens_per_s)


def significant(value: float, digits: int = 3) -> str:
    """Without exponents: 1234, 12.3, 0.0123."""
    if value == 0.0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}"
    return f"{value:#.{digits}g}"


class Spread(NamedTuple):
    """Median, quartiles and extremes over clusters."""

    least: float
    low: float
    median: float
    high: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        low, median, high = quantiles(values, n=4, method="inclusive")
        return cls(min(values), low, median, high, max(values))

    def shown(self, form: Callable[[float], str]) -> str:
        """Median, and least to most."""
        return f"{form(self.median)} ({form(self.least)} to {form(self.most)})"


def where(value: float, low: float, high: float) -> str:
    """`below`, `within` or `above` a claimed range."""
    return "below" if value < low else "above" if value > high else "within"


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
