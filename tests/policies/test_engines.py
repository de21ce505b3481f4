"""Divisions of published systems: who gets what, who relays, and where they do not apply."""

from dataclasses import replace

import pytest
from support.builders import LLAMA, view

from edgeemu.cluster.devices import Compute
from edgeemu.errors import InfeasibleError, UnsuitableError
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, ffn, head, n_shards, proj
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Collective, MessageKind
from edgeemu.policies import PARTICULAR, policy
from edgeemu.policies.view.cluster_view import ClusterView

ROOMY = 2**30
EIGHT = replace(LLAMA, n_heads=8, n_kv_heads=8, d_ff=64, n_layers=4)


def seen(n: int, memory: list[int] | None = None, source: int = 0) -> ClusterView:
    made = view(EIGHT, memory or [ROOMY] * n, [Compute(1e9, 1e9, 0.0)] * n, 8, 24)
    return replace(made, source=source)


def layers_of(placement: Placement) -> list[int]:
    """Device of each layer, all of whose blocks are on one."""
    found = []
    for layer in range(EIGHT.n_layers):
        (device,) = {at for block, at in placement.owner.items() if block.layer == layer}
        found.append(device)
    return found


@pytest.mark.parametrize("name", sorted(PARTICULAR))
def test_equal_shares_begin_at_the_source(name: str) -> None:
    placement = policy(name)(seen(4, source=2), None)
    assert placement.owner[EMBED] == placement.owner[LM_HEAD] == 2
    for layer in range(EIGHT.n_layers):
        assert [placement.owner[head(layer, g)] for g in range(8)] == [2, 2, 3, 3, 0, 0, 1, 1]
        assert [placement.owner[proj(layer, g)] for g in range(8)] == [2, 2, 3, 3, 0, 0, 1, 1]
        units = [placement.owner[ffn(layer, c)] for c in range(n_shards(EIGHT, Kind.FFN))]
        assert units == [2] * 16 + [3] * 16 + [0] * 16 + [1] * 16
    alone = policy(name)(seen(1), None)
    assert not any(block.is_shard for block in alone.owner)


@pytest.mark.parametrize(
    ("name", "n", "message"),
    [
        ("distributed-llama", 3, "distributed-llama runs on 1, 2, 4, 8 … nodes, and this cluster has 3 devices"),
        ("distributed-llama", 16, "has 8: too few for 16 devices"),
        ("exo-tensor", 3, "the 8 K/V heads of small-llama cannot be divided among 3 devices"),
    ],
)
def test_a_number_of_devices_that_does_not_suit_is_refused(name: str, n: int, message: str) -> None:
    with pytest.raises(UnsuitableError, match=message):
        policy(name)(seen(n), None)


def test_columns_that_cannot_be_divided_are_refused_and_units_are_as_equal_as_can_be() -> None:
    shape = replace(LLAMA, n_heads=3, d_ff=66 * 32)
    views = [view(each, [ROOMY] * 3, [Compute(1e9, 1e9, 0.0)] * 3, 8, 24) for each in (shape, replace(shape, d_ff=64))]
    assert shape.ffn_units == 64
    owner = policy("exo-tensor")(views[0], None).owner
    assert [sum(owner[ffn(0, c)] == device for c in range(64)) for device in range(3)] == [22, 21, 21]
    with pytest.raises(UnsuitableError, match="the 64 feed-forward columns of small-llama cannot be divided among 3"):
        policy("exo-tensor")(views[1], None)
    packed = replace(EIGHT, d_ff=43 * 32).at_precision("q4_0")
    with pytest.raises(UnsuitableError, match="the 43 blocks of 32 feed-forward columns of small-llama cannot be"):
        policy("distributed-llama")(view(packed, [ROOMY] * 2, [Compute(1e9, 1e9, 0.0)] * 2, 8, 24), None)


@pytest.mark.parametrize("name", sorted(PARTICULAR))
def test_a_share_without_room_is_refused(name: str) -> None:
    with pytest.raises(
        InfeasibleError, match=r"divides small-llama so that .* memory:\n  d1: .* of 1000 B\nGive"
    ) as refused:
        policy(name)(seen(2, [ROOMY, 1000]), None)
    assert not isinstance(refused.value, UnsuitableError)


def test_exos_ring_goes_by_memory_the_largest_first() -> None:
    placement = policy("exo-ring")(seen(3, [ROOMY, 2 * ROOMY, ROOMY]), None)
    assert layers_of(placement) == [1, 1, 0, 2]
    assert (placement.owner[EMBED], placement.owner[LM_HEAD]) == (1, 2)


def test_a_chain_by_memory_goes_where_there_is_room() -> None:
    """Device 1 has memory for a layer or two, and its share by memory would be none of the four."""
    whole = sum(seen(1).held_bytes(policy("single")(seen(1), None)).values())
    placement = policy("exo-ring")(seen(2, [whole * 9 // 10, whole * 9 // 20]), None)
    assert seen(2, [whole * 9 // 10, whole * 9 // 20]).holds(placement)
    with pytest.raises(InfeasibleError, match="exo's ring cannot hold"):
        policy("exo-ring")(seen(2, [whole // 4, whole // 4]), None)


def test_the_client_of_llama_cpp_relays() -> None:
    """x goes client, server, client, server, client; a hop is one row, and relaying takes the client no kernel."""
    placement = policy("llama.cpp-rpc")(seen(3, source=1), None)
    assert (placement.owner[EMBED], placement.owner[LM_HEAD]) == (1, 1)
    assert layers_of(placement) == [1, 1, 0, 2]
    program = compile_routes(placement, EIGHT, "relay")
    hops = [(op.device, target) for op in program.ops for target in op.to if target != op.device]
    assert hops == [(1, 0), (0, 1), (1, 2), (2, 1)]
    (relayed,) = [op for op in program.ops if op.kind is Collective.SUM]
    assert (relayed.device, relayed.emits.kind, relayed.emits.layer) == (1, MessageKind.HIDDEN, 3)
    assert relayed.forwards
    assert not relayed.computes
    chain = compile_routes(placement, EIGHT)
    assert [(op.device, target) for op in chain.ops for target in op.to if target != op.device] == [
        *((1, 0), (0, 2), (2, 1)),
    ]


def test_a_relay_passes_x_on_to_the_heads_and_the_projection_of_a_layer_once() -> None:
    owner = dict(policy("single")(seen(1), None).owner)
    owner |= {ffn(0): 1, head(1, 0): 2, proj(1): 2, ffn(1): 3}
    program = compile_routes(Placement(owner), EIGHT, "relay")
    relayed = [op for op in program.ops if op.kind is Collective.SUM]
    assert [(op.emits.kind, op.emits.layer, op.to) for op in relayed] == [
        (MessageKind.HIDDEN, 1, (2,)),
        (MessageKind.RESIDUAL, 1, (3,)),
    ]
