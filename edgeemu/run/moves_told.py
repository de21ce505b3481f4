"""Lines that tell a user, while a run goes on, what moved, why, and what it gained. Pure; decides nothing."""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from edgeemu.cluster.devices import Compute
from edgeemu.placement.blocks import Block
from edgeemu.placement.placement import Placement, moves
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.measured_changes import Views, changes_in_words
from edgeemu.run.plan_tables import describe
from edgeemu_kernels.shape import ModelShape

MAX_TOLD = 10  # moves of a run; the others are in its records
MAX_PAIRS = 3  # of devices between which blocks move
REMEMBERED = 64  # latencies


class PlacementChange(NamedTuple):
    """Change of placement: `seen` is the view for which it was decided, `step` the token that waited for it.

    `prompt`: whose token that is, from 1 on, in a run with several.
    """

    old: Placement
    new: Placement
    seen: ClusterView
    step: int
    pause_s: float
    prompt: int | None = None


class MovesTold:
    """Lines about the moves of one run. Each is complete when a token has been measured under the new placement."""

    def __init__(
        self, shape: ModelShape, first: ClusterView, nominal: Sequence[Compute], *, measured: bool = True
    ) -> None:
        """`first`: the view of the first placement. `nominal`: speeds of all devices without load.

        `measured`: whether later views are, and not the true state.
        """
        self._shape = shape
        self._known = "measured " if measured else ""
        self._before, self._nominal = first, nominal
        # Since the last move, without what the move delayed:
        self._latencies_s: deque[float] = deque(maxlen=REMEMBERED)
        self._open = ""  # the line about the last move, up to what it gained
        self._delayed: set[int] = set()  # sequences whose first token after the last move has come
        self._told = 0

    def moving(self, old: Placement, new: Placement, seen: ClusterView) -> str:
        """Return a line about a change that begins, for a view for which it was decided."""
        return self._what_and_why(old, new, seen, "")

    def moved(self, move: PlacementChange) -> Iterator[str]:
        """Take a change of placement; the line about the one before is completed without what it gained."""
        yield from self.ended()
        if self._told < MAX_TOLD:
            waited = f", in {1000 * move.pause_s:.1f} ms" if move.pause_s else ""
            moved = self._what_and_why(move.old, move.new, move.seen, waited)
            token = f"token {move.step}" if move.prompt is None else f"token {move.step} of prompt {move.prompt}"
            self._open = f"before {token}: moved {moved} Per token: {self._until_now()}"
        elif self._told == MAX_TOLD:
            yield "more moves follow; migrations.parquet has them all"
        self._told += 1
        self._before = move.seen
        self._latencies_s.clear()
        self._delayed.clear()

    def token(self, sequence: int, latency_s: float) -> Iterator[str]:
        """Take the latency of a token that is not the first of its sequence."""
        if self._told and sequence not in self._delayed:  # it waited for the move
            self._delayed.add(sequence)
            return
        self._latencies_s.append(latency_s)
        if self._open:
            line, self._open = f"{self._open}, now {_ms(latency_s)}", ""
            yield line

    def ended(self) -> Iterator[str]:
        """Complete the line about the last move, if no token came that would say what it gained."""
        if self._open:
            line, self._open = self._open, ""
            yield line

    def _what_and_why(self, old: Placement, new: Placement, seen: ClusterView, waited: str) -> str:
        what = _what(old, new, self._shape, [device.name for device in seen.devices])
        views = Views(self._nominal, self._before, seen, self._known)
        why = " and ".join(changes_in_words(views, old)) or f"no {self._known}change above 10 %"
        return f"{what}{waited}. Why: {why}."

    def _until_now(self) -> str:
        """Latency of a token since the last move, and that of the last token where it is another."""
        if not self._latencies_s:
            return "not known before"
        usual_s, last_s = median(self._latencies_s), self._latencies_s[-1]
        changed = max(usual_s, last_s) > 1.02 * min(usual_s, last_s)
        return f"{_ms(usual_s)} before the change, {_ms(last_s)} after it" if changed else f"{_ms(last_s)} before"


def _ms(latency_s: float) -> str:
    return f"{1000 * latency_s:.1f} ms"


def _what(old: Placement, new: Placement, shape: ModelShape, names: Sequence[str]) -> str:
    """Blocks that move, by the devices between which they do; a few words where these are many."""
    by_pair: dict[tuple[int, int], list[Block]] = defaultdict(list)
    for move in moves(old, new):
        by_pair[move.source, move.target].append(move.block)
    if len(by_pair) <= MAX_PAIRS:
        parts = [
            f"{describe(blocks, shape)} from {names[a]} to {names[b]}" for (a, b), blocks in sorted(by_pair.items())
        ]
        return "; ".join(parts) or "nothing: blocks were divided or joined where they are"
    away, to = ({names[pair[end]] for pair in by_pair} for end in (0, 1))
    n_blocks = sum(map(len, by_pair.values()))
    return f"{n_blocks} blocks from {_few(sorted(away))} to {_few(sorted(to))}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= MAX_PAIRS else f"{len(names)} devices"
