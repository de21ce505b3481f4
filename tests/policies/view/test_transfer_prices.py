"""Blocks that move, priced with what their chunks cost processors, against the simulator's rounds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, even_cluster

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Link
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.blocks import Kind, all_blocks
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.migration import MigrationProtocol
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_time import MoveCosts, migration_s
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.timeline.shipping import Shipped
from edgeemu.timeline.simulator import Simulator

COSTS = PhysicalCosts(LLAMA)
AT_HOME = Placement(dict.fromkeys(all_blocks(LLAMA), 0))


def busy(n: int, message_s: float, byte_s: float, chunk_bytes: int = 512) -> tuple[Cluster, ClusterView]:
    cluster = even_cluster(n, Link(1e7, 1e-3))
    devices = []
    for device in cluster.devices:
        assert device.compute is not None
        compute = replace(device.compute, message_s=message_s, byte_s=byte_s)
        devices.append(replace(device, compute=compute, message_overhead_s=message_s, byte_overhead_s=byte_s))
    cluster = Cluster(cluster.name, cluster.seed, tuple(devices), cluster.topology)
    seen = oracle_view(cluster, COSTS, None, 7, 30)
    return cluster, replace(seen, chunk_bytes=chunk_bytes, workload=replace(seen.workload, length=7))


def shipped_s(cluster: Cluster, old: Placement, new: Placement, chunk_bytes: int) -> float:
    """Seconds until the last receiver has everything, by the simulator."""
    migration = MigrationProtocol(2, old, new)
    migration.prepared()
    simulator = Simulator(cluster, COSTS, lambda *_: 0.0)
    shipments = migration.next_round({0: 7})
    simulator.ship(shipments, 0.0, epoch=2, number=0, chunk_bytes=chunk_bytes, flash_s={})
    arrived_s = 0.0
    while isinstance(shipped := simulator.advance(), Shipped):
        arrived_s = shipped.at_s
    return arrived_s


@QUICK
@given(
    st.sampled_from([1e-4, 1e-3, 4e-3]),
    st.sampled_from([0.0, 1e-7, 5e-6]),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([512, 65_536]),
    st.sampled_from([Kind.FFN, Kind.HEAD]),
)
def test_migrations_take_what_the_simulator_says(
    message_s: float, byte_s: float, targets: int, back: bool, chunk_bytes: int, kind: Kind
) -> None:
    """From one device to some, and back from all of them: on one link, and where a processor's chunks add up.

    Chunks are parts of blocks, or each is a whole block.
    """
    cluster, seen = busy(4, message_s, byte_s, chunk_bytes)
    away = Placement({b: 1 + b.layer % targets if b.kind is kind else 0 for b in all_blocks(LLAMA)})
    old, new = (away, AT_HOME) if back else (AT_HOME, away)
    expected_s = shipped_s(cluster, old, new, chunk_bytes)
    assert migration_s(seen, old, new) == pytest.approx(expected_s, rel=0.1)
    costs = MoveCosts(seen)
    arrays = [PlacementArrays.of(each, LLAMA) for each in (old, new)]
    assert costs.migration_s(*arrays) == pytest.approx(migration_s(seen, old, new), rel=1e-9)


def test_without_overheads_moves_cost_what_links_do() -> None:
    _, seen = busy(3, 0.0, 0.0)
    prices = MoveCosts(seen).prices
    assert prices.links is seen.links
    assert not prices.chunks_cost


def test_matrices_agree_with_their_pairs() -> None:
    _, seen = busy(3, 1e-3, 1e-6)
    links = MoveCosts(seen).prices.links
    everyone = np.arange(3)
    for matrix in (links.s_per_bit, links.delay_s):
        whole = matrix.block(everyone, everyone)
        for device in range(3):
            assert matrix.row(device) == pytest.approx(whole[device])
            assert matrix.column(device) == pytest.approx(whole[:, device])
            assert whole[device, device] == 0.0
            assert matrix.least_in_row(device) == np.delete(whole[device], device).min()
