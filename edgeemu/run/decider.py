"""Decisions of a run: when the policy is asked, and what it decided. Carries nothing out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView, Refusal, largest_change
from edgeemu.report.rows import DecisionRow
from edgeemu.run.ask_policy import next_decision
from edgeemu.run.backend import Measurements
from edgeemu.run.explorer import Explorer, hopeful, used
from edgeemu.run.plan import Plan
from edgeemu.run.watcher import Watcher
from edgeemu.timeline.scheduler import Due
from edgeemu.timeline.steps import Step

REASKED = 32  # turns after which a policy is asked even if nothing has changed beyond the threshold: caches grow
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
        self._plan = plan
        self._rules = plan.rules
        self._devices = devices
        self._watcher = Watcher(plan, devices)
        self._explorer = Explorer(plan.rules.interval_tokens)
        self._lost = 0  # decisions in a row without an answer, up to the last
        self._asked = plan.view  # what the policy was shown when it was asked last
        self._unasked = 0  # turns since then
        self._refused: Refusal | None = None
        self._tokens = 0  # of all open sequences, since the last turn

    def count_token(self, open_sequences: int) -> bool:
        """Count a sampled token. Return whether it is time to decide: one decision interval of every sequence."""
        self._tokens += 1
        turn = self._tokens >= self._rules.interval_tokens * open_sequences
        if turn:
            self._tokens = 0
        return turn

    async def decide(self, due: Due, steps: Sequence[Step], current: Placement) -> Decision | None:
        """Ask the policy before a step; `steps` are those of all open sequences. None: it was not asked."""
        policy, step = self._plan.decide, due.step
        if policy is None or self._lost == PATIENCE:
            return None
        view = await self._watcher.view([other for other in steps if other.step > 0], due.at_s)
        if self._refused is not None and (view.memory_bytes != self._asked.memory_bytes).any():
            self._refused = None
        if not self._worth_asking(view):
            return None
        view = replace(view, refused=self._refused)
        answer = next_decision(policy, view, current, self._rules.decision_limit_s)
        self._rows.append(DecisionRow(step.sequence, step.step, "decided", answer.took_s, answer.problem))
        self._lost = self._lost + 1 if answer.lost else 0
        if self._lost == PATIENCE:
            where = f"sequence {step.sequence}, step {step.step}"
            why = f"{self._plan.policy} was not asked again after {where}: no answer {PATIENCE} times in a row"
            self._rows.append(DecisionRow(step.sequence, step.step, "given up", None, why))
        charged_s = answer.took_s if self._rules.decision_s is None else self._rules.decision_s
        decision = Decision(answer.placement, step, due.at_s + charged_s, answer.took_s)
        if answer.placement is current:
            await self._explore(view, decision)
        return decision

    async def _explore(self, view: ClusterView, decision: Decision) -> None:
        """Have links measured that nothing uses, if the policy would use them were they as the scenario has them."""
        policy, (current, step, at_s, _) = self._plan.decide, decision
        doubtful = self._watcher.doubtful()
        pairs = self._explorer.due(doubtful)
        if not pairs or policy is None:
            return
        answer = next_decision(policy, hopeful(view, pairs), current, self._rules.decision_limit_s)
        if answer.placement is current:
            return
        wanted = pairs & used(self._plan.compiled(answer.placement), current, answer.placement)
        self._explorer.measuring(wanted, doubtful)
        self._rows.append(DecisionRow(step.sequence, step.step, "explored", answer.took_s, ""))
        await self._devices.probe(sorted(wanted), step, at_s)

    def add_refusal(self, decision: Decision, why: str) -> None:
        """Note that devices refused what was decided; the policy is told at the next decision."""
        self._refused = Refusal(decision.placement, why)
        self._rows.append(DecisionRow(decision.step.sequence, decision.step.step, "refused", None, why))

    def take_rows(self) -> list[DecisionRow]:
        """Return the rows since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def _worth_asking(self, view: ClusterView) -> bool:
        """Return whether something has changed beyond the threshold since the last question, or that is long ago."""
        self._unasked += 1
        before, threshold = self._asked, self._rules.threshold
        if threshold and self._unasked < REASKED and largest_change(before, view) <= threshold:
            return False
        self._asked, self._unasked = view, 0
        return True
