"""Which links to measure although nothing uses them: those that were bad, and on which the decision hangs. Pure.

A policy leaves a link that has become slow, and from then on nothing measures it. So the policy is asked now and then
what it would do if the link were as the scenario has it: if it would use the link, the link is measured with a few
bytes. As long as it is still slow, or the policy does not want it, the time to the next question doubles.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeemu.placement.arrays import IntArray, PlacementArrays, moved_blocks
from edgeemu.placement.placement import Placement, moves
from edgeemu.placement.program import Program
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_factors import LinkFactors, are_among

FIRST_TOKENS, MOST_TOKENS = 4, 16  # from a measurement of a link, or a question about it, to the next question

Pair = tuple[int, int]  # source, target


@dataclass(slots=True)
class _Wait:
    """Time until a link is asked for."""

    tokens: int = FIRST_TOKENS
    asked_at: int = 0  # decisions from the last measurement to the last question; 0: none since
    under_way: bool = False  # test messages


class Explorer:
    """Chooses links to ask the policy for, each after twice as long as before."""

    def __init__(self, interval_tokens: int) -> None:
        self._interval_tokens = interval_tokens
        self._waits: dict[Pair, _Wait] = {}

    def due(self, doubtful: Mapping[Pair, int]) -> set[Pair]:
        """Return the links to ask for; to be called at each decision. `doubtful` are decisions since, of bad links.

        They are none unless one has waited for its time. Then they are also those that have waited for half of theirs:
        both directions of a link become slow together, and a policy may want both or none.
        """
        if not doubtful:
            self._waits.clear()
            return set()
        self._waits = {pair: self._waits.get(pair) or _Wait() for pair in doubtful}
        waited: dict[Pair, float] = {}  # share of the time
        for pair, turns in doubtful.items():
            wait = self._waits[pair]
            if turns < wait.asked_at:  # it was measured meanwhile
                wait.asked_at, wait.under_way = 0, False
            if not wait.under_way:
                waited[pair] = (turns - wait.asked_at) * self._interval_tokens / wait.tokens
        if max(waited.values(), default=0.0) < 1.0:
            return set()
        return {pair for pair, share in waited.items() if share >= 0.5}

    def asked(self, pairs: Collection[Pair], measuring: Collection[Pair], doubtful: Mapping[Pair, int]) -> None:
        """Note that the policy was asked for links, of which some are being measured now."""
        for pair in pairs:
            before = self._waits[pair].tokens
            self._waits[pair] = _Wait(min(2 * before, MOST_TOKENS), doubtful[pair], pair in measuring)


def hopeful(view: ClusterView, pairs: set[Pair]) -> ClusterView:
    """Return the view in which some links are as the scenario has them."""
    observed = LinkFactors.of(view.observed)
    asked = are_among(observed.sources, observed.targets, pairs)  # [n_pairs]
    slow, outlook = observed.some(asked), view.outlook.without(pairs)
    better = LinkFactors(slow.sources, slow.targets, 1.0 / slow.delay, 1.0 / slow.per_bit)
    return replace(view, links=view.links.scaled(better), observed=observed.some(~asked), outlook=outlook, still=0)


def used(program: Program, old: Placement, new: Placement) -> set[Pair]:
    """Return the links that a new placement's steps, and the moves to it, use."""
    steps = {(op.device, target) for op in program.ops for target in op.to if target != op.device}
    return steps | {(move.source, move.target) for move in moves(old, new)}


def used_by_blocks(old: PlacementArrays, new: PlacementArrays) -> set[Pair]:
    """Return what `used` does where no block is divided and nothing is relayed, without the program.

    Of many layers that takes longer than a decision.
    """
    before = np.append(new.embed, new.ffn[:-1])  # [n_layers] that have x when a layer begins
    ends = np.array([new.embed]), np.array([new.lm_head])
    ways: list[tuple[IntArray, ...]] = [(before, new.proj), (new.proj, new.ffn), (new.ffn[-1:], ends[1]), ends[::-1]]
    ways += [np.broadcast_arrays(before[:, None], new.heads), np.broadcast_arrays(new.heads, new.proj[:, None])]
    ways += [(each.sources, each.targets) for each in moved_blocks(old, new)]
    found = {pair for way in ways for pair in zip(*(each.ravel().tolist() for each in way), strict=True)}
    return {(source, target) for source, target in found if source != target}
