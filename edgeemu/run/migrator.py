"""Carries decisions out: prepare, copy, commit. Knows the backend's interface; no sockets and no processes."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import nlargest
from typing import NamedTuple

from edgeemu.errors import InfeasibleError
from edgeemu.placement.migration import MigrationProtocol, MigrationState
from edgeemu.placement.placement import Placement
from edgeemu.placement.replicas import Replica
from edgeemu.placement.valid_rows import ValidRows
from edgeemu.report.placement_rows import placement_rows
from edgeemu.report.rows import MigrationRow, PlacementRow
from edgeemu.run.backend import MigrationTransport
from edgeemu.run.decider import Decision
from edgeemu.run.plan import Plan
from edgeemu.run.running_migration import RunningMigration
from edgeemu.timeline.scheduler import Due
from edgeemu.timeline.steps import Step


class Restoration(NamedTuple):
    """Task to restore a run: `lost` devices, and the rows that are left of caches.

    `step`: the first that waits for it. `store`: the device whose storage has all weights; None: every device reads
    from its own.
    """

    step: Step
    lost: frozenset[int]
    valid: ValidRows
    store: int | None
    promoted: frozenset[Replica] = frozenset()  # replicas that take the place of what was lost


class Restored(NamedTuple):
    """How a restoration ended: what has moved, and when. Not `committed`: something else was lost before."""

    at_s: float
    committed: bool
    moves: int
    sent_bytes: int


class Migrator:
    """The placement of a run and how it changes. Rows tell of every block that was to move, moved or not.

    A migration begins, and its routes switch, while no step is in flight: as long as the migrator `waits`, no step may
    be released, and when the last one has its token it is to `advance`. A background copy runs while steps go on.
    """

    def __init__(
        self,
        plan: Plan,
        devices: MigrationTransport,
        on_refusal: Callable[[Decision, str], None],
        all_answer: Callable[[], bool] = lambda: True,
        make_way: Callable[[Placement, float], Awaitable[None]] | None = None,
        make_room: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """`all_answer`: whether no device stands still; before, routes cannot switch.

        `make_way` drops what would not fit beside a new placement at an instant. `make_room` frees memory also for
        blocks that are there twice meanwhile, and returns whether it has.
        """
        self.placement = plan.placement
        self._plan = plan
        self._devices = devices
        self._on_refusal = on_refusal
        self._all_answer = all_answer
        self._make_way, self._make_room = make_way, make_room
        self._pending: Decision | RunningMigration | None = None
        self._new_rows: list[MigrationRow] = []
        self._held: list[PlacementRow] = []  # since they were taken
        if plan.resumed is None or plan.resumed.placement is None:  # else it is recorded
            self._hold(0, (0, 0), 0.0)

    @property
    def busy(self) -> bool:
        """Whether a decision is being carried out."""
        return self._pending is not None

    @property
    def waits(self) -> bool:
        """Whether there is something to do as soon as no step is in flight."""
        return isinstance(self._pending, Decision) or (self._pending is not None and self._pending.copied)

    def request(self, decision: Decision) -> None:
        """Take a decision over; one for the present placement needs nothing."""
        if decision.placement is not self.placement:
            self._pending = decision

    async def poll(self, at_s: float) -> None:
        """Check whether a background copy has arrived by an instant."""
        running = self._pending
        if isinstance(running, RunningMigration) and not running.copied:
            running.copied = await self._devices.arrived(running.protocol, at_s) is not None

    async def advance(self, waiting: Iterable[Due], at_s: float, by_s: float | None = None) -> float | None:
        """Begin or complete a migration, with no step in flight. Return when the steps that wait may start.

        None: it goes on longer than `by_s`, and is to be advanced again.
        """
        rows = {due.step.sequence: due.step.past for due in waiting if due.step.step > 0}
        match self._pending:
            case RunningMigration() as running:
                if not running.last_round:
                    running.last_round = True
                    await self._ship(running, rows, at_s)
                return await self._switch(running, at_s, by_s)
            case Decision() as decision if rows:
                return await self._begin(decision, rows, max(at_s, decision.at_s), by_s)
        self._pending = None  # the sequences that it was for have ended
        return at_s

    async def abandon(self, gone: Collection[int]) -> None:
        """Give a change up that devices which are gone have a part in; they have no blocks."""
        match self._pending:
            case RunningMigration(protocol=protocol):
                wanted = protocol.new
            case Decision(placement=wanted):
                pass
            case None:
                return
        if not frozenset(gone).isdisjoint(wanted.owner.values()):
            await self.give_up("a device was lost")

    async def give_up(self, why: str) -> None:
        """Give a change up that has not been committed."""
        pending, self._pending = self._pending, None
        if isinstance(pending, RunningMigration):
            await self._abort(pending, why)

    async def restore(
        self,
        placements: Sequence[Placement],
        what: Restoration,
        at_s: float,
        passes: Callable[[float | None], Awaitable[bool]],
        next_s: Callable[[], float | None],
    ) -> Restored:
        """Bring the blocks of lost devices to others, with no step in flight, by the first placement that is accepted.

        `passes` has happen what happens until an instant, `next_s` is the next; it returns whether something else was
        lost.

        Raises:
            InfeasibleError: devices refuse all of the placements.
        """
        rules, refusals = self._plan.rules, []
        for placement in placements:
            if self._make_way is not None and not what.promoted:
                await self._make_way(placement, at_s)
            epoch = self._devices.next_epoch()
            protocol = MigrationProtocol(
                epoch,
                self.placement,
                placement,
                rules.weights_on_flash,
                what.lost,
                what.store,
                what.valid,
                what.promoted,
            )
            running = RunningMigration(protocol, what.step, at_s, last_round=True)
            refusal = await self._devices.prepare(protocol, what.valid.kept, sum(what.valid.kept.values()), at_s)
            if not refusal:
                break
            refusals.append(refusal)
            await self._abort(running, refusal)
        else:
            raise InfeasibleError(f"devices have no room for what was lost: {'; '.join(refusals)}")
        protocol.prepared()
        await self._ship(running, what.valid.kept, at_s)
        arrived_s: float | None = at_s
        if protocol.state is MigrationState.COPYING:
            while (arrived_s := await self._devices.wait(protocol, by_s := next_s())) is None:
                if await passes(by_s):
                    await self._abort(running, "something else was lost")
                    return Restored(at_s, committed=False, moves=0, sent_bytes=running.all_bytes)
        assert arrived_s is not None
        await self._commit(running, max(at_s, arrived_s), at_s)
        return Restored(max(at_s, arrived_s), True, len(protocol.moves), running.all_bytes)

    async def sequence_ended(self, still_open: int) -> None:
        """Give a copy up if no sequence is open any more; it goes on for others."""
        if isinstance(self._pending, RunningMigration) and not still_open:
            await self._abort(self._pending, "the sequence ended")

    def take_rows(self) -> list[MigrationRow]:
        """Return the rows since the last call."""
        rows, self._new_rows = self._new_rows, []
        return rows

    def take_placements(self) -> list[PlacementRow]:
        """Return the rows of the placements that are in force since the last call."""
        rows, self._held = self._held, []
        return rows

    async def _begin(
        self, decision: Decision, rows: Mapping[int, int], at_s: float, by_s: float | None
    ) -> float | None:
        """Prepare, and ship the first round: all of it with `pause`, in the background with `precopy`."""
        if self._make_way is not None:
            await self._make_way(decision.placement, at_s)
        rules, epoch = self._plan.rules, self._devices.next_epoch()
        protocol = MigrationProtocol(epoch, self.placement, decision.placement, rules.weights_on_flash)
        running = RunningMigration(protocol, decision.step, at_s)
        refusal = await self._devices.prepare(protocol, rows, self._last_rows(rows), at_s)
        if refusal and self._make_room is not None and await self._make_room():
            await self._devices.abort(protocol)
            protocol = replace(protocol, epoch=self._devices.next_epoch())
            running = RunningMigration(protocol, decision.step, at_s)
            refusal = await self._devices.prepare(protocol, rows, self._last_rows(rows), at_s)
        if refusal:
            self._on_refusal(decision, refusal)
            await self._abort(running, refusal)
            return at_s
        protocol.prepared()
        await self._ship(running, rows, at_s)
        if rules.precopy and protocol.state is MigrationState.COPYING:
            self._pending = running
            return at_s
        running.last_round = running.copied = True
        return await self._switch(running, at_s, by_s)

    def _last_rows(self, rows: Mapping[int, int]) -> int:
        """Return how many rows all caches hold at the commit, at most: with `precopy`, sequences go on or change."""
        if not self._plan.rules.precopy:
            return sum(rows.values())
        asked, at_once = self._plan.requests, self._plan.concurrency
        later = range(max(rows) + 1, len(asked)) if at_once > 1 else range(0)
        return sum(nlargest(at_once, (asked[sequence].total_tokens for sequence in (*rows, *later))))

    async def _ship(self, running: RunningMigration, rows: Mapping[int, int], at_s: float) -> None:
        shipments = running.next_round(rows, self._plan.costs)
        if running.protocol.state is MigrationState.COPYING:  # what is read from storage is no shipment
            await self._devices.ship(running.protocol, shipments, at_s)

    async def _switch(self, running: RunningMigration, at_s: float, by_s: float | None) -> float | None:
        """Wait for the round, and commit. Return when the next step may be released; None: not before `by_s`."""
        self._pending, protocol = running, running.protocol
        running.waited_from_s = at_s if running.waited_from_s is None else running.waited_from_s
        if protocol.state is MigrationState.COPYING:
            arrived_s = await self._devices.wait(protocol, by_s)
            if arrived_s is None:
                return None
            at_s = max(at_s, arrived_s)
        if not self._all_answer():
            return None
        self._pending = None
        await self._commit(running, at_s, running.waited_from_s)
        return at_s

    async def _commit(self, running: RunningMigration, at_s: float, waited_from_s: float) -> None:
        protocol = running.protocol
        await self._devices.commit(protocol, self._plan.compiled(protocol.new))
        protocol.committed()
        self.placement = protocol.new
        self._hold(protocol.epoch, running.step[:2], at_s)
        self._record(running, "committed", at_s, at_s - waited_from_s)

    async def _abort(self, running: RunningMigration, why: str) -> None:
        self._pending = None
        await self._devices.abort(running.protocol)
        running.protocol.aborted(why)
        self._record(running, f"aborted: {why}", running.began_s, 0.0)

    def _hold(self, epoch: int, step: tuple[int, int], at_s: float) -> None:
        names, shape = [device.name for device in self._plan.cluster.devices], self._plan.model.shape
        self._held += placement_rows(self.placement, shape, names, epoch, step, at_s)

    def _record(self, running: RunningMigration, outcome: str, ended_s: float, pause_s: float) -> None:
        names = [device.name for device in self._plan.cluster.devices]
        self._new_rows += running.rows(names, outcome, ended_s, pause_s)
