"""How late a paced run was: its tokens and its operations against the wall clock. Read in batches.

Pauses are kept apart from a host that is too slow: a pause makes a token late at once, and those after it until the run
has caught up. The operations of all of these are left out of what the others are judged by.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.report.figures import RecordTables, TokenFigures
from edgeemu.report.statistics import Floats, in_order, percentile_of_batches
from edgeemu.report.thresholds import (
    ALLOWED_LAG_OF_TOKEN,
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


def operation_lateness(
    records: RecordTables, tokens: TokenFigures, pauses: Pauses, dilation: float
) -> OperationLateness:
    """Read how late the operations of a paced run were."""
    latest: LatestOperation | None = None
    count, overruns, delayed, late_sum_s = 0, 0, 0, 0.0
    judged = _JudgedOperations(records, tokens, pauses, dilation)
    for table in records.read("ops", ("device", "sequence", "step", "late_s")):
        late_s = _numbers(table, "late_s")  # [rows]
        if len(late_s) and (latest is None or late_s.max() > latest.late_s):
            at = int(late_s.argmax())
            device, sequence, step = (table.column(name)[at].as_py() for name in ("device", "sequence", "step"))
            latest = LatestOperation(float(late_s[at]), device, sequence, step)
    for batch in judged.batches():
        count += len(batch.late_s)
        late_sum_s += float(batch.late_s.sum())
        overruns += int(batch.overrun.sum())
        delayed += int((batch.of_allowed > 1.0).sum())
    return OperationLateness(
        latest=latest,
        mean_s=late_sum_s / count if count else 0.0,
        p99_s=percentile_of_batches((batch.late_s for batch in judged.batches()), count, 99),
        p99_of_token=percentile_of_batches((batch.of_token for batch in judged.batches()), count, 99),
        delayed=delayed / count if count else 0.0,
        p95_of_allowed=percentile_of_batches(
            (batch.of_allowed for batch in judged.batches()), count, 100 * (1 - WARN_DELAYED)
        ),
        overruns=overruns / count if count else 0.0,
    )


class _Judged(NamedTuple):
    """Operations by which a host is judged, [rows] each."""

    late_s: Floats
    of_token: Floats
    of_allowed: Floats
    overrun: NDArray[np.bool_]


class _JudgedOperations:
    """Reader of the operations whose tokens are known and were not made late by a pause."""

    def __init__(self, records: RecordTables, tokens: TokenFigures, pauses: Pauses, dilation: float) -> None:
        keys = token_keys(tokens.sequence, tokens.step)
        order = np.argsort(keys)
        self._keys, self._latency_s = keys[order], tokens.latency_s[order]  # [tokens] each
        calm = np.isin(self._keys, pauses.shadow, invert=True)
        self._keys, self._latency_s = self._keys[calm], self._latency_s[calm]
        self._records, self._dilation = records, dilation

    def batches(self) -> Iterator[_Judged]:
        """Yield them in batches."""
        columns = ("sequence", "step", "start_s", "end_s", "late_s", "overrun")
        for table in self._records.read("ops", columns) if len(self._keys) else ():
            sequence, step, start_s, end_s, late_s, overrun = (_numbers(table, name) for name in columns)
            keys = token_keys(sequence, step)
            at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)  # [rows]
            known = self._keys[at] == keys
            late_s, token_s = late_s[known], self._latency_s[at[known]]
            allowed_s = np.maximum(ALLOWED_LAG_OF_TOKEN * token_s, (end_s - start_s)[known])
            noticed_s = np.where(late_s * self._dilation > MIN_LAG_WALL_S, late_s, 0.0)
            yield _Judged(late_s, noticed_s / token_s, noticed_s / allowed_s, overrun[known])


def passing_dilation(tokens: TokenFigures, late: OperationLateness, dilation: float, *, headroom: float = 1.0) -> float:
    """Dilation at which the clock and the operations would have passed: this one, or more, in tenths.

    What a host needs of the wall clock does not depend on the dilation, so lateness shrinks in proportion to it.
    Lateness of operations must be less than it may be by the factor `headroom`.
    """
    factors = [1.0, headroom * late.p99_of_token / WARN_LAG_OF_TOKEN, headroom * late.p95_of_allowed]
    for chosen, allowed in ((~tokens.first, WARN_CLOCK), (tokens.first, WARN_FIRST_CLOCK)):
        emulated_s = in_order(tokens.latency_s[chosen])
        off = in_order(tokens.wall_latency_s[chosen]) / emulated_s - 1.0 if emulated_s else 0.0
        factors += [1.0 + off] if off > allowed else []
    least = max(factors)
    return dilation if least <= 1.0 else math.ceil(10.0 * MARGIN * least * dilation) / 10.0


def _numbers(table: "pa.Table", column: str) -> NDArray[Any]:
    values: NDArray[Any] = table.column(column).to_numpy()
    return values
