"""Relays: x goes through the device of the embedding, and the text is the undivided model's at every precision."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, SLOW, divided_placements, placements, precise_shapes, shapes
from support.memory_cluster import MemoryCluster

from edgeemu.placement.blocks import EMBED
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.ledger import WEIGHTS
from edgeemu.placement.operation_costs import message_bytes, op_work
from edgeemu.placement.program import MessageKind
from edgeemu.placement.work import Work
from edgeemu_kernels.decoder import Decoder
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

N_DEVICES = 4


@SLOW
@given(st.data(), shapes() | precise_shapes(), st.integers(1, 9), st.integers(0, 99))
def test_any_placement_of_complete_blocks_writes_the_decoders_text_at_every_precision(
    data: st.DataObject, shape: ModelShape, prompt_tokens: int, seed: int
) -> None:
    """Rows that are passed on are not rounded again. Devices have as much memory as was planned."""
    source = SeededSource(shape, seed)
    ids = [int(token) for token in np.random.default_rng(seed).integers(0, shape.vocab_size, prompt_tokens)]
    placement = data.draw(placements(shape, N_DEVICES))
    relayed, direct = (
        MemoryCluster(source, placement, N_DEVICES, prompt_tokens, prompt_tokens + 3, collective=way)
        for way in ("relay", "star")
    )
    for page, device in zip(relayed.pages, relayed.devices, strict=True):
        assert device.ledger.page().get(WEIGHTS, 0) == page.weights_bytes
    made, others = relayed.generate(ids, 3, order=seed), direct.generate(ids, 3, order=seed + 1)
    np.testing.assert_array_equal(np.array(made.logits), np.array(others.logits))
    np.testing.assert_allclose(made.logits[0], Decoder(source).prefill(ids), rtol=1e-4, atol=1e-4)
    assert len(relayed.sent) >= len(direct.sent)
    for sent in relayed.sent:
        assert sent.size_bytes == message_bytes(sent.op, sent.rows, PhysicalCosts(shape))


@QUICK
@given(st.data(), shapes())
def test_x_reaches_every_device_by_way_of_the_relay(data: st.DataObject, shape: ModelShape) -> None:
    placement = data.draw(placements(shape, N_DEVICES) | divided_placements(shape, N_DEVICES))
    program, relay = compile_routes(placement, shape, "relay"), placement.owner[EMBED]
    for op in program.ops:
        if op.emits.kind in (MessageKind.HIDDEN, MessageKind.RESIDUAL) and op.device != relay:
            assert set(op.to) <= {op.device, relay}
        if op.forwards:
            assert op.device == relay
            assert op_work(op, 3, 5, PhysicalCosts(shape)) == Work(0.0, 0.0)
