"""The placement that a scenario writes by hand, never changed: what a real system does, to be compared. Pure."""

from edgeemu.errors import InfeasibleError
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.device_view import MANY
from edgeemu.units import SIZE


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """Place as the scenario has it, and keep that, also where devices slow down or lose memory.

    Raises:
        InfeasibleError: there is no given placement, or it does not fit; the message has the bytes of each device
            that would need more than it has.
    """
    if current is not None:
        return current
    if view.given is None:
        raise InfeasibleError("no placement is given: the scenario writes none")
    over = [
        f"  {device.name} would need {need_bytes:,} B ({SIZE.format_human(need_bytes)}), "
        f"and has {device.memory_bytes:,} B ({SIZE.format_human(device.memory_bytes)})"
        for device, usage in zip(view.devices, view.usages(view.given), strict=True)
        if (need_bytes := usage.page().total_bytes) > device.memory_bytes
    ]
    if over:
        rows = over if len(over) <= MANY else [*over[:MANY], f"  and {len(over) - MANY} more devices"]
        raise InfeasibleError(
            "the given placement does not fit:\n"
            + "\n".join(rows)
            + "\nMove blocks to other devices in placement:, give these more memory, or lower max_tokens."
        )
    return view.given
