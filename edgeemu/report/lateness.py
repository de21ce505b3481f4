"""How late a paced run was: its tokens and its operations against the wall clock. Read in batches.

Pauses are kept apart from a host that is too slow: a pause makes a token late at once, and those after it until the run
has caught up. The operations of all of these are left out of what the others are judged by.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.report.figures import RecordTables, TokenFigures, column_of
from edgeemu.report.statistics import BatchedPercentile, Floats, in_order
from edgeemu.report.thresholds import (
    ALLOWED_LAG_OF_TOKEN,
    INVALID_CLOCK,
    INVALID_FIRST_CLOCK,
    MIN_LAG_WALL_S,
    PAUSE_SHARE,
    PAUSE_WALL_S,
    PAUSES,
    WARN_CLOCK,
    WARN_DELAYED,
    WARN_FIRST_CLOCK,
    WARN_LAG_OF_TOKEN,
)

if TYPE_CHECKING:
    import pyarrow as pa

MARGIN = 1.2  # of a dilation that is said to pass


class Pause(NamedTuple):
    """A token that came later than the one before by the clock, not by the timeline, unlike the others."""

    wall_s: float
    sequence: int
    step: int
    migrating: bool  # whether blocks moved meanwhile: the host took so much longer to move them than the timeline does


class Pauses(NamedTuple):
    """Pauses of a run, and the tokens that were late because of them."""

    found: list[Pause]
    shadow: NDArray[np.int64]  # keys of their tokens, and of those until the run had caught up


class LatestOperation(NamedTuple):
    """The operation whose result was latest."""

    late_s: float
    device: str
    sequence: int
    step: int


@dataclass(frozen=True, slots=True)
class OperationLateness:
    """Lateness of results, in emulated seconds; apart from `latest`, of operations that no pause made late."""

    latest: LatestOperation | None = None  # of all operations
    mean_s: float = 0.0
    p99_s: float = 0.0
    p99_of_token: float = 0.0  # of lateness over the latency of the operation's own token
    delayed: float = 0.0  # share of those that were later than they may be
    p95_of_allowed: float = 0.0  # of lateness over what it may be: above 1 where `delayed` is above 5 %
    overruns: float = 0.0  # share of those whose kernel ended after its time


def token_keys(sequence: NDArray[Any], step: NDArray[Any]) -> NDArray[np.int64]:
    """Make one number of a token's sequence and step, [tokens]."""
    keys: NDArray[np.int64] = (sequence.astype(np.int64) << 32) | step
    return keys


def find_pauses(tokens: TokenFigures, dilation: float, migrations_s: Iterable[tuple[float, float]] = ()) -> Pauses:
    """Find the tokens at which the clock ran away from the timeline: few, and they explain most of what tokens lost.

    `migrations_s`: from when to when blocks moved, on the timeline.
    """
    lag_s = tokens.lag_s * dilation  # [tokens], of the wall clock, in the order of their sampling
    lost_s = np.maximum((tokens.wall_latency_s - tokens.latency_s) * dilation, 0.0)
    longest = np.argsort(-lost_s, kind="stable")[:PAUSES]
    found = np.sort(longest[lost_s[longest] >= PAUSE_WALL_S])
    if not len(found) or lost_s[found].sum() < PAUSE_SHARE * lost_s.sum():
        return Pauses([], np.empty(0, np.int64))
    calm_s = float(np.median(lag_s))
    shadow = np.zeros(len(lag_s), np.bool_)
    for at in found.tolist():
        caught_up = np.flatnonzero(lag_s[at + 1 :] <= max(MIN_LAG_WALL_S, calm_s))
        end = at + 1 + (int(caught_up[0]) if len(caught_up) else len(lag_s))
        shadow[at : end + 1] = True
    spans_s = list(migrations_s)
    pauses = []
    for at in found.tolist():
        end_s = tokens.emulated_s[at]
        begin_s = end_s - tokens.latency_s[at]
        moved = any(began_s <= end_s and ended_s >= begin_s for began_s, ended_s in spans_s)
        pauses.append(Pause(float(lost_s[at]), int(tokens.sequence[at]), int(tokens.step[at]), moved))
    return Pauses(pauses, token_keys(tokens.sequence, tokens.step)[shadow])


def moves_caught_up(
    records: RecordTables,
    tokens: TokenFigures,
    pauses: Pauses,
    dilation: float,
    migrations_s: Sequence[tuple[float, float]],
) -> Pauses:
    """Add to pauses the tokens whose operations were late because blocks moved, if the token itself was on time again.

    Only for as few migrations as there can be pauses: where blocks move more often, a host has to keep up with that.
    """
    if len(migrations_s) > PAUSES - len(pauses.found):
        return pauses
    keys = token_keys(tokens.sequence, tokens.step)
    begin_s = tokens.emulated_s - tokens.latency_s
    moved = np.zeros(len(keys), np.bool_)
    for began_s, ended_s in migrations_s:
        moved |= (began_s <= tokens.emulated_s) & (ended_s >= begin_s)
    late_s = dict.fromkeys(keys[moved & np.isin(keys, pauses.shadow, invert=True)].tolist(), 0.0)
    for table in records.read("ops", ("sequence", "step", "late_s")) if late_s else ():
        of_tokens = token_keys(column_of(table, "sequence"), column_of(table, "step"))  # [rows]
        for key in late_s:
            most_s = column_of(table, "late_s")[of_tokens == key].max(initial=0.0)
            late_s[key] = max(late_s[key], float(most_s))
    late = {key: most_s * dilation for key, most_s in late_s.items() if most_s * dilation >= PAUSE_WALL_S}
    found = [Pause(wall_s, key >> 32, key & 0xFFFFFFFF, migrating=True) for key, wall_s in late.items()]
    shadow = np.concatenate([pauses.shadow, np.array(list(late), np.int64)])
    return Pauses(sorted([*pauses.found, *found], key=lambda pause: (pause.sequence, pause.step)), shadow)


