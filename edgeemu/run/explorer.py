"""Which links to measure although nothing uses them: those that were bad, and on which the decision hangs. Pure.

A policy leaves a link that has become slow, and from then on nothing measures it. So the policy is asked now and then
what it would do if the link were as the scenario has it: if it would use the link, the link is measured with a few
bytes. As long as it is still slow, or the policy does not want it, the time to the next question doubles. The question
takes the place of a decision: what to do now is asked a token later.
"""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray, PlacementArrays, moved_blocks
from edgeemu.placement.placement import Placement, moves
from edgeemu.placement.program import Program
from edgeemu.policies.compiled.share_code import StepCode, functions_made
from edgeemu.policies.search.share_proposals import prepared_devices
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_factors import NO_LINKS, Doubtful, LinkFactors, codes_of, find
from edgeemu.policies.view.shares import ShareArrays

KEPT = 64  # turns of which the tokens are known: more than `MOST_TOKENS`
FIRST_TOKENS, MOST_TOKENS = 4, 16  # from a measurement of a link, or a question about it, to the next question

Pair = tuple[int, int]  # source, target


class _Waits(NamedTuple):
    """Times until links are asked for: [n] each."""

    links: IntArray  # their codes, ascending
    tokens: IntArray  # from a measurement, or a question, to the next question
    asked_at: IntArray  # decisions from the last measurement to the last question; 0: none since
    under_way: NDArray[np.bool_]  # whether test messages are

    @classmethod
    def new(cls, links: IntArray) -> Self:
        """Links for which nobody has waited yet."""
        return cls(links, np.full_like(links, FIRST_TOKENS), np.zeros_like(links), np.zeros(len(links), np.bool_))


class Explorer:
    """Chooses links to ask the policy for, each after twice as long as before."""

    def __init__(self, interval_tokens: int) -> None:
        """`interval_tokens`: of each sequence from a turn to the next, for those that nobody has counted."""
        self._interval_tokens = interval_tokens
        self._passed = [0]  # tokens of each sequence up to the last few turns
        self._waits = _Waits.new(NO_LINKS)

    def due(self, doubtful: Doubtful, tokens: int) -> IntArray:
        """Return the links to ask for, as codes, ascending; to be called at each decision.

        `tokens`: of each sequence since the one before.

        They are none unless one has waited for its time. Then they are also those that have waited for half of theirs:
        both directions of a link become slow together, and a policy may want both or none.
        """
        self._passed = [*self._passed[-KEPT:], self._passed[-1] + tokens]
        before = self._waits
        if not np.array_equal(before.links, doubtful.links):
            self._waits = _Waits.new(doubtful.links)
            at, known = find(before.links, doubtful.links)
            for mine, theirs in zip(self._waits[1:], before[1:], strict=True):
                mine[at[known]] = theirs[known]
        if not len(doubtful.links):
            return NO_LINKS
        _, most_tokens, asked_at, under_way = self._waits
        measured = doubtful.turns < asked_at  # meanwhile
        asked_at[measured], under_way[measured] = 0, False
        waited = np.where(under_way, 0.0, self._tokens_of(doubtful.turns - asked_at) / most_tokens)
        return doubtful.links[waited >= 0.5] if waited.max() >= 1.0 else NO_LINKS

    def _tokens_of(self, turns: IntArray) -> IntArray:
        """Tokens of each sequence in so many turns up to this one: [n] -> [n]."""
        known = np.minimum(turns, len(self._passed) - 1)
        passed = np.array(self._passed)
        tokens: IntArray = passed[-1] - passed[-1 - known] + (turns - known) * self._interval_tokens
        return tokens

    def asked(self, links: IntArray, measuring: IntArray, doubtful: Doubtful) -> None:
        """Note that the policy was asked for links, of which some are being measured now: codes, which ascend."""
        _, tokens, asked_at, under_way = self._waits
        at, _ = find(links, doubtful.links)
        tokens[at] = np.minimum(2 * tokens[at], MOST_TOKENS)
        asked_at[at], under_way[at] = doubtful.turns[at], find(links, measuring)[1]


def hopeful(view: ClusterView, links: IntArray) -> ClusterView:
    """Return the view in which some links are as the scenario has them: codes, which ascend."""
    observed = LinkFactors.of(view.observed)
    asked = find(codes_of(observed.sources, observed.targets), links)[1]  # [n_pairs]
    slow, outlook = observed.some(asked), view.outlook.without(links)
    better = LinkFactors(slow.sources, slow.targets, 1.0 / slow.delay, 1.0 / slow.per_bit)
    return view.relinked(view.links.scaled(better), observed=observed.some(~asked), outlook=outlook, still=0)


def used(program: Program, old: Placement, new: Placement) -> set[Pair]:
    """Return the links that a new placement's decode steps, and the moves to it, use."""
    decoding = (op for op in program.ops if op.steps.has(1))
    steps = {(op.device, target) for op in decoding for target in op.to if target != op.device}
    return steps | {(move.source, move.target) for move in moves(old, new)}


def used_by_shares(view: ClusterView, old: Placement, new: Placement) -> set[Pair] | None:
    """Return what `used` does of a placement whose projections are whole or with their heads, without the program.

    None where that is not known: shards of a projection are apart, collectives gather, or there is no machine code. On
    25 devices a program takes longer than a decision.
    """
    devices = prepared_devices(view, new)
    known = functions_made() is not None and not view.gather
    shares = ShareArrays.of(new, view.costs.shape, devices) if known else None
    if shares is None:
        return None
    bits = StepCode(view, devices, view.past).link_bits(shares)  # [n, n]
    sources, targets = (devices[ends].tolist() for ends in np.nonzero(bits))
    steps = {pair for pair in zip(sources, targets, strict=True) if pair[0] != pair[1]}
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
