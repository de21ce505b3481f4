"""Equal shares of every layer: heads with their projections, and columns of the feed-forward, as in Megatron. Pure."""

from edgeemu.errors import UnsuitableError
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, all_blocks, ffn, head, proj
from edgeemu.placement.placement import Placement
from edgeemu.policies.search.memory_shares import check_room
from edgeemu.policies.view.cluster_view import ClusterView


def equal_shares(view: ClusterView, system: str) -> Placement:
    """Every layer in equal shares on all devices that are there, both ends on the source, which has the first shares.

    The others follow in the order of the scenario. One device alone has the layers undivided. [D] Where the units of
    the feed-forward cannot be shared equally, some devices have one more.

    Raises:
        UnsuitableError: K/V heads, or blocks of columns of a feed-forward, are not a multiple of the devices.
        InfeasibleError: a share does not fit.
    """
    shape, n = view.costs.shape, len(view.nodes)
    block_size = shape.precision.down_block_size
    columns = f"blocks of {block_size} feed-forward columns" if block_size > 1 else "feed-forward columns"
    for count, what in ((shape.n_groups, "K/V heads"), (shape.d_ff // block_size, columns)):
        if count % n:
            raise UnsuitableError(
                f"{system} divides every layer equally, and the {count} {what} of {shape.name} cannot be divided "
                f"among {n} devices"
            )
    nodes = view.nodes
    owner: dict[Block, int] = dict.fromkeys(all_blocks(shape), nodes[0])
    if n > 1:
        for layer in range(shape.n_layers):
            del owner[Block(Kind.PROJ, layer)], owner[Block(Kind.FFN, layer)]
            for group in range(shape.n_groups):
                owner[head(layer, group)] = owner[proj(layer, group)] = nodes[group * n // shape.n_groups]
            for unit in range(shape.ffn_units):
                owner[ffn(layer, unit)] = nodes[unit * n // shape.ffn_units]
    placement = Placement(owner | {EMBED: nodes[0], LM_HEAD: nodes[0]})
    check_room(view, placement, system)
    return placement


def check_power_of_two(view: ClusterView, system: str) -> None:
    """Check that there are 1, 2, 4, 8 … devices, and at most as many as K/V heads.

    Raises:
        UnsuitableError: with the numbers.
    """
    n, shape = len(view.nodes), view.costs.shape
    if n & (n - 1):
        raise UnsuitableError(f"{system} runs on 1, 2, 4, 8 … nodes, and this cluster has {n} devices")
    if n > shape.n_groups:
        raise UnsuitableError(
            f"{system} runs on at most as many nodes as a layer has K/V heads, and {shape.name} has {shape.n_groups}: "
            f"too few for {n} devices"
        )
