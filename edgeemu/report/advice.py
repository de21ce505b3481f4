"""Choice among changes to a cluster with known figures: the least that reaches a target, and those none beats. Pure.

An option is a combination of changes; the empty one is the cluster as it is. What a change costs beside the price of
boards is not known in money: a faster link needs a switch and adapters, a smaller format gives other answers. So an
option is never beaten by one that has more of these.
"""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from math import fsum, inf
from typing import NamedTuple, Self

from edgeemu.errors import RequestError
from edgeemu.units import DURATION

_RATE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?:tokens?|tok|t)\s*(?:/\s*s|per second)\s*")
_NOISE = 1e-9  # relative


class ChangeKind(StrEnum):
    """Kind of thing that is changed."""

    BOARDS = "boards"
    LINK = "link"
    PRECISION = "precision"
    POLICY = "policy"


class ScenarioChange(NamedTuple):
    """Change to a scenario. `settings` make it, as `--set` writes them; `things`: boards, links, steps of a format."""

    kind: ChangeKind
    words: str
    things: int
    settings: tuple[str, ...]
    added_usd: float | None = 0.0  # for boards; None: not known


class Figures(NamedTuple):
    """Figures of a simulated run. Tokens count after the first of each sequence; energy counts all, prompts too."""

    token_s: float  # mean time of a token
    tokens_per_s: float  # of all sequences together, while any generates
    ttft_s: float  # mean time to the first token
    token_j: float | None  # None: a power or an energy per bit is not known
    price_usd: float | None  # of the boards; None: not known


class Option(NamedTuple):
    """Combination of changes, and its figures; without figures, `problem` says why there are none."""

    changes: tuple[ScenarioChange, ...]
    figures: Figures | None
    problem: str = ""

    @property
    def words(self) -> str:
        return " + ".join(change.words for change in self.changes) or "nothing changed"

    @property
    def settings(self) -> tuple[str, ...]:
        return tuple(setting for change in self.changes for setting in change.settings)

    @property
    def things(self) -> int:
        return sum(change.things for change in self.changes)

    @property
    def added_usd(self) -> float | None:
        added = [change.added_usd for change in self.changes]
        return None if None in added else fsum(each for each in added if each is not None)

    def things_of(self, kind: ChangeKind) -> int:
        """Number of things of one kind that are changed."""
        return sum(change.things for change in self.changes if change.kind is kind)

    @property
    def cost(self) -> tuple[int, int, float, float]:
        """Key by which options are less than others: kinds of change, things, price added (unknown: last), time."""
        added, figures = self.added_usd, self.figures
        token_s = inf if figures is None else figures.token_s
        return len(self.changes), self.things, inf if added is None else added, token_s


class Target(NamedTuple):
    """Speed to be reached: as a rate, or as time per token; and the time to the first token, if that matters."""

    rate_tok_s: float | None
    token_s: float | None
    ttft_s: float | None = None

    @classmethod
    def read(cls, text: str, ttft: str | None = None) -> Self:
        """Read `5 tokens/s` or `200 ms`, and a time to the first token. Raises RequestError."""
        ttft_s = None if ttft is None else _duration_s(ttft, "--ttft")
        if match := _RATE.fullmatch(text):
            if (rate := float(match[1])) <= 0:
                raise RequestError(f'"{text}" is no speed; write more than 0 tokens/s', field="--target")
            return cls(rate, None, ttft_s)
        return cls(None, _duration_s(text, "--target"), ttft_s)

    def margin(self, figures: Figures) -> float:
        """Share by which the slowest of what is asked is quicker than asked; negative: it is not reached."""
        margins = []
        if self.rate_tok_s is not None:
            margins.append(figures.tokens_per_s / self.rate_tok_s - 1)
        if self.token_s is not None:
            margins.append(self.token_s / figures.token_s - 1)
        if self.ttft_s is not None:
            margins.append(self.ttft_s / figures.ttft_s - 1)
        return min(margins)

    def is_met(self, option: Option) -> bool:
        """Whether an option reaches it."""
        return option.figures is not None and self.margin(option.figures) >= -_NOISE

    def __str__(self) -> str:
        speed = f"{self.rate_tok_s:g} tokens/s" if self.rate_tok_s is not None else ""
        time = f"{DURATION.format_human(self.token_s)} per token" if self.token_s is not None else ""
        first = f"first token within {DURATION.format_human(self.ttft_s)}" if self.ttft_s is not None else ""
        return ", ".join(filter(None, (speed or time, first)))


def _duration_s(text: str, option: str) -> float:
    try:
        return float(DURATION.above_zero().parse(text))
    except RequestError as error:
        rate = "" if option != "--target" else "; a speed is e.g. 5 tokens/s"
        raise RequestError(f"{error.message}{rate}", field=option) from error


def that_reach(options: Iterable[Option], target: Target) -> list[Option]:
    """Options that reach a target, the least first."""
    return sorted(filter(target.is_met, options), key=lambda option: option.cost)


def nearest(options: Iterable[Option], target: Target) -> list[Option]:
    """Options by how near they come to a target, the nearest first; of equally near ones, the least."""
    known = [(target.margin(option.figures), option) for option in options if option.figures is not None]
    return [option for _, option in sorted(known, key=lambda item: (-item[0], item[1].cost))]


Goods = tuple[float, ...]  # figures of which more is better


def beats(one: Goods, other: Goods) -> bool:
    """Whether one is nowhere worse and somewhere better."""
    return one != other and all(mine >= theirs for mine, theirs in zip(one, other, strict=True))


def unbeaten(goods: Sequence[Goods]) -> list[int]:
    """Indexes of those that no other beats: the Pareto front."""
    return [n for n, mine in enumerate(goods) if not any(beats(other, mine) for other in goods)]


class Front(NamedTuple):
    """Options that none beats, the fastest first, each set of figures once; and what they could not be compared by."""

    options: list[Option]
    energy: bool  # whether energy counts
    price: bool  # whether the price of boards counts
    left_out: list[Option]  # an energy or a price is not known


def pareto_front(options: Sequence[Option]) -> Front:
    """Find the front of speed, energy and price, as far as these are known of the first option that has figures."""
    known = [option.figures for option in options if option.figures is not None]
    energy, price = bool(known) and known[0].token_j is not None, bool(known) and known[0].price_usd is not None
    compared: list[Option] = []
    left_out: list[Option] = []
    for option in options:
        if (figures := option.figures) is not None:
            lacks = (energy and figures.token_j is None) or (price and figures.price_usd is None)
            (left_out if lacks else compared).append(option)
    goods = [_goods(option, energy=energy, price=price) for option in compared]
    found: dict[Goods, Option] = {}
    for n in sorted(unbeaten(goods), key=lambda n: compared[n].cost):
        found.setdefault(goods[n], compared[n])
    return Front([found[mine] for mine in sorted(found, reverse=True)], energy, price, left_out)


def _goods(option: Option, *, energy: bool, price: bool) -> Goods:
    figures = option.figures
    assert figures is not None, "only options with figures are compared"
    money = [-figures.token_j] if energy and figures.token_j is not None else []
    money += [-figures.price_usd] if price and figures.price_usd is not None else []
    unpriced = (-option.things_of(kind) for kind in (ChangeKind.LINK, ChangeKind.PRECISION))
    return (figures.tokens_per_s, *money, *unpriced)
