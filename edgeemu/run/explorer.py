"""Which links to measure although nothing uses them: those that were bad, and on which the decision hangs. Pure.

A policy leaves a link that has become slow, and from then on nothing measures it. So the policy is asked now and then
what it would do if the link were as the scenario has it: if it would use the link, the link is measured with a few
bytes. As long as it is still slow, the time to the next measurement doubles.
"""

from collections.abc import Mapping
from dataclasses import replace

from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Program
from edgeemu.policies.view.cluster_view import ClusterView

FIRST_TOKENS, MOST_TOKENS = 4, 16  # from one measurement of an unused link to the next

Pair = tuple[int, int]  # source, target


class Explorer:
    """Chooses links to be measured, each after twice as long as before."""

    def __init__(self, interval_tokens: int) -> None:
        self._interval_tokens = interval_tokens
        self._wait_tokens: dict[Pair, int] = {}
        self._asked: dict[Pair, int] = {}  # test messages under way: decisions since the link was measured, when sent

    def due(self, doubtful: Mapping[Pair, int]) -> set[Pair]:
        """Return the links that nothing has measured for long enough; `doubtful` are decisions since, of bad links."""
        self._wait_tokens = {pair: wait for pair, wait in self._wait_tokens.items() if pair in doubtful}
        self._asked = {pair: turns for pair, turns in self._asked.items() if doubtful.get(pair, -1) >= turns}
        return {
            pair
            for pair, turns in doubtful.items()
            if turns * self._interval_tokens >= self._wait_tokens.get(pair, FIRST_TOKENS) and pair not in self._asked
        }

    def measuring(self, pairs: set[Pair], doubtful: Mapping[Pair, int]) -> None:
        """Note that test messages for links have been sent."""
        for pair in pairs:
            self._wait_tokens[pair] = min(2 * self._wait_tokens.get(pair, FIRST_TOKENS), MOST_TOKENS)
            self._asked[pair] = doubtful[pair]


def hopeful(view: ClusterView, pairs: set[Pair]) -> ClusterView:
    """Return the view in which some links are as the scenario has them."""
    better = {pair: (1.0 / view.observed[pair][0], 1.0 / view.observed[pair][1]) for pair in pairs}
    observed = {pair: factors for pair, factors in view.observed.items() if pair not in pairs}
    outlook = view.outlook.without(pairs)
    return replace(view, links=view.links.scaled(better), observed=observed, outlook=outlook, still=False)


def used(program: Program, old: Placement, new: Placement) -> set[Pair]:
    """Return the links that a new placement's steps, and the moves to it, use."""
    steps = {(op.device, target) for op in program.ops for target in op.to}
    moves = {(old.owner[block], device) for block, device in new.owner.items() if block in old.owner}
    return {(source, target) for source, target in steps | moves if source != target}
