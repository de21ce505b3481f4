"""Keeps replicas of blocks and caches up to date in the background, and knows what they are good for after a loss."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from edgeemu.errors import InfeasibleError
from edgeemu.placement.placement import Placement
from edgeemu.placement.replica_copies import ReplicaCopies
from edgeemu.placement.replicas import Replica, bytes_beside, promotion
from edgeemu.run.backend import Backend
from edgeemu.run.plan import Plan
from edgeemu.timeline.steps import Step

LEAD_S = 5e-3  # from a token to the departure of its rows: time for paced devices to be told of it


class Promotion(NamedTuple):
    """Replicas that take the place of what was lost, the placement with them, and the rows that they all have."""

    replicas: frozenset[Replica]
    placement: Placement
    rows: dict[int, int]  # by sequence


class Replicator:
    """Replicas of a run. Of the first placement they are there when the timeline begins."""

    def __init__(self, plan: Plan, devices: Backend) -> None:
        self._plan, self._devices = plan, devices
        self._copies = ReplicaCopies(-1, plan.placement, frozenset())
        self._of: tuple[Placement, frozenset[int]] | None = None  # what replicas were chosen for: devices that are gone
        self.lines: list[str] = []  # to be told the user

    async def begin(self, gone: Collection[int]) -> None:
        """Have the replicas of the first placement, before the timeline begins."""
        if self._plan.rules.recovery.replicas:
            plan, epoch = self._plan, self._devices.next_epoch()
            self._copies = ReplicaCopies(epoch, plan.placement, plan.replicas, plan.rules.recovery.store)
            self._of = plan.placement, frozenset(gone)
            await self._devices.hold_replicas(epoch, plan.replicas, load=True)

    async def keep_up(
        self, placement: Placement, steps: Sequence[Step], gone: Collection[int], at_s: float, *, moving: bool
    ) -> None:
        """Ship rows that replicas lack, before these steps of open sequences. `moving`: blocks are on their way."""
        if not self._plan.rules.recovery.replicas:
            return
        if self._of is None or self._of[0] is not placement or self._of[1] != gone:
            if moving:
                return
            await self._renew(placement, frozenset(gone), at_s)
        await self._take_arrivals(at_s)
        round_ = self._copies.next_round({step.sequence: step.past for step in steps if step.past})
        if round_ is not None:
            await self._devices.replicate(round_, at_s + LEAD_S)

    async def _take_arrivals(self, at_s: float) -> None:
        for holder, number in await self._devices.replicated(at_s):
            self._copies.arrived(holder, number)

    async def _renew(self, placement: Placement, gone: frozenset[int], at_s: float) -> None:
        """Choose replicas of a placement without devices that are gone; those that can stay are left alone."""
        self._of = placement, gone
        devices = self._devices.cluster.devices
        memory_bytes = [0 if device.index in gone else device.memory_at(at_s) for device in devices]
        try:
            chosen = self._plan.replicas_of(placement, memory_bytes, self._copies.replicas)
        except InfeasibleError as error:
            self.lines.append(f"no replicas from {at_s:.3g} s on: {error}")
            chosen = frozenset()
        store = self._plan.rules.recovery.store
        await self._hold(placement, chosen, None if store in gone else store)

    async def _hold(self, placement: Placement, replicas: frozenset[Replica], store: int | None = None) -> None:
        epoch = self._devices.next_epoch()
        self._copies = self._copies.renewed(epoch, placement, replicas, store)
        await self._devices.hold_replicas(epoch, replicas, load=False)

    async def give_way(self) -> bool:
        """Drop all replicas, in favour of blocks that are to move. Return whether there were any."""
        if not self._copies.replicas:
            return False
        self._of = None
        await self._hold(self._copies.placement, frozenset())
        return True

    async def make_way(self, placement: Placement, at_s: float) -> None:
        """Drop all replicas if they would not fit beside the blocks of a placement, and what runs them."""
        replicas = self._copies.replicas
        if not replicas:
            return
        usages = self._plan.usages(placement)
        devices = self._devices.cluster.devices
        for holder, size_bytes in bytes_beside(placement, replicas, usages).items():
            if usages[holder].page().total_bytes + size_bytes > devices[holder].memory_at(at_s):
                await self.give_way()
                return

    async def promotion(
        self, placement: Placement, gone: Collection[int], kept: Mapping[int, int], at_s: float
    ) -> Promotion | None:
        """Return what replicas are good for at a loss, with no step in flight; None: something has no replica."""
        copies = self._copies
        if copies.placement is not placement or not copies.replicas:
            return None
        await self._take_arrivals(at_s)
        copies.stop()
        self._of = None
        await self._devices.stop_replicating()
        chosen = promotion(placement, gone, copies.loaded)
        if chosen is None:
            return None
        promoted = Placement({**placement.owner, **dict(chosen)})
        return Promotion(frozenset(chosen), promoted, copies.common_rows(chosen, kept))

    def rewound(self, rows: Mapping[int, int], layers: int, kept: Mapping[int, int]) -> None:
        """Note that caches were shortened."""
        self._copies.rewound(rows, layers, kept)

    def lost(self, holders: Collection[int]) -> None:
        """Note that devices have lost what they held."""
        if holders:
            self._copies.lost(holders)
            self._of = None
