"""Complete layers in a chain, as in pipeline-parallel systems, with shares by speed. Pure."""

from edgeemu.errors import InfeasibleError
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, layer_blocks
from edgeemu.placement.memory import Usage
from edgeemu.placement.placement import Placement
from edgeemu.policies.search.apportion import highest_averages
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.search.pipeline_stages import StageCosts
from edgeemu.policies.view.cluster_view import ClusterView


@planned_once
def place(view: ClusterView) -> Placement:
    """Divide contiguous layers over the devices, in the order of the scenario, in proportion to their speeds.

    The embedding is on the first device that has room for it and begins the chain; the output matrix is on the last
    one that has room and ends it. Where a device's memory is full, its share goes to the others by their speed. The
    chain is kept while it fits, as in those systems.
    """
    shape = view.costs.shape
    usages, costs = view.empty_usages(), StageCosts(view)
    first = _first_that_fits(view, usages, EMBED, range(len(usages)))
    last = _first_that_fits(view, usages, LM_HEAD, range(len(usages) - 1, first - 1, -1))
    chain = range(first, last + 1)
    rooms = [max(0, costs.room(device, embed=device == first, lm_head=device == last)) for device in chain]
    if sum(rooms) < shape.n_layers:
        held = ", ".join(f"{view.devices[d].name} {room}" for d, room in zip(chain, rooms, strict=True))
        raise InfeasibleError(
            f"the chain has room for {sum(rooms)} of the {shape.n_layers} layers of {shape.name} ({held}). "
            "Give the devices more memory, add devices, or take a smaller model."
        )
    speeds = (1.0 / costs.layer_s[list(chain)]).tolist()
    owner: dict[Block, int] = {EMBED: first}
    layer = 0
    for device, share in zip(chain, highest_averages(speeds, shape.n_layers, rooms), strict=True):
        for mine in range(layer, layer + share):
            owner.update(dict.fromkeys(layer_blocks(shape, mine), device))
        layer += share
    owner[LM_HEAD] = last
    return Placement(owner)


def _first_that_fits(view: ClusterView, usages: list[Usage], block: Block, candidates: range) -> int:
    """Add a block to the first device that has room for it."""
    for device in candidates:
        if view.fits(usages[device], block, device):
            usages[device].add(block)
            return device
    raise view.infeasible(block, usages)
