"""Decisions of a run: when the policy is asked, and what it decided. Carries nothing out."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from edgeemu.cluster.links import Change
from edgeemu.errors import EdgeemuError, InfeasibleError
from edgeemu.placement.arrays import IntArray
from edgeemu.placement.placement import Placement, is_divided
from edgeemu.policies import STEADY, Policy
from edgeemu.policies.search.expected_gain import expected_gain
from edgeemu.policies.view.cluster_view import ClusterView, Refusal
from edgeemu.policies.view.link_factors import NO_LINKS, Doubtful, coded, find, pairs_of
from edgeemu.policies.view.migration_memory import refusing_devices
from edgeemu.policies.view.same import layout_of
from edgeemu.policies.view.share_memory import all_fits
from edgeemu.policies.view.still import changed_by_more, is_still
from edgeemu.report.rows import DecisionRow
from edgeemu.run.alarm import Alarm
from edgeemu.run.ask_policy import Answer, first_decision, next_decision
from edgeemu.run.backend import Measurements
from edgeemu.run.explained_changes import ChangeDecision, explained
from edgeemu.run.explorer import Explorer, Pair, hopeful, used, used_by_blocks, used_by_shares
from edgeemu.run.plan import Plan
from edgeemu.run.policy_process.separate_policy import SeparatePolicy
from edgeemu.run.recovery.place_anew import place_anew, with_restoration, without
from edgeemu.run.watcher import Watcher
from edgeemu.timeline.scheduler import Due
from edgeemu.timeline.steps import BEFORE_ALL, Step

REASKED = 32  # turns after which a policy is asked even if nothing has changed beyond the threshold: caches grow
EARLIER = 4  # placements that the run has left which a policy is told of
MOST_WAITS = 16  # decisions in a row that want a change, until it is made over links that nobody knows
PATIENCE = 3  # decisions in a row without an answer: the policy was late or ended its process; it is not asked again


class Decision(NamedTuple):
    """The placement to go on with, the step before which it was decided, and when the decision was known.

    `took_s` is the processor time of the policy, which the timeline need not have.
    """

    placement: Placement
    step: Step
    at_s: float
    took_s: float


class Decider:
    """Asks the policy of a plan from time to time."""

    def __init__(self, plan: Plan, devices: Measurements) -> None:
        self._rows: list[DecisionRow] = []  # since they were taken
        if plan.cut:
            self._rows.append(DecisionRow(0, 0, "cut", None, None, plan.cut))
        self._plan = plan
        self._rules = plan.rules
        self._devices = devices
        self.alarm = Alarm()  # which keeps the limit of policies in this process
        self._watcher = Watcher(plan, devices)
        self._explorer = Explorer(plan.rules.interval_tokens)
        self._lost = 0  # decisions in a row without an answer, up to the last
        self.asked = plan.view  # what the policy was shown when it was asked last
        self._unasked = 0  # turns since then
        self._changed_for = plan.view  # for which the placement was chosen
        self._unexplained: list[ChangeDecision] = []  # of the rows
        self._considered: ClusterView | None = plan.view  # for which the placement was chosen, or stayed; None: neither
        self._waited = 0  # decisions in a row, up to the last, that wanted a change which waits for links
        self._asked_for_links = False  # whether the last turn was a question about links alone
        self._kept = 1  # decisions in a row, that one included, since which the placement is the same
        self._refused: Refusal | None = None
        self._tokens = 0  # of all open sequences, since the last turn
        self._placement = plan.placement  # at the last turn
        self.joined = False  # whether a device has joined since a policy that places once was asked
        self.gone: frozenset[int] = plan.cluster.faults.absent  # devices that are not there
        self._earlier: tuple[Placement, ...] = ()  # that were left: the first of the run, and the last few

    def count_token(self, open_sequences: int) -> bool:
        """Count a sampled token. Return whether it is time to decide: one decision interval of every sequence.

        While a change waits for links, and after a question about some, one token of each is.
        """
        self._tokens += 1
        turn = self._tokens >= self._tokens_between * open_sequences
        if turn:
            self._tokens = 0
        return turn

    @property
    def _tokens_between(self) -> int:
        """Return the tokens of each sequence from one turn to the next."""
        return 1 if self._waited or self._asked_for_links else self._rules.interval_tokens

    async def decide(self, due: Due, steps: Sequence[Step], current: Placement) -> Decision | None:
        """Ask the policy before a step; `steps` are those of all open sequences. None: it was not asked."""
        if self.joined and self._plan.policy in STEADY:
            return await self._with_joined(due, steps, current)
        policy, step = self._plan.decide, due.step
        if policy is None or self._lost == PATIENCE:
            return None
        going_on, moved = [other for other in steps if other.step > 0], current is not self._placement
        view = await self._watcher.view(going_on, due.at_s, self._tokens_between, moved=moved)
        view = without(view, self.gone)
        self._note_left(current)
        if self._refused is not None and (view.memory_bytes != self.asked.memory_bytes).any():
            self._refused = None
        doubtful = self._watcher.doubtful(view.outlook)
        links = self._explorer.due(doubtful, self._tokens_between)
        after_question, self._asked_for_links = self._asked_for_links, False
        view = self._watcher.trials.corrected(view)
        if not self._worth_asking(view):
            return None
        still = self._kept if self._is_still(view) else 0
        if still or self._refused is not None or self._earlier:
            view = view.noted(refused=self._refused, still=still, earlier=self._earlier)
        if len(links) and not (after_question or self._waited) and all_fits(view, current):
            self._asked_for_links = True
            measured, decision = await self._explore(policy, hopeful(view, links), current, due, links)
            self._explorer.asked(links, measured, doubtful)
            return decision
        self.asked, self._unasked = view, 0
        answer = next_decision(policy, view, current, self._rules.decision_limit_s, self.alarm)
        charged_s = self._charged_s(policy, view, current, answer)
        event = "cut" if answer.cut else "decided"
        row = DecisionRow(*step[:2], event, answer.took_s, charged_s, answer.problem)
        wanted = answer.placement
        waits = wanted is not current and await self._waits_for_links(
            view, doubtful, current, wanted, due._replace(at_s=due.at_s + charged_s)
        )
        if waits:
            answer = answer._replace(placement=current)
        self._waited = self._waited + 1 if waits else 0
        if answer.placement is not current:
            change = ChangeDecision(len(self._rows), view, self._changed_for, current, answer.placement)
            self._unexplained.append(change)
            self._changed_for = view
        self._rows.append(row)
        self._lost = self._lost + 1 if answer.lost else 0
        self._note_kept(view, kept=wanted is current and not answer.problem)
        if self._lost == PATIENCE:
            where = f"sequence {step.sequence}, step {step.step}"
            why = f"{self._plan.policy} was not asked again after {where}: no answer {PATIENCE} times in a row"
            self._rows.append(DecisionRow(*step[:2], "given up", None, None, why))
        return Decision(answer.placement, step, due.at_s + charged_s, answer.took_s)

    async def _waits_for_links(
        self, view: ClusterView, doubtful: Doubtful, current: Placement, wanted: Placement, due: Due
    ) -> bool:
        """Return whether a change waits until slow links, over which blocks would move, have been tried; try them.

        None does that has to be made, or has waited for long; none in real time, where a host that is late makes links
        seem slow.
        """
        known = self._plan.scenario.knowledge == "oracle" or not len(doubtful.links)
        if known or self._waited == MOST_WAITS or self._devices.mode == "realtime":
            return False
        links, waits = self._watcher.trials.to_try(view, doubtful, self._watcher.used_links(), current, wanted)
        if not waits or not all_fits(view, current):
            return False
        if links:
            names = [device.name for device in self._plan.view.devices]  # those of `view` are made when asked for
            why = ", ".join(f"{names[source]} to {names[target]}" for source, target in links)
            self._rows.append(DecisionRow(*due.step[:2], "tried", None, None, "", why=f"before blocks move: {why}"))
            await self._devices.probe(links, due.step, due.at_s)
            self._watcher.trials.trying(links)
        return waits

    async def _with_joined(self, due: Due, steps: Sequence[Step], current: Placement) -> Decision | None:
        """Ask a policy that places once for a first placement with the devices that have joined; use it if it pays.

        It pays if what it gains in the tokens to come is more than what its moves take.
        """
        self.joined = False
        policy, step = self._plan.placer, due.step
        going_on = [other for other in steps if other.step > 0]
        if policy is None or not going_on:
            return None
        view = without(await self._watcher.view(going_on, due.at_s), self.gone)
        try:
            answer = first_decision(policy, view, self._rules.decision_limit_s)
        except EdgeemuError as error:
            self._rows.append(DecisionRow(*step[:2], "decided", 0.0, 0.0, str(error)))
            return None
        before_s, after_s, moved_s = expected_gain(view, current, answer.placement)
        gain_s = 0.0 if before_s is None or after_s is None else view.remaining_tokens * (before_s - after_s)
        pays = gain_s > moved_s and not refusing_devices(view, current, answer.placement)
        charged_s = self._on_timeline_s(answer.took_s)
        self._rows.append(DecisionRow(*step[:2], "decided", answer.took_s, charged_s, answer.problem))
        if not pays:
            return None
        self._unexplained.append(
            ChangeDecision(len(self._rows) - 1, view, self._changed_for, current, answer.placement)
        )
        self.asked = self._changed_for = view
        return Decision(answer.placement, step, due.at_s + charged_s, answer.took_s)

    def note_standstill(self, device: int, began_s: float, over_s: float) -> None:
        """Note that a device stood still for a while."""
        self._watcher.note_standstill(device, began_s, over_s)

    def note_links_down(self, links: Change, began_s: float, over_s: float) -> None:
        """Note that links were down for a while."""
        self._watcher.note_links_down(links, began_s, over_s)

    async def place_anew(
        self, current: Placement, lost: Collection[int], waiting: Sequence[Due], at_s: float, store: int | None
    ) -> tuple[list[Placement], float]:
        """Ask for placements without lost devices, the best first. Return also when they were known.

        `store`: the device whose storage has all weights; None: every device reads from its own.

        Raises:
            InfeasibleError: nobody finds one that fits.
        """
        steps = [due.step for due in waiting if due.step.step > 0]
        view = await self._watcher.view(steps, at_s) if steps else self._plan.view
        view = with_restoration(without(view, self.gone), lost, store)
        step = min((due.step for due in waiting), default=BEFORE_ALL)
        try:
            anew = place_anew(self._plan, view, current, self.gone)
        except InfeasibleError as error:
            self._rows.append(DecisionRow(*step[:2], "placed anew", None, None, str(error)))
            raise
        charged_s = 0.0 if anew.took_s is None else self._on_timeline_s(anew.took_s)
        self._rows.append(DecisionRow(*step[:2], "placed anew", anew.took_s, charged_s, anew.problem))
        self._considered, self._kept, self._refused = None, 0, None
        self.asked = view
        return anew.placements, at_s + charged_s

    async def _explore(
        self, policy: Policy | SeparatePolicy, hope: ClusterView, current: Placement, due: Due, links: IntArray
    ) -> tuple[IntArray, Decision]:
        """Have links measured that the policy would use were they as the scenario has them. Return them, too.

        `links`: their codes, which ascend.
        """
        step = due.step
        answer = next_decision(policy, hope, current, self._rules.decision_limit_s, self.alarm)
        charged_s = self._charged_s(policy, hope, current, answer)
        at_s = due.at_s + charged_s
        self._rows.append(DecisionRow(*step[:2], "explored", answer.took_s, charged_s, answer.problem))
        wanted = NO_LINKS
        if answer.placement is not current:
            wanted = links[find(links, coded(self._used(current, answer.placement)))[1]]
            await self._devices.probe(pairs_of(wanted), step, at_s)
        return wanted, Decision(current, step, at_s, answer.took_s)

    def _used(self, old: Placement, new: Placement) -> set[Pair]:
        """Return the links that a new placement's steps, and the moves to it, use."""
        shape = self._plan.model.shape
        relayed = self._plan.scenario.sharding.collectives == "relay"
        if relayed or is_divided(old, shape.n_layers) or is_divided(new, shape.n_layers):
            known = None if relayed else used_by_shares(self._plan.view, old, new)
            return used(self._plan.compiled(new), old, new) if known is None else known
        return used_by_blocks(layout_of(old, shape), layout_of(new, shape))

    def _note_left(self, current: Placement) -> None:
        """Note the placement that was left, if it has changed since the last turn."""
        left, first = self._placement, self._plan.placement
        if current is not left:
            recent = [each for each in self._earlier if each is not first and each.owner != left.owner]
            if left is not first and left.owner != first.owner:
                recent.append(left)
            self._earlier = tuple(each for each in (first, *recent[1 - EARLIER :]) if each.owner != current.owner)
            self._placement = current

    def _note_kept(self, view: ClusterView, *, kept: bool) -> None:
        """Note whether a decision kept the placement, and for which view the first in a row did."""
        if not kept:
            self._considered, self._kept = None, 0
        elif view.still:
            self._kept += 1
        else:
            self._considered, self._kept = view, 1

    def add_refusal(self, decision: Decision, why: str) -> None:
        """Note that devices refused what was decided; the policy is told at the next decision."""
        self._refused = Refusal(decision.placement, why)
        self._rows.append(DecisionRow(*decision.step[:2], "refused", None, None, why))

    def take_rows(self) -> list[DecisionRow]:
        """Return the rows since the last call; changes are explained here, when no step waits for a decision."""
        for change in self._unexplained:
            self._rows[change.number] = explained(self._plan, self._rows[change.number], change)
        self._unexplained.clear()
        rows, self._rows = self._rows, []
        return rows

    def _charged_s(
        self, policy: Policy | SeparatePolicy, view: ClusterView, current: Placement, answer: Answer
    ) -> float:
        """Return the time of a decision on the timeline.

        The policy is asked once more where its time counts, and the shorter time is taken: the first call of a kind
        imports modules and fills caches, and what disturbs a call only makes it longer.
        """
        if self._rules.decision_s is not None:
            return self._rules.decision_s
        took_s = answer.took_s
        if not answer.lost and not answer.cut:  # with a new view, which keeps nothing that was computed
            took_s = min(took_s, next_decision(policy, replace(view), current, self._rules.decision_limit_s).took_s)
        return self._on_timeline_s(took_s)

    def _on_timeline_s(self, took_s: float) -> float:
        """Return what processor time of a policy takes on the timeline."""
        return took_s * self._plan.decision_scale if self._rules.decision_s is None else self._rules.decision_s

    def _is_still(self, view: ClusterView) -> bool:
        """Return whether nothing has changed since a decision; of what an oracle knows, links are not compared."""
        before, measured = self._considered, self._plan.scenario.knowledge == "measured"
        return measured and before is not None and self._refused is None and is_still(before, view)

    def _worth_asking(self, view: ClusterView) -> bool:
        """Return whether something has changed beyond the threshold since the last question, or that is long ago."""
        self._unasked += 1
        before, threshold = self.asked, self._rules.threshold
        seldom = threshold and not self._waited and self._unasked < REASKED
        return not seldom or changed_by_more(before, view, threshold)
