"""Devices that would refuse a migration, for any two placements: the arithmetic of their ledgers. Knows no time."""

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
