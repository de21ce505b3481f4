"""The parts of the backend of device processes that others have: migrations, replicas, failures, and time."""

from collections.abc import Mapping

from edgeemu.placement.migration import MigrationProtocol
from edgeemu.placement.program import Program
from edgeemu.placement.replica_copies import ReplicaRound
from edgeemu.placement.replicas import Replica
from edgeemu.placement.shipments import Shipment
from edgeemu.report.usage_rows import StepRows
from edgeemu.run.backend import Loss, SampledToken, StepMeasurement
from edgeemu.run.processes.emulated_time import EmulatedTime
from edgeemu.run.processes.failures import ProcessFailures
from edgeemu.run.processes.installed_program import InstalledProgram
from edgeemu.run.processes.migration import ProcessMigration
from edgeemu.run.processes.replicas import ProcessReplicas


class ForwardsMigrations:
    """Hands migrations on."""

    _migration: ProcessMigration
    _replicas: ProcessReplicas
    installed: InstalledProgram

    def next_epoch(self) -> int:
        return self.installed.next_epoch()

    async def prepare(self, migration: MigrationProtocol, rows: Mapping[int, int], last_rows: int, at_s: float) -> str:
        return await self._migration.prepare(migration, rows, last_rows, at_s)

    async def ship(self, migration: MigrationProtocol, shipments: list[Shipment], at_s: float) -> None:
        await self._migration.ship(migration, shipments, at_s)

    async def arrived(self, migration: MigrationProtocol, by_s: float) -> float | None:
        return await self._migration.arrived(migration, by_s)

    async def wait(self, migration: MigrationProtocol, by_s: float | None = None) -> float | None:
        return await self._migration.wait(migration, by_s)

    async def commit(self, migration: MigrationProtocol, program: Program) -> None:
        await self._migration.commit(migration, program)
        self._replicas.forget_rounds()

    async def abort(self, migration: MigrationProtocol) -> None:
        await self._migration.abort(migration)


class ForwardsReplicas:
    """Hands on what concerns replicas."""

    _replicas: ProcessReplicas

    async def hold_replicas(self, epoch: int, replicas: frozenset[Replica], *, load: bool) -> None:
        await self._replicas.hold(epoch, replicas, load=load)

    async def replicate(self, round_: ReplicaRound, at_s: float) -> None:
        await self._replicas.replicate(round_, at_s)

    async def replicated(self, by_s: float) -> list[tuple[int, int]]:
        return self._replicas.replicated(by_s)

    async def stop_replicating(self) -> None:
        await self._replicas.stop()


class ForwardsFailures:
    """Hands on what happens to devices that fail, and to those that go on without them."""

    _failures: ProcessFailures

    async def end_device(self, device: int, at_s: float) -> None:
        await self._failures.end_device(device, at_s)

    async def stop_device(self, device: int, at_s: float, until_s: float) -> None:
        await self._failures.stop_device(device, at_s, until_s)

    async def continue_device(self, device: int) -> None:
        await self._failures.continue_device(device)

    async def restart_device(self, device: int, at_s: float) -> None:
        await self._failures.restart_device(device, at_s)

    def take_losses(self) -> list[Loss]:
        return self._failures.take_losses()

    async def halt(self, at_s: float) -> list[SampledToken]:
        return await self._failures.halt(at_s)

    async def rewind(self, rows: Mapping[int, int], layers: int, kept: Mapping[int, int]) -> None:
        await self._failures.rewind(rows, layers, kept)

    async def follow(self, program: Program, rows: int = 0, past: int = 0) -> None:
        await self._failures.follow(program, rows, past)


class ForwardsTime:
    """Hands on what only the emulated time knows."""

    _time: EmulatedTime

    async def next_token(self, by_s: float | None = None) -> SampledToken | None:
        return await self._time.next_token(by_s)

    async def observe(self) -> list[StepMeasurement]:
        return await self._time.observe()

    def take_rows(self) -> StepRows:
        return self._time.take_rows()
