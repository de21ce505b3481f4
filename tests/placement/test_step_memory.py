"""Most bytes that a step holds: what operations need at the same time, in the order of the program."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, divided_placements, placements, shapes
from support.memory_cluster import MemoryCluster

from edgeemu.placement.blocks import Kind, all_blocks
from edgeemu.placement.compile import CollectiveAlgorithm, compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement
from edgeemu.placement.step_memory import StepPeaks
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

COSTS = PhysicalCosts(LLAMA)
X, ATTENTION = 4 * LLAMA.d_model, 4 * LLAMA.n_heads * LLAMA.head_dim  # bytes of a row
N_DEVICES = 3


@pytest.mark.parametrize(("step", "rows"), [(0, 3), (1, 1)])
def test_one_device_by_hand(step: int, rows: int) -> None:
    """A projection needs x and the attention's outputs; caches have all rows of the step at the last one."""
    program = compile_routes(Placement(dict.fromkeys(all_blocks(LLAMA), 0)), LLAMA)
    cached = rows * LLAMA.n_layers * COSTS.kv_bytes(LLAMA.n_groups)
    assert StepPeaks(COSTS, 1).of(program, step, rows).tolist() == [rows * (X + ATTENTION) + cached]


def test_two_devices_by_hand() -> None:
    """A device with heads alone has x, then their outputs leave; the embedding's has ids, then x."""
    owner = {block: int(block.kind is Kind.HEAD) for block in all_blocks(LLAMA)}
    peaks = StepPeaks(COSTS, 2).of(compile_routes(Placement(owner), LLAMA), 0, 5)
    heads_bytes = 5 * X + 5 * LLAMA.n_layers * COSTS.kv_bytes(LLAMA.n_groups)
    assert peaks.tolist() == [5 * (X + ATTENTION), heads_bytes]


@QUICK
@given(st.data(), shapes(), st.sampled_from(["star", "ring", "relay"]), st.integers(1, 6))
def test_what_caches_grow_by_is_in_it_and_a_ledger_has_held_it(
    data: st.DataObject, shape: ModelShape, way: CollectiveAlgorithm, rows: int
) -> None:
    """In whatever order messages come, as much is held at some instant; nothing is left but rows of caches."""
    placement = data.draw(placements(shape, N_DEVICES) | divided_placements(shape, N_DEVICES))
    program = compile_routes(placement, shape, way)
    peaks = StepPeaks(PhysicalCosts(shape), N_DEVICES).of(program, 0, rows)
    source = SeededSource(shape, 1)
    cluster = MemoryCluster(source, placement, N_DEVICES, rows, rows, collective=way)
    before = [device.ledger.used_bytes for device in cluster.devices]
    cluster.generate([random.Random(rows).randrange(shape.vocab_size) for _ in range(rows)], 1)
    held = np.array([device.ledger.peak_bytes for device in cluster.devices]) - before
    assert (held >= peaks).all()
