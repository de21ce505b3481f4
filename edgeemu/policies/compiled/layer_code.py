"""Placements of one undivided layer, ruled out by machine code before anybody looks at one."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import IntArray, PlacementArrays
from edgeemu.placement.costs import Costs
from edgeemu.policies.compiled import layer_bounds
from edgeemu.policies.compiled.blocks_code import move_sizes
from edgeemu.policies.compiled.devices_code import all_devices, layer_works
from edgeemu.policies.compiled.layer_bounds import LayerTimes, OneLayer
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import placement_fits, sizes_of
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.same import Same
from edgeemu_kernels.packed_tuples import Packed, blank, packed


class PayRules(NamedTuple):
    """When a move pays."""

    tokens: float  # in which it must pay back
    far_tokens: float  # the same of a large gain
    large: float  # share of a step, of such a gain
    worth: float  # share of a step that moves must gain to be made


class _Function(NamedTuple):
    """Owner of machine code, and its function."""

    owner: object
    others_could_pay: Callable[..., int]


@cache
def make_ready() -> _Function:
    """Make the machine code, for runs that have one undivided layer."""
    from edgeemu_kernels.scalar_functions import MachineCode  # brings LLVM

    made = MachineCode(layer_bounds.others_could_pay)
    return _Function(made, made[layer_bounds.others_could_pay])


class LayerTables(NamedTuple):
    """Arguments of `layer_bounds.others_could_pay`."""

    model: Packed
    sizes: Packed
    devices: Packed
    works: Packed
    times: Packed


def layer_tables(
    view: ClusterView,
    ahead: ClusterView,
    past: int,
    costs: MoveCosts,
    layouts: Sequence[PlacementArrays],
    rules: PayRules,
) -> LayerTables | None:
    """Tables of a decision on one layer, of which the first of `layouts` is in force, and could give way to the others.

    `ahead`: the view as it is expected in the mean over the steps to come, with `past` positions cached. None where the
    machine code has not been made, messages keep processors busy, links are not in arrays, or the first does not fit.
    """
    if not make_ready.cache_info().currsize or view.links is not view.links.wire:
        return None
    links = [each.values for known in (ahead.links, view.links) for each in (known.s_per_bit, known.delay_s)]
    if any(each is None for each in links) or not placement_fits(view, layouts[0]):
        return None
    n, step_costs = view.n_devices, view.costs.at_step(1, past)
    placed = len(layouts), *_places(tuple(map(Same, layouts)), n), view.memory_bytes, sizes_of(view).least_alone
    model = packed(OneLayer, n, past, *placed, *links, *_bits(step_costs), *rules)
    return LayerTables(model, move_sizes(costs, n), all_devices(ahead), layer_works(step_costs, past), _times(n))


def others_could_pay(tables: LayerTables | None) -> bool:
    """Whether another placement could pay; without tables it could."""
    return tables is None or bool(make_ready().others_could_pay(*(each.at for each in tables)))


@lru_cache(maxsize=8)
def _places(layouts: tuple[Same[PlacementArrays], ...], n: int) -> tuple[IntArray, IntArray]:
    """Devices of single blocks, and groups on each device, of some placements: [k, 4], [k, n]."""
    kept = [each.kept for each in layouts]
    singles = [(each.embed, int(each.proj[0]), int(each.ffn[0]), each.lm_head) for each in kept]
    return np.array(singles, np.int64), np.concatenate([each.counts(n) for each in kept])


@lru_cache(maxsize=16)
def _bits(costs: Costs) -> tuple[float, float, float, float]:
    """Bits of x, of a token, of heads' outputs besides those of each group, and of each."""
    one, two = costs.attention_bytes(1, 1), costs.attention_bytes(2, 1)
    return 8.0 * costs.activation_bytes(1), 8.0 * costs.token_bytes(), 8.0 * (2 * one - two), 8.0 * (two - one)


@lru_cache(maxsize=4)
def _times(n: int) -> Packed:
    """Places to write in; nothing in them is kept."""
    return blank(LayerTimes, n, n, n, n, 4 * n, 4 * n, n, n)
