"""Migrations between device processes: the messages of each phase. Knows when a phase ends; decides nothing."""

from collections import defaultdict
from collections.abc import Mapping

from edgeemu.device import protocol_in, protocol_out
from edgeemu.placement.migration import MigrationProtocol, flash_ends, incoming, needs
from edgeemu.placement.program import Program
from edgeemu.placement.shipments import Shipment, chains
from edgeemu.run.plan import Plan
from edgeemu.run.processes.emulated_time import EmulatedTime
from edgeemu.run.processes.installed_program import InstalledProgram
from edgeemu.run.processes.migration_round import MigrationRound
from edgeemu.run.processes.session import Session


class ProcessMigration:
    """The `MigrationTransport` of device processes."""

    def __init__(self, plan: Plan, session: Session, installed: InstalledProgram, time: EmulatedTime) -> None:
        self._plan = plan
        self._session = session
        self._installed = installed
        self._time = time
        self._round = MigrationRound(session, 0, -1, [])

    def on_arrived(self, message: protocol_out.Arrived) -> None:
        """Take a receiver's message that it has all of the round in progress."""
        self._round.arrived.append(message)

    async def prepare(self, migration: MigrationProtocol, rows: Mapping[int, int], last_rows: int, at_s: float) -> str:
        held, costs = self._plan.usages(migration.left), self._plan.costs
        receivers = list(needs(migration, held, sum(rows.values()), last_rows, costs))
        for target, moved, reserve_bytes, growth_bytes in receivers:
            prepare = protocol_in.Prepare(migration.epoch, moved, reserve_bytes, growth_bytes, at_s)
            await self._session.send(target, prepare)
        answers = await self._session.answers(protocol_out.Prepared, [need.target for need in receivers])
        return "; ".join(answer.refusal for _, answer in sorted(answers.items()) if answer.refusal)

    async def ship(self, migration: MigrationProtocol, shipments: list[Shipment], at_s: float) -> None:
        epoch, number, rules = migration.epoch, migration.round, self._plan.rules
        flash_s = flash_ends(migration, at_s, rules.flash_bytes_per_s, self._plan.costs)
        self._round = MigrationRound(self._session, epoch, number, shipments, flash_s)
        moved = incoming(migration)
        for target in self._round.receivers:
            count = sum(shipment.target == target for shipment in shipments)
            read = [move.block for move in moved[target] if target in flash_s and migration.from_flash(move)]
            expect = protocol_in.Expect(epoch, number, count, read, flash_s.get(target, 0.0))
            await self._session.send(target, expect)
        by_source: dict[int, list[Shipment]] = defaultdict(list)
        for (source, _), shipped in chains(shipments).items():
            by_source[source] += shipped
        for source, shipped in by_source.items():
            peers = [self._installed.peer(source, target) for target in sorted({s.target for s in shipped})]
            ship = protocol_in.Ship(epoch, number, at_s, rules.chunk_bytes, shipped, peers)
            await self._session.send(source, ship)
        self._time.ship(self._round, at_s, rules.chunk_bytes, flash_s)

    async def arrived(self, migration: MigrationProtocol, by_s: float) -> float | None:
        arrived_s = await self._time.arrived_s(self._round)
        if arrived_s is None or arrived_s > by_s:
            return None
        self._all_arrived(migration)
        return arrived_s

    async def wait(self, migration: MigrationProtocol, by_s: float | None) -> float | None:
        arrived_s = await self._time.wait_for(self._round, by_s)
        if arrived_s is not None:
            self._all_arrived(migration)
        return arrived_s

    def _all_arrived(self, migration: MigrationProtocol) -> None:
        for message in self._round.arrived:
            migration.arrived(message.device, message.number)

    async def commit(self, migration: MigrationProtocol, program: Program) -> None:
        await self._session.ask(
            {
                at: protocol_in.Commit(migration.epoch, program.on(at), self._installed.peers(program, at))
                for at in self._session.presence.answering()
            }
        )
        self._installed.install(program, migration.epoch)

    async def abort(self, migration: MigrationProtocol) -> None:
        await self._time.complete()
        self._time.cancel()
        await self._session.ask_all(protocol_in.Abort(migration.epoch))
