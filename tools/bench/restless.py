"""A policy that never rests, for runs in which blocks move at every token."""

from edgeemu.policies.api import ClusterView, Placement, all_blocks


class Restless:
    """Policy that moves one block to the next device whenever it is asked."""

    def __init__(self) -> None:
        self._turn = 0

    def __call__(self, view: ClusterView, current: Placement | None) -> Placement:
        n_devices = len(view.devices)
        if current is None:
            return Placement({block: n % n_devices for n, block in enumerate(all_blocks(view.costs.shape))})
        blocks = sorted(current.owner)
        block = blocks[self._turn % len(blocks)]
        self._turn += 1
        return current.moved([block], (current.owner[block] + 1) % n_devices)
