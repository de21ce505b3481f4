"""The rule for every change of placement: over which steps a move must pay, and what is expected of them. Pure.

A change pays if migration + steps are less than the steps without it. What the next steps take is not known; `outlook`
has how long states were seen to last, and their means:

* While nothing has come and gone, the present state is expected to stay: what pays within `HORIZON` steps is done at
  once, and what gains a `LARGE` share of a step and pays within `FAR` steps. What is smaller could come and go unseen.
  Measurements are never quite right, so a move must gain `MARGIN` times its migration time.
* Where a state is expected to end, what is done for it will have to be undone: a move must gain `WAYS` times its
  migration time while the state lasts. So no move for a state that lasts as expected loses anything; and for a state
  that outlasts what was expected, of which `view.history` expects as long again, a move is made when staying has lost
  as much as the move and its return cost: at most twice the best of {stay, move}.
* What does not pay for the present state may pay for the mean of what is to come within `HORIZON` steps. It is done
  in a state in which it loses nothing; until then, waiting is better. So it is where states are so long that a change
  and the change back are not both within `HORIZON` steps: then there is time to answer each.
* Where so many devices change that the cluster is unsteady, the placement that seems best is partly lucky, the more
  devices there are to choose from: a move must gain `LUCK` times its migration time, also for a state that outlasts
  `HORIZON` steps.

All moves together must gain `WORTH` of a step, or its part where layers have turns; else nothing is moved.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

import numpy as np

from edgeemu.placement.arrays import FloatArray
from edgeemu.placement.blocks import Kind
from edgeemu.policies.compiled.devices_code import expected_devices
from edgeemu.policies.search.partial_placement import Moved
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.outlook import STAYS

# Of 64-256 steps and margins of 1.5-3, these lost least in runs of 200 tokens under load that changes at each token,
# and won as much as any under load that changes every 50 tokens.
HORIZON = 64  # steps
FAR = 128  # steps, for gains that no small change which comes and goes unseen explains
LARGE = 0.1  # share of a step, of such a gain
MARGIN = 1.5
WORTH = 0.01
WAYS = 2  # there and back
# Of 2-6, this lost least on 25 devices of which all change every 20 ms to 2 s (`tools/bench/unsteady.py`).
LUCK = 4
LEAST_GAIN_S = 1e-12  # below it, a gain is rounding


@dataclass(frozen=True, slots=True)
class Prices:
    """Migration times, and the number of steps in which a move must pay back. No `costs`: nothing runs yet."""

    costs: MoveCosts | None
    tokens: float
    far_tokens: float = 0.0  # for gains of at least `large_s`
    large_s: float = inf

    @classmethod
    def of(cls, costs: MoveCosts, prospect: "Prospect", step_s: float) -> "Prices":
        """Prices for a step that takes so long now; for the objective of energy all are joules instead of seconds."""
        return cls(costs, prospect.tokens, prospect.far_tokens, LARGE * step_s)

    def at_once(self, moves: int) -> "Prices":
        """Prices where so many moves are carried out side by side."""
        return replace(self, tokens=moves * self.tokens, far_tokens=moves * self.far_tokens)

    def steps(self, gains_s: FloatArray) -> FloatArray:
        """Steps in which moves must pay back, by what each gains of a step."""
        return np.where(gains_s >= self.large_s, self.far_tokens, self.tokens)

    def gained_s(self, gain_s: float) -> float:
        """Time that a gain of each step saves until its move must have paid back."""
        return (self.far_tokens if gain_s >= self.large_s else self.tokens) * gain_s

    def pays(self, gain_s: float, move_s: float) -> bool:
        return self.gained_s(gain_s) > move_s and gain_s > LEAST_GAIN_S

    def pays_by_halves(self, steps_s: Sequence[float], ways_s: float, interval_tokens: int) -> bool:
        """Whether a change in two halves pays: with steps before, between and after, and what both migrations take."""
        before_s, between_s, after_s = steps_s
        return self.pays(before_s - after_s, ways_s + interval_tokens * max(0.0, between_s - before_s))

    def move_s(self, moved: Iterable[Moved], device: int, meeting: Collection[Kind] = ()) -> float:
        """Migration time of moves to one device. `meeting`: ends that bring no table."""
        if self.costs is None:
            return 0.0
        return self.costs.total_s([(kind, source, device) for kind, _, source, n in moved for _ in range(n)], meeting)


@dataclass
class Prospect:
    """The cluster as it is expected to be in the mean over some steps, and the steps in which a move must pay back.

    `over`: these steps; None: it stays as it is. `far_tokens`: the steps for a large gain.
    `early`: a move can be for what is expected to come. Then it must lose nothing in the present state.
    """

    view: ClusterView
    over: float | None
    steps: int
    tokens: float
    far_tokens: float
    early: bool = False

    @cached_property
    def ahead(self) -> ClusterView:
        """The view with devices and links as they are expected."""
        return self.view if self.over is None else expected(self.view, self.over)

    @property
    def links(self) -> LinkMatrix:
        """Links on the wire as they are expected."""
        links, outlook = self.view.links.wire, self.view.outlook
        return links if self.over is None else links.scaled(outlook.link_factors(self.over))


def prospects(view: ClusterView) -> Iterator[Prospect]:
    """The present state while it lasts, if it is expected to end; then the steps to come, as far as one looks."""
    remaining, states = view.remaining_tokens, view.outlook.lasts_tokens()
    horizon, unsteady = min(remaining, HORIZON), view.outlook.unsteady
    ending = [tokens for tokens in states if tokens < horizon]
    if not ending and not unsteady:
        far = min(remaining, FAR, *states)
        yield Prospect(view, None, horizon, horizon / MARGIN, far / MARGIN)
        return
    if ending:
        lasts = max(ending)
        tokens = lasts / (LUCK if unsteady else WAYS)
        yield Prospect(view, lasts, int(lasts), tokens, tokens, early=len(ending) > 1)
    stay = [tokens for tokens in states if tokens >= horizon] if unsteady else []
    if stay or view.outlook.comes_back_within(horizon):
        tokens = min(horizon / MARGIN, min(stay, default=horizon) / LUCK) if unsteady else horizon / MARGIN
        yield Prospect(view, horizon, horizon, tokens, tokens, early=True)


def expected(view: ClusterView, tokens: float) -> ClusterView:
    """The view with devices and links as they are expected in the mean over the next steps."""
    links = view.links.scaled(view.outlook.link_factors(tokens))
    found, others = expected_devices(view, tokens), {"links": links, "outlook": STAYS}
    if found is None:
        return view.slowed(view.outlook.slowdowns(tokens, view.n_devices), view.memory_bytes, **others)
    slowdowns, *speeds = found
    return view.slowed(slowdowns, view.memory_bytes, *speeds, **others)
