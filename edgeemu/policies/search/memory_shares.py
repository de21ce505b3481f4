"""Layers in shares by memory, as systems divide them that know no speeds, and whether a placement has room. Pure."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from edgeemu.errors import InfeasibleError
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, layer_blocks
from edgeemu.placement.placement import Placement
from edgeemu.policies.search.apportion import highest_averages
from edgeemu.policies.search.pipeline_stages import StageCosts
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.device_view import MANY
from edgeemu.units import SIZE


def layers_by_memory(
    costs: StageCosts,
    nodes: Sequence[int],
    memory: Sequence[int],
    ends: tuple[int, int],
    system: str,
    *,
    round_up: bool = False,
) -> Placement:
    """Layers in a chain of nodes, in proportion to their memory: a node's last layer is where the sums before it say.

    `ends`: devices of the embedding and of the output matrix. Borders are rounded down, or up.
    [D] Where such a share does not fit, because the ends or caches take of the same memory, layers go to the nodes
    that have room, still by memory.

    Raises:
        InfeasibleError: there is no room for all layers.
    """
    n_layers, total = costs.n_layers, sum(memory)
    rooms = [max(0, costs.room(node, embed=node == ends[0], lm_head=node == ends[1])) for node in nodes]
    if sum(rooms) < n_layers or total <= 0:
        raise costs.too_small(system, nodes)
    up = total - 1 if round_up else 0
    borders = [0, *((n_layers * until + up) // total for until in accumulate(memory))]
    shares = [end - first for first, end in pairwise(borders)]
    if any(share > room for share, room in zip(shares, rooms, strict=True)):
        shares = highest_averages([float(size) for size in memory], n_layers, rooms)
    owner: dict[Block, int] = {EMBED: ends[0]}
    layers = iter(range(n_layers))
    for node, share in zip(nodes, shares, strict=True):
        for _ in range(share):
            owner.update(dict.fromkeys(layer_blocks(costs.view.costs.shape, next(layers)), node))
    placement = Placement(owner | {LM_HEAD: ends[1]})
    check_room(costs.view, placement, system)
    return placement


def check_room(view: ClusterView, placement: Placement, system: str) -> None:
    """Check that a placement fits.

    Raises:
        InfeasibleError: with what each device would hold, and has.
    """
    held = view.held_bytes(placement)
    short = [device for device, size in held.items() if size > view.devices[device].memory_bytes]
    if not short:
        return
    show = SIZE.format_human
    rows = [
        f"  {view.devices[device].name}: {show(held[device])} of {show(view.devices[device].memory_bytes)}"
        for device in short[:MANY]
    ]
    raise InfeasibleError(
        f"{system} divides {view.costs.shape.name} so that there is too little memory:\n"
        + "\n".join(rows)
        + "\nGive the devices more memory, lower max_tokens, or take a smaller model."
    )
