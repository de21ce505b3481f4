"""The best single device: the baseline that every split has to beat. Pure."""

from edgeemu.errors import InfeasibleError
from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.placement import Placement
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.units import SIZE


@planned_once
def place(view: ClusterView) -> Placement:
    """Place everything on the device with the least decode time, of those that can hold it; keep it while it fits."""
    blocks = list(all_blocks(view.costs.shape))
    whole = Placement(dict.fromkeys(blocks, 0))
    need_bytes = view.usages(whole)[0].page().total_bytes
    able = [i for i, device in enumerate(view.devices) if device.memory_bytes >= need_bytes]
    if not able:
        most = max(view.devices, key=lambda device: device.memory_bytes)
        raise InfeasibleError(
            f"no single device can hold {view.costs.shape.name}: it needs {SIZE.format_human(need_bytes)}, "
            f"and the largest, {most.name}, has {SIZE.format_human(most.memory_bytes)}. "
            "Take a policy that splits the model (edgeemu policies)."
        )
    best = min(able, key=view.model_time_s)
    return Placement(dict.fromkeys(blocks, best))
