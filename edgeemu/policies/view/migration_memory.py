"""Devices without memory for a placement, or for the migration to it: their ledgers' arithmetic. Knows no time."""

from collections.abc import Sequence

from edgeemu.placement.memory import Usage
from edgeemu.placement.migration import MigrationProtocol, needs
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView


def refusing_devices(
    view: ClusterView, old: Placement, new: Placement, held: Sequence[Usage] | None = None
) -> list[int]:
    """Devices without the memory that a migration would reserve there, ascending; none, if it would go well.

    It says to the byte what devices say, if all sequences are as long as the longest. A receiver has both placements
    until the commit, and shards that a device puts together are in its memory twice meanwhile. Whether `new` fits on
    its own, `ClusterView.holds` says. `held`: the memory of each device under what is left of `old`, if it is known.
    """
    migration = MigrationProtocol(0, old, new, lost=view.lost)
    workload, held = view.workload, held or view.usages(migration.left)
    rows = workload.cached or workload.length
    last_rows = sum((workload.total_tokens, *workload.concurrent)) if view.precopy else rows
    refusing = []
    for need in needs(migration, held, rows, max(rows, last_rows), view.costs):
        device, usage = view.devices[need.target], held[need.target]
        page = usage.page()
        taken_bytes = page.weights_bytes + page.workspace_bytes + usage.groups.total() * usage.costs.kv_bytes(rows)
        limit_bytes = device.memory_bytes if need.moved else max(device.memory_bytes, device.installed_bytes)
        if taken_bytes + need.reserve_bytes + need.growth_bytes > limit_bytes:
            refusing.append(need.target)
    return refusing


def overfull(view: ClusterView, placement: Placement, current: Placement | None = None) -> dict[int, int]:
    """Bytes that devices would hold without memory for them, to the end of the sequence, ascending by device.

    A device that has lost memory, and so is overfull already, is left out if it then holds less.
    """
    held_bytes = view.held_bytes(placement)
    over = {device: held for device, held in held_bytes.items() if held > view.devices[device].memory_bytes}
    before = view.held_bytes(current) if over and current is not None else {}
    return {device: held for device, held in over.items() if held >= before.get(device, 0)}