def operation_lateness(
    records: RecordTables, tokens: TokenFigures, pauses: Pauses, dilation: float
) -> OperationLateness:
    """Read how late the operations of a paced run were: once for sums, and once for percentiles."""
    latest: LatestOperation | None = None
    count, overruns, delayed, late_sum_s = 0, 0, 0, 0.0
    operations = _Operations(tokens, pauses, dilation)
    columns = (*operations.columns, "device")
    for table in records.read("ops", columns):
        late_s = column_of(table, "late_s")  # [rows]
        if len(late_s) and (latest is None or late_s.max() > latest.late_s):
            at = int(late_s.argmax())
            device, sequence, step = (table.column(name)[at].as_py() for name in ("device", "sequence", "step"))
            latest = LatestOperation(float(late_s[at]), device, sequence, step)
        judged = operations.judged(table)
        count += len(judged.late_s)
        late_sum_s += float(judged.late_s.sum())
        overruns += int(judged.overrun.sum())
        delayed += int((judged.of_allowed > 1.0).sum())
    p99_s, p99_of_token = BatchedPercentile(count, 99), BatchedPercentile(count, 99)
    p95_of_allowed = BatchedPercentile(count, 100 * (1 - WARN_DELAYED))
    for table in records.read("ops", operations.columns):
        judged = operations.judged(table)
        p99_s.add(judged.late_s)
        p99_of_token.add(judged.of_token)
        p95_of_allowed.add(judged.of_allowed)
    return OperationLateness(
        latest=latest,
        mean_s=late_sum_s / count if count else 0.0,
        p99_s=p99_s.value,
        p99_of_token=p99_of_token.value,
        delayed=delayed / count if count else 0.0,
        p95_of_allowed=p95_of_allowed.value,
        overruns=overruns / count if count else 0.0,
    )


class _Judged(NamedTuple):
    """Operations by which a host is judged, [rows] each."""

    late_s: Floats
    of_token: Floats
    of_allowed: Floats
    overrun: NDArray[np.bool_]


class _Operations:
    """Choice of the operations whose tokens are known and were not made late by a pause."""

    columns = ("sequence", "step", "start_s", "end_s", "late_s", "overrun")

    def __init__(self, tokens: TokenFigures, pauses: Pauses, dilation: float) -> None:
        keys = token_keys(tokens.sequence, tokens.step)
        order = np.argsort(keys)
        calm = np.isin(keys[order], pauses.shadow, invert=True)
        self._keys, self._latency_s = keys[order][calm], tokens.latency_s[order][calm]  # [tokens] each
        self._dilation = dilation

    def judged(self, table: "pa.Table") -> _Judged:
        """Return those of some rows by which the host is judged."""
        sequence, step, start_s, end_s, late_s, overrun = (column_of(table, name) for name in self.columns)
        keys = token_keys(sequence, step)
        at = np.searchsorted(self._keys, keys)  # [rows]
        known = np.isin(keys, self._keys)
        late_s, token_s = late_s[known], self._latency_s[at[known]]
        allowed_s = np.maximum(ALLOWED_LAG_OF_TOKEN * token_s, (end_s - start_s)[known])
        noticed_s = np.where(late_s * self._dilation > MIN_LAG_WALL_S, late_s, 0.0)
        return _Judged(late_s, noticed_s / token_s, noticed_s / allowed_s, overrun[known])


class ClockOff(NamedTuple):
    """Deviation of the wall clock from the timeline in a figure of tokens, and how much of it is borne."""

    figure: str
    off: float
    warn: float
    invalid: float


def clock_offs(tokens: TokenFigures) -> list[ClockOff]:
    """Compare the wall clock with the timeline: TPOT, and TTFT with more patience."""
    judged = (
        ("TPOT", ~tokens.first, WARN_CLOCK, INVALID_CLOCK),
        ("TTFT", tokens.first, WARN_FIRST_CLOCK, INVALID_FIRST_CLOCK),
    )
    found = []
    for figure, chosen, warn, invalid in judged:
        emulated_s = in_order(tokens.latency_s[chosen])
        off = in_order(tokens.wall_latency_s[chosen]) / emulated_s - 1.0 if emulated_s else 0.0
        found.append(ClockOff(figure, off, warn, invalid))
    return found


def passing_dilation(tokens: TokenFigures, late: OperationLateness, dilation: float, *, headroom: float = 1.0) -> float:
    """Dilation at which the clock and the operations would have passed: this one, or more, in tenths.

    What a host needs of the wall clock does not depend on the dilation, so lateness shrinks in proportion to it.
    Lateness of operations must be less than it may be by the factor `headroom`.
    """
    factors = [1.0, headroom * late.p99_of_token / WARN_LAG_OF_TOKEN, headroom * late.p95_of_allowed]
    factors += [1.0 + clock.off for clock in clock_offs(tokens) if clock.off > clock.warn]
    least = max(factors)
    return dilation if least <= 1.0 else math.ceil(10.0 * MARGIN * least * dilation) / 10.0
