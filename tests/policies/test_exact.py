"""The program's optimum is the least that enumeration finds, with and without a placement to start from."""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from edgeemu.cluster.devices import Compute
from edgeemu.errors import InfeasibleError
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.costs import Costs, PhysicalCosts
from edgeemu.placement.paper_costs import PaperCosts
from edgeemu.policies import exact
from edgeemu.policies.view.cluster_view import ClusterView, NoBetterPlacement, WorkloadView
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.memory_arrays import MemoryHeadroom, sizes_of
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.step_time import StepTimes
from edgeemu_kernels.shape import ModelShape


def literal(shape: ModelShape) -> Costs:
    return PaperCosts(replace(shape, tied_embeddings=False), prompt_tokens=5, length=9)


def tiny(seed: int, priced: Callable[[ModelShape], Costs] = PhysicalCosts) -> ClusterView:
    """Two devices and up to four groups, or three and up to two; one layer, or two of one group. Memory is tight."""
    chance = random.Random(seed)
    n, n_layers, n_groups = chance.choice([(2, 1, 4), (2, 1, 3), (3, 1, 1), (3, 1, 2), (2, 2, 1), (2, 2, 2)])
    shape = ModelShape(
        "tiny",
        n_layers,
        8 * n_groups,
        2 * n_groups,
        n_groups,
        4,
        chance.choice([8, 64]),
        chance.choice([8, 200]),
        64,
        activation=chance.choice(("swiglu", "gelu")),
        tied_embeddings=chance.random() < 0.5,
    )
    rate = [[chance.choice([1e6, 1e7, 1e8]) for _ in range(n)] for _ in range(n)]
    delay = [[chance.choice([0.0, 1e-5, 1e-3]) for _ in range(n)] for _ in range(n)]
    costs = priced(shape)
    scale = chance.choice([0.4, 0.7, 1.0, 3.0])
    whole = sum(sizes_of(view_of(costs, n, rate, delay)).weights.values()) * n_layers
    devices = tuple(
        DeviceView(
            f"d{i}",
            Compute(chance.uniform(1e6, 1e8), chance.uniform(1e7, 1e8), chance.choice([0.0, 1e-4])),
            int(whole * scale * chance.uniform(0.5, 1.5)) + 4000,
        )
        for i in range(n)
    )
    links = LinkMatrix.of_pairs(n, lambda a, b: rate[a][b], lambda a, b: delay[a][b])
    workload = WorkloadView(5, 20, length=chance.choice([0, 8]), interval_tokens=chance.choice([1, 10]))
    on_flash = chance.random() < 0.4
    return ClusterView(costs, devices, links, workload, weights_on_flash=on_flash, flash_bytes_per_s=1e7)


def view_of(costs: Costs, n: int, rate: list[list[float]], delay: list[list[float]]) -> ClusterView:
    roomy = tuple(DeviceView(f"d{i}", Compute(1e7, 1e7, 0.0), 2**30) for i in range(n))
    links = LinkMatrix.of_pairs(n, lambda a, b: rate[a][b], lambda a, b: delay[a][b])
    return ClusterView(costs, roomy, links, WorkloadView(5, 20))


def objective_s(view: ClusterView, old: PlacementArrays | None, new: PlacementArrays) -> float:
    migration_s = MoveCosts(view).migration_s(old, new) if old else 0.0
    return migration_s + view.interval_tokens * StepTimes(view).step_s(new)


def enumerated(view: ClusterView, old: PlacementArrays | None) -> float | None:
    """The least objective of all |V|^blocks placements that fit."""
    n, shape = len(view.devices), view.costs.shape
    times, moves = StepTimes(view), MoveCosts(view)
    best = None
    for owners in product(range(n), repeat=shape.n_layers * (shape.n_groups + 2) + 2):
        layers = np.array(owners[1:-1]).reshape(shape.n_layers, -1)  # [n_layers, n_groups + 2]
        layout = PlacementArrays(owners[0], owners[-1], layers[:, :-2], layers[:, -2], layers[:, -1])
        if not MemoryHeadroom.of(view, layout).fits():
            continue
        value = view.interval_tokens * times.step_s(layout) + (moves.migration_s(old, layout) if old else 0.0)
        best = value if best is None else min(best, value)
    return best


@pytest.mark.parametrize("block", range(10))
def test_it_equals_enumeration(block: int) -> None:
    """200 instances, in ten parts: half place anew, half start from a random placement."""
    compare(range(20 * block, 20 * block + 20), PhysicalCosts)


@pytest.mark.parametrize("block", range(4))
def test_it_equals_enumeration_with_the_papers_costs(block: int) -> None:
    compare(range(20 * block, 20 * block + 20), literal)


def compare(seeds: range, priced: Callable[[ModelShape], Costs]) -> None:
    for seed in seeds:
        view = tiny(seed, priced)
        shape, n = view.costs.shape, len(view.devices)
        old = None
        if seed % 2:
            generator = np.random.default_rng(seed)
            heads = generator.integers(0, n, (shape.n_layers, shape.n_groups))
            ends = generator.integers(0, n, (2, shape.n_layers))
            old = PlacementArrays(0, n - 1, heads, ends[0], ends[1])
        least = enumerated(view, old)
        current = old.placement(shape) if old else None
        if least is None:
            with pytest.raises((InfeasibleError, NoBetterPlacement)):
                exact.place(view, current)
            continue
        found = exact.place(view, current)
        assert view.holds(found)
        assert objective_s(view, old, PlacementArrays.of(found, shape)) == pytest.approx(least, rel=1e-5), seed


def test_it_keeps_the_current_placement_itself_where_nothing_is_better() -> None:
    kept = 0
    for seed in range(12):
        view = tiny(seed)
        try:
            best = exact.place(view)
        except InfeasibleError:
            continue
        assert exact.place(view, best) is best
        kept += 1
    assert kept > 3
