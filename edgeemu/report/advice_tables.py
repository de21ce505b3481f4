"""Tables, sentences and document of an advice: what reaches the target, what bounds it, what no other change beats."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from edgeemu.report.advice import ChangeKind, Front, Option, Target, nearest
from edgeemu.report.basis import Basis, basis_document, basis_line
from edgeemu.report.critical.breakdown import Breakdown, breakdown_document, breakdown_lines
from edgeemu.report.formats import Table, counted, ms_text, number_text
from edgeemu.units import FRACTION

MOST_ROWS = 8  # of a table of the page; the document has all
MOST_REFUSED = 3  # options without figures of which the page says why
NOT_SHOWN = ("first token", "J/token", "per token")  # columns that go first where there is no room


class Cut(NamedTuple):
    """Cuts, so that the simulations end soon: the most tokens that a sequence had, and would have; changes left out."""

    tokens: int
    of: int
    changes: int


class SpeedAdvice(NamedTuple):
    """Everything that is told of options that were simulated for a target.

    `lost` and `possible_ms`: of the option that comes nearest, where none reaches the target: where its time goes, and
    the time per token that no placement beats.
    """

    target: Target
    options: Sequence[Option]  # the first one is the scenario as it is
    reached: Sequence[Option]  # the least first
    front: Front
    basis: Basis  # of the option that is advised, or comes nearest
    engine: str  # name; "": none, devices and links alone
    unpriced: tuple[str, ...]  # kinds of devices of the scenario whose price is not known
    cut: Cut
    lost: Breakdown | None
    possible_ms: float | None

    @property
    def shown(self) -> Option | None:
        """The option that is advised, else that which comes nearest; None: nothing runs at all."""
        return next(iter(self.reached or nearest(self.options, self.target)), None)


def advice_document(judged: SpeedAdvice) -> dict[str, Any]:
    """Make the JSON document of an advice."""
    shown, target = judged.shown, judged.target
    return {
        "target": {"text": str(target), **target._asdict()},
        "reached": bool(judged.reached),
        "unchanged": _entry(judged.options[0], target),
        "advised": _entry(judged.reached[0], target) if judged.reached else None,
        "nearest": None if shown is None else _entry(shown, target),
        "that_reach": [option.words for option in judged.reached],
        "bounded_by": None if judged.lost is None else breakdown_document(judged.lost),
        "possible_ms_per_token": judged.possible_ms,
        "within_error": _within_error(judged),
        "front": [option.words for option in judged.front.options],
        "front_of": _dimensions(judged.front),
        "options": [_entry(option, target) for option in judged.options],
        "cut": judged.cut._asdict(),
        "basis": basis_document(judged.basis),
    }


def _entry(option: Option, target: Target) -> dict[str, Any]:
    figures = option.figures
    return {
        "change": option.words,
        "kinds": [str(change.kind) for change in option.changes],
        "things": option.things,
        "settings": list(option.settings),
        "added_usd": option.added_usd,
        "ms_per_token": None if figures is None else 1000 * figures.token_s,
        "tokens_per_s": None if figures is None else figures.tokens_per_s,
        "ttft_ms": None if figures is None else 1000 * figures.ttft_s,
        "j_per_token": None if figures is None else figures.token_j,
        "price_usd": None if figures is None else figures.price_usd,
        "margin": None if figures is None else target.margin(figures),
        "problem": option.problem or None,
    }


def advice_tables(judged: SpeedAdvice) -> Iterator[Table]:
    """Make the tables: options that reach the target or come nearest, and the front."""
    unchanged = judged.options[0]
    if judged.reached:
        listed = list(judged.reached[:MOST_ROWS])
        title = "reaches the target, least first"
    else:
        listed = nearest(judged.options, judged.target)[:MOST_ROWS]
        title = "nearest to the target"
    listed += [unchanged] if unchanged not in listed and unchanged.figures else []
    if listed:
        yield _table(title, listed, judged.front)
    if judged.front.options:
        yield _table(f"unbeaten in {_listed(_dimensions(judged.front))}", judged.front.options, judged.front)


def _table(title: str, options: Iterable[Option], front: Front) -> Table:
    columns = [title, ">tokens/s", ">per token", ">first token"]
    columns += [">J/token"] if front.energy else []
    columns += [">boards"] if front.price else []
    rows = [_row(option, front) for option in options]
    return Table(columns, rows, NOT_SHOWN)


def _row(option: Option, front: Front) -> list[str]:
    figures = option.figures
    assert figures is not None, "options without figures are in no table"
    row = [
        option.words,
        number_text(figures.tokens_per_s, 2),
        ms_text(1000 * figures.token_s),
        ms_text(1000 * figures.ttft_s),
    ]
    row += ["–" if figures.token_j is None else number_text(figures.token_j, 2)] if front.energy else []
    row += ["–" if figures.price_usd is None else f"${figures.price_usd:,.0f}"] if front.price else []
    return row


def command_line(judged: SpeedAdvice, command: Sequence[str]) -> str:
    """Write the command that shows a plan with the settings of the advice; `command`: its words without them."""
    settings = () if judged.shown is None else judged.shown.settings
    return shlex.join([*command, *(part for setting in settings for part in ("--set", setting))])


def advice_lines(judged: SpeedAdvice) -> Iterator[str]:
    """Say what to do, how surely, and on what the figures rest."""
    target, shown = judged.target, judged.shown
    if judged.reached:
        yield _least(judged, judged.reached[0])
    else:
        yield f"target {target}: nothing of {counted(len(judged.options), 'simulation')} reaches it"
        yield from _bounded(judged)
    if shown is not None:
        yield from _error_lines(judged)
        yield from _unknown_costs(judged, shown)
    yield from _refused(judged.options)
    yield from _front_lines(judged)
    yield from _cut_lines(judged.cut)
    yield basis_line(basis_document(judged.basis))


def _least(judged: SpeedAdvice, advised: Option) -> str:
    if not advised.changes:
        return f"target {judged.target}: nothing has to change"
    added = advised.added_usd
    price = (
        "" if not added else f", ${added:,.0f} more for boards" if added > 0 else f", ${-added:,.0f} less for boards"
    )
    order = "fewest kinds of change, then fewest things, then the least price of boards"
    return f"target {judged.target}: the least change is {advised.words}{price} ({order})"


def _bounded(judged: SpeedAdvice) -> Iterator[str]:
    shown, lost = judged.shown, judged.lost
    if shown is None or shown.figures is None or lost is None:
        return
    figures = shown.figures
    speed = f"{number_text(figures.tokens_per_s, 2)} tokens/s, {ms_text(1000 * figures.token_s)} per token"
    yield f"the nearest is {shown.words}: {speed}, first token after {ms_text(1000 * figures.ttft_s)}"
    yield from (f"what bounds it: {line}" if not n else line for n, line in enumerate(breakdown_lines(lost)))
    if judged.possible_ms is not None:
        yield f"possible there: no placement, divided or not, has less than {ms_text(judged.possible_ms)} per token"


def _within_error(judged: SpeedAdvice) -> bool | None:
    """Whether a target is reached or missed by less than predictions were off; None: nobody knows how far they are."""
    shown = judged.shown
    if judged.basis.held is None or shown is None or shown.figures is None:
        return None
    return abs(judged.target.margin(shown.figures)) < judged.basis.held.worst_error


def _error_lines(judged: SpeedAdvice) -> Iterator[str]:
    shown = judged.shown
    assert shown is not None
    assert shown.figures is not None
    margin = judged.target.margin(shown.figures)
    done = f"{'reaches' if judged.reached else 'misses'} it by {number_text(100 * abs(margin), 1)} %"
    held, within = judged.basis.held, _within_error(judged)
    if held is None or within is None:
        yield f"{shown.words} {done}; how far such predictions are off is not known"
        return
    worst = f"predictions for such boards were off by {FRACTION.format_human(held.worst_error)} at most"
    yield f"{shown.words} {done}: {f'within the error, {worst}' if within else f'more than the error: {worst}'}"


def _unknown_costs(judged: SpeedAdvice, shown: Option) -> Iterator[str]:
    """Say what a change costs beside boards, and whether software can do it."""
    kinds = [change.kind for change in shown.changes]
    if ChangeKind.LINK in kinds:
        yield "a faster link needs a switch, and adapters where boards have none: their price is not known"
    if ChangeKind.PRECISION in kinds:
        yield "a smaller format changes the answers: how much is not known here"
    if judged.engine and {ChangeKind.PRECISION, ChangeKind.POLICY} & set(kinds):
        yield f"whether {judged.engine} can do that is not known here: its documents say"


def _refused(options: Sequence[Option]) -> Iterator[str]:
    refused = [option for option in options if option.figures is None]
    refused.sort(key=lambda option: (option.added_usd or 0.0) < 0)  # fewer boards help few
    for number, option in enumerate(refused[:MOST_REFUSED], 1):
        more = len(refused) - MOST_REFUSED if number == MOST_REFUSED else 0
        yield f"cannot be: {option.words}: {option.problem}{f' (and {more} more: --json)' if more > 0 else ''}"


def _front_lines(judged: SpeedAdvice) -> Iterator[str]:
    front = judged.front
    yield (
        "unbeaten: no other is as good in all of these and better in one, without a faster link or a smaller format "
        "that it lacks"
    )
    if front.price:
        yield (
            "boards: the price of all boards and nothing else, a replaced board's not among them; edgeemu devices NAME "
            "has the year and source of each"
        )
    elif judged.unpriced:
        yield f"price is not compared: that of {_some(judged.unpriced)} is not known"
    if front.options and not front.energy:
        yield "energy is not compared: a power or an energy per bit is not known, which edgeemu simulate names"
    if front.left_out:
        what = " or ".join(_dimensions(front)[1:])
        yield f"not compared, because their {what} is not known: {_some([option.words for option in front.left_out])}"


def _cut_lines(cut: Cut) -> Iterator[str]:
    if cut.tokens < cut.of:
        yield f"sequences of at most {cut.tokens} tokens were simulated, not {cut.of}: caches are shorter"
    if cut.changes:
        yield f"not simulated: {counted(cut.changes, 'more change')} of more things"


def _dimensions(front: Front) -> list[str]:
    return ["speed", *(["energy"] if front.energy else []), *(["price"] if front.price else [])]


def _listed(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - MOST_REFUSED} more" if len(words) > MOST_REFUSED else ""
    return ", ".join(words[:MOST_REFUSED]) + more
