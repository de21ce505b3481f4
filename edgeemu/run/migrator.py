"""Carries decisions out: prepare, copy, commit. Knows the backend's interface; no sockets and no processes."""

from collections.abc import Callable, Iterable, Mapping
from heapq import nlargest

from edgeemu.placement.migration import MigrationProtocol, MigrationState
from edgeemu.report.placement_rows import placement_rows
from edgeemu.report.rows import MigrationRow, PlacementRow
from edgeemu.run.backend import MigrationTransport
from edgeemu.run.decider import Decision
from edgeemu.run.plan import Plan
from edgeemu.run.running_migration import RunningMigration
from edgeemu.timeline.scheduler import Due


class Migrator:
    """The placement of a run and how it changes. Rows tell of every block that was to move, moved or not.

    A migration begins, and its routes switch, while no step is in flight: as long as the migrator `waits`, no step may
    be released, and when the last one has its token it is to `advance`. A background copy runs while steps go on.
    """

    def __init__(self, plan: Plan, devices: MigrationTransport, on_refusal: Callable[[Decision, str], None]) -> None:
        self.placement = plan.placement
        self._plan = plan
        self._devices = devices
        self._on_refusal = on_refusal
        self._pending: Decision | RunningMigration | None = None
        self._new_rows: list[MigrationRow] = []
        self._held: list[PlacementRow] = []  # since they were taken
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

    async def advance(self, waiting: Iterable[Due], at_s: float) -> float:
        """Begin or completes a migration, with no step in flight. Return when the steps that wait may start."""
        rows = {due.step.sequence: due.step.past for due in waiting if due.step.step > 0}
        match self._pending:
            case RunningMigration() as running:
                await self._ship(running, rows, at_s)
                return await self._switch(running, at_s)
            case Decision() as decision if rows:
                return await self._begin(decision, rows, max(at_s, decision.at_s))
        self._pending = None  # the sequences that it was for have ended
        return at_s

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

    async def _begin(self, decision: Decision, rows: Mapping[int, int], at_s: float) -> float:
        """Prepare, and ship the first round: all of it with `pause`, in the background with `precopy`."""
        rules, epoch = self._plan.rules, self._devices.next_epoch()
        protocol = MigrationProtocol(epoch, self.placement, decision.placement, rules.weights_on_flash)
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
        return await self._switch(running, at_s)

    def _last_rows(self, rows: Mapping[int, int]) -> int:
        """Return how many rows all caches hold at the commit, at most: with `precopy`, sequences go on or change."""
        if not self._plan.rules.precopy:
            return sum(rows.values())
        asked, at_once = self._plan.requests, self._plan.concurrency
        later = range(max(rows) + 1, len(asked)) if at_once > 1 else range(0)
        return sum(nlargest(at_once, (asked[sequence].total_tokens for sequence in (*rows, *later))))

    async def _ship(self, running: RunningMigration, rows: Mapping[int, int], at_s: float) -> None:
        shipments = running.next_round(rows, self._plan.costs)
        if shipments:
            await self._devices.ship(running.protocol, shipments, at_s)

    async def _switch(self, running: RunningMigration, at_s: float) -> float:
        """Wait for the round, and commit. Return when the next step may be released."""
        self._pending = None
        protocol, arrived_s = running.protocol, at_s
        if protocol.state is MigrationState.COPYING:
            arrived_s = max(at_s, await self._devices.wait(protocol))
        await self._devices.commit(protocol, self._plan.compiled(protocol.new))
        protocol.committed()
        self.placement = protocol.new
        self._hold(protocol.epoch, running.step[:2], arrived_s)
        self._record(running, "committed", arrived_s, arrived_s - at_s)
        return arrived_s

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
