"""Between tokens: decide, and carry a decision out. Knows the backend's interface; no sockets and no processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest

from edgeemu.placement.migration import MigrationProtocol, MigrationState
from edgeemu.placement.placement import Placement
from edgeemu.placement.shipments import payload_bytes
from edgeemu.policies import Policy
from edgeemu.policies.view.cluster_view import ClusterView, largest_change
from edgeemu.report.rows import MigrationRow
from edgeemu.run.ask_policy import next_decision
from edgeemu.run.backend import Backend
from edgeemu.run.decider import PATIENCE, REASKED, View, Wanted
from edgeemu.run.plan import Plan
from edgeemu.run.watcher import Watcher
from edgeemu.timeline.scheduler import Due
from edgeemu.timeline.steps import Step

"""What a policy is shown for the decision before some steps, one of each open sequence, at an instant."""


@dataclass(slots=True)
class _UnderWay:
    """A migration that has begun, and what it has come to."""

    migration: MigrationProtocol
    step: Step
    began_s: float
    bytes: dict[str, int]


class Migrator:
    """The placement of a run and how it changes. `rows` grow with every block that was to move, moved or not.

    The policy is asked when a sequence `goes_on`. What it wants is done where nothing is in flight: while the migrator
    `waits`, no step may be released, and when the last one has its token it is asked what to do `between`.
    """

    def __init__(self, plan: Plan, devices: Backend, view: View | None = None) -> None:
        self.placement = plan.placement
        self.decision_s: list[float] = []
        self.problems: list[str] = []
        self.given_up = ""  # why the policy is not asked any more
        self.rows: list[MigrationRow] = []
        self._plan = plan
        self._rules = plan.rules
        self._devices = devices
        self._view = view or Watcher(plan, devices).view
        self._late = 0  # decisions, up to the last
        self._epoch = 0
        self._under_way: _UnderWay | None = None
        self._new_rows: list[MigrationRow] = []
        self._before: Step | None = None  # the step that waits for a change or a switch
        self._wanted: Wanted | None = None
        self._asked = plan.view  # what the policy was shown when it was asked last
        self._unasked = 0  # turns since then
        self._tokens = 0  # of all open sequences, since the policy was asked

    @property
    def waits(self) -> bool:
        """Whether there is something to do as soon as nothing is in flight."""
        return self._before is not None

    async def goes_on(self, due: Due, steps: Sequence[Step]) -> float:
        """A sequence has a token, and a next step; `steps` are those of all that are open. Returns when it may go.

        The policy is asked while other sequences are in flight; only a change of placement waits for them.
        """
        self._tokens += 1
        turn = self._tokens >= self._rules.interval_tokens * len(steps)
        if turn:
            self._tokens = 0
        if self.waits:
            return due.at_s
        if self._under_way is not None:
            if await self._devices.arrived(self._under_way.migration, by_s=due.at_s) is not None:
                self._before = due.step
            return due.at_s
        if self._plan.decide is None or self._late == PATIENCE or not turn:
            return due.at_s
        return await self._decide(self._plan.decide, due, steps)

    async def between(self, held: Sequence[Due], at_s: float) -> float:
        """Nothing is in flight, and `held` is what waits. Returns when it may go."""
        assert self._before is not None
        step, self._before = self._before, None
        rows = {due.step.sequence: due.step.past for due in held if due.step.step > 0}
        if self._under_way is not None:
            return await self._switch_copied(self._under_way, rows, at_s)
        assert self._wanted is not None
        wanted, self._wanted = self._wanted, None
        if not rows:  # whom it was for have ended
            return at_s
        return await self._begin(wanted.placement, step, rows, max(at_s, wanted.at_s))

    async def ended(self, still_open: int) -> None:
        """A sequence has its last token. A copy that is under way goes on for the others; for none it is given up."""
        if self._under_way is not None and not still_open:
            await self._abort(self._under_way, "the sequence ended")

    def take_rows(self) -> list[MigrationRow]:
        """Rows since the last call."""
        rows, self._new_rows = self._new_rows, []
        return rows

    async def _decide(self, policy: Policy, due: Due, steps: Sequence[Step]) -> float:
        """Returns when the step may go: the decision takes its time. What it wants is done as soon as nothing flies."""
        step = due.step
        view = await self._view([other for other in steps if other.step > 0], due.at_s)
        if not self._worth_asking(view):
            return due.at_s
        decision = next_decision(policy, view, self.placement, self._rules.decision_limit_s)
        self.decision_s.append(decision.took_s)
        if decision.problem:
            self.problems.append(f"sequence {step.sequence}, step {step.step}: {decision.problem}")
        self._late = self._late + 1 if decision.late else 0
        if self._late == PATIENCE:
            where = f"sequence {step.sequence}, step {step.step}"
            self.given_up = f"{self._plan.policy} was not asked again after {where}: late {PATIENCE} times in a row"
            self.problems.append(self.given_up)
        at_s = due.at_s + (decision.took_s if self._rules.decision_s is None else self._rules.decision_s)
        if decision.placement is not self.placement:
            self._before, self._wanted = step, Wanted(decision.placement, at_s)
        return at_s

    def _worth_asking(self, view: ClusterView) -> bool:
        """Whether anything has changed by more than the threshold since the policy was asked, or that is long ago."""
        self._unasked += 1
        before, threshold = self._asked, self._rules.threshold
        if threshold and self._unasked < REASKED and largest_change(before, view) <= threshold:
            return False
        self._asked, self._unasked = view, 0
        return True

    async def _begin(self, wanted: Placement, step: Step, rows: Mapping[int, int], at_s: float) -> float:
        """Prepare, and the first round: the whole of it with `pause`, in the background with `precopy`."""
        self._epoch = max(self._epoch, self._devices.epoch) + 1  # one that was aborted is not used again
        migration = MigrationProtocol(self._epoch, self.placement, wanted, self._rules.weights_on_flash)
        under_way = _UnderWay(migration, step, at_s, {})
        refusal = await self._devices.prepare(migration, rows, self._last_rows(rows), at_s)
        if refusal:
            self.problems.append(f"sequence {step.sequence}, step {step.step}: {refusal}")
            await self._abort(under_way, refusal)
            return at_s
        migration.prepared()
        await self._ship(under_way, rows, at_s)
        if self._rules.precopy:
            self._under_way = under_way
            return at_s
        return await self._switch(under_way, at_s)

    def _last_rows(self, rows: Mapping[int, int]) -> int:
        """Rows of all caches at the commit, at most. While tokens go on, others may take the place of who ends."""
        if not self._rules.precopy:
            return sum(rows.values())
        asked, at_once = self._plan.requests, self._plan.concurrency
        later = range(max(rows) + 1, len(asked)) if at_once > 1 else range(0)
        return sum(nlargest(at_once, (asked[sequence].total_tokens for sequence in (*rows, *later))))

    async def _switch_copied(self, under_way: _UnderWay, rows: Mapping[int, int], at_s: float) -> float:
        """The background copy is through: ship the rows since, while tokens wait, and switch."""
        await self._ship(under_way, rows, at_s)
        self._under_way = None
        return await self._switch(under_way, at_s)

    async def _ship(self, under_way: _UnderWay, rows: Mapping[int, int], at_s: float) -> None:
        shipments = under_way.migration.next_round(rows)
        for shipment in shipments:
            name = str(shipment.block)
            under_way.bytes[name] = under_way.bytes.get(name, 0) + payload_bytes(shipment, self._plan.costs)
        if shipments:
            await self._devices.ship(under_way.migration, shipments, at_s)

    async def _switch(self, under_way: _UnderWay, at_s: float) -> float:
        """Waits for the round, and commits. Returns when the next step may be released."""
        migration = under_way.migration
        arrived_s = at_s
        if migration.state is MigrationState.COPYING:
            waited_s = await self._devices.arrived(migration, by_s=None)
            assert waited_s is not None
            arrived_s = max(at_s, waited_s)
        await self._devices.commit(migration, self._plan.compiled(migration.new))
        migration.committed()
        self.placement = migration.new
        self._note(under_way, "committed", arrived_s, arrived_s - at_s)
        return arrived_s

    async def _abort(self, under_way: _UnderWay, why: str) -> None:
        self._under_way = self._before = self._wanted = None
        await self._devices.abort(under_way.migration)
        under_way.migration.aborted(why)
        self._note(under_way, f"aborted: {why}", under_way.began_s, 0.0)

    def _note(self, under_way: _UnderWay, outcome: str, ended_s: float, pause_s: float) -> None:
        names = [device.name for device in self._plan.cluster.devices]
        self._new_rows += [
            MigrationRow(
                sequence=under_way.step.sequence,
                step=under_way.step.step,
                epoch=under_way.migration.epoch,
                block=str(move.block),
                source=names[move.source],
                target=names[move.target],
                bytes=under_way.bytes.get(str(move.block), 0),
                began_s=under_way.began_s,
                ended_s=ended_s,
                pause_s=pause_s,
                outcome=outcome,
            )
            for move in under_way.migration.moves
        ]
        self.rows += self._new_rows[-len(under_way.migration.moves) :]
