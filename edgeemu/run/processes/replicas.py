"""Replicas on device processes: the messages of each round. Knows when a holder has it; decides nothing."""

from collections import defaultdict

from edgeemu.device import protocol_in, protocol_out
from edgeemu.placement.blocks import Block
from edgeemu.placement.replica_copies import ReplicaRound, read_ends
from edgeemu.placement.replicas import Replica, replica_bytes
from edgeemu.placement.shipments import Shipment, chains
from edgeemu.run.plan import Plan
from edgeemu.run.processes.emulated_time import EmulatedTime
from edgeemu.run.processes.installed_program import InstalledProgram
from edgeemu.run.processes.migration_round import MigrationRound
from edgeemu.run.processes.session import Session


class ProcessReplicas:
    """The `Replication` of device processes."""

    def __init__(self, plan: Plan, session: Session, installed: InstalledProgram) -> None:
        self.time: EmulatedTime | None = None  # from the beginning of the timeline on
        self._plan, self._session, self._installed = plan, session, installed
        self._held: frozenset[Replica] = frozenset()
        self._epoch = -1
        self._epochs = set[int]()  # of all rounds: some that were given up are told late
        self._rounds: dict[int, MigrationRound] = {}  # under way, by number

    def on_arrived(self, message: protocol_out.Arrived) -> bool:
        """Take a holder's message that it has all of a round. Return whether it is of a round to replicas."""
        round_ = self._rounds.get(message.number)
        if round_ is not None and round_.epoch == message.epoch:
            round_.arrived.append(message)
        return message.epoch in self._epochs

    async def hold(self, epoch: int, replicas: frozenset[Replica], *, load: bool) -> None:
        await self._timed.complete()
        self._held, self._epoch = replicas, epoch
        self._epochs.add(epoch)
        self.forget_rounds()
        usages = self._plan.usages(self._plan.placement)
        by_holder: dict[int, list[tuple[Block, int]]] = defaultdict(list)
        for block, holder in sorted(replicas):
            by_holder[holder].append((block, replica_bytes(block, usages[holder])))
        await self._session.ask(
            {at: protocol_in.HoldReplicas(epoch, by_holder[at], load) for at in self._session.presence.answering()}
        )

    async def replicate(self, round_: ReplicaRound, at_s: float) -> None:
        rules, number = self._plan.rules, round_.number
        flash_s = read_ends(round_, at_s, rules.flash_bytes_per_s, self._plan.costs)
        made = self._rounds[number] = MigrationRound(self._session, self._epoch, number, round_.shipments, round_.reads)
        for target in made.receivers:
            count = sum(shipment.target == target for shipment in round_.shipments)
            read = [replica.block for replica in round_.reads.get(target, ())]
            expect = protocol_in.Expect(self._epoch, number, count, read, flash_s.get(target, 0.0), to_replicas=True)
            await self._session.send(target, expect)
        by_source: dict[int, list[Shipment]] = defaultdict(list)
        for (source, _), shipped in chains(round_.shipments).items():
            by_source[source] += shipped
        for source, shipped in by_source.items():
            peers = [self._installed.peer(source, target) for target in sorted({each.target for each in shipped})]
            ship = protocol_in.Ship(self._epoch, number, at_s, rules.chunk_bytes, shipped, peers, to_replicas=True)
            await self._session.send(source, ship)
        await self._timed.replicate(made, at_s, rules.chunk_bytes, flash_s)

    def replicated(self, by_s: float) -> list[tuple[int, int]]:
        arrived = self._timed.replicated(list(self._rounds.values()), by_s)
        for number in [number for number, round_ in self._rounds.items() if round_.is_told]:
            del self._rounds[number]
        return arrived

    async def stop(self) -> None:
        if self._held:
            await self.hold(self._installed.next_epoch(), self._held, load=False)

    def lost(self, holder: int) -> None:
        """Note that a device has lost its replicas with its process; it holds none again until it is told."""
        self._held = frozenset(replica for replica in self._held if replica.holder != holder)

    def forget_rounds(self) -> None:
        """Note that devices have given up all rounds."""
        self._rounds.clear()
        if self.time is not None:
            self.time.cancel_replicas()

    @property
    def _timed(self) -> EmulatedTime:
        assert self.time is not None, "rounds have instants"
        return self.time
