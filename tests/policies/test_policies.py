"""Every policy's answer is complete, within every device's memory, and always the same; or an error that helps."""

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, LLAMA_TIED, QUICK, even_cluster, shapes, view
from support.one_sequence import predict

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Link
from edgeemu.cluster.topology import Mesh
from edgeemu.errors import InfeasibleError, RequestError
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, all_blocks, head, layer_blocks
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.memory import usages
from edgeemu.placement.placement import Placement
from edgeemu.policies import POLICIES, greedy, layers, policy, round_robin, single
from edgeemu.policies.search import apportion
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.timeline.steps import roofline_durations
from edgeemu_kernels.shape import ModelShape

BASELINES = ("single", "round-robin", "greedy", "layers")
PROMPT_TOKENS, TOTAL_TOKENS = 4, 9
ROOMY = 2**40


def whole_bytes(shape: ModelShape) -> int:
    """Memory of one device that holds all blocks."""
    placement = Placement(dict.fromkeys(all_blocks(shape), 0))
    return usages(placement, PhysicalCosts(shape), 1, PROMPT_TOKENS, TOTAL_TOKENS)[0].page().total_bytes


@st.composite
def views(draw: st.DrawFn, tight: bool = True) -> ClusterView:
    """Uneven devices, most of which cannot hold the whole model; often the cluster cannot."""
    shape = draw(shapes())
    chance = random.Random(draw(st.integers(0, 2**32)))
    n_devices = draw(st.integers(1, 6))
    need_bytes = whole_bytes(shape)
    rooms = [round(need_bytes * chance.uniform(0.2, 1.3 if tight else 3.0)) for _ in range(n_devices)]
    computes = [
        Compute(chance.uniform(1e8, 1e10), chance.uniform(1e8, 1e10), chance.choice([0.0, 1e-6, 1e-4]))
        for _ in range(n_devices)
    ]
    return view(shape, rooms, computes, PROMPT_TOKENS, TOTAL_TOKENS)


def page_bytes(placement: Placement, seen: ClusterView) -> list[int]:
    held = usages(placement, seen.costs, len(seen.devices), seen.prompt_tokens, seen.total_tokens)
    return [usage.page().total_bytes for usage in held]


def decode_s(placement: Placement, seen: ClusterView, device: int) -> float:
    """One decode step at full length of a model that is whole on one device, by the timeline."""
    assert placement.devices() == [device]
    duration = roofline_durations([each.compute for each in seen.devices], seen.costs)
    program = compile_routes(placement, seen.costs.shape)
    cluster = even_cluster(len(seen.devices), Link(1e9, 0.0))
    steps = predict(cluster, seen.costs, program, duration, seen.total_tokens - 1, 2).sampled_s
    return steps[1] - steps[0]


@pytest.mark.parametrize("name", BASELINES)
def test_answers_are_complete_within_memory_and_always_the_same(name: str) -> None:
    feasible = []

    @QUICK
    @given(views())
    def check(seen: ClusterView) -> None:
        try:
            placement = policy(name)(seen)
        except InfeasibleError:
            return
        feasible.append(seen)
        placement.check(seen.costs.shape, len(seen.devices))
        for used_bytes, device in zip(page_bytes(placement, seen), seen.devices, strict=True):
            assert used_bytes <= device.memory_bytes
        assert policy(name)(seen) == placement

    check()
    assert len(feasible) >= 10


@QUICK
@given(views(tight=False))
def test_single_is_the_able_device_that_decodes_fastest(seen: ClusterView) -> None:
    blocks = list(all_blocks(seen.costs.shape))
    able = [index for index, device in enumerate(seen.devices) if device.memory_bytes >= whole_bytes(seen.costs.shape)]
    if not able:
        with pytest.raises(InfeasibleError, match="no single device can hold drawn: it needs"):
            single.place(seen)
        return
    (chosen,) = single.place(seen).devices()
    assert chosen in able
    best_s = min(decode_s(Placement(dict.fromkeys(blocks, device)), seen, device) for device in able)
    assert decode_s(Placement(dict.fromkeys(blocks, chosen)), seen, chosen) == pytest.approx(best_s, rel=1e-9)


def test_single_counts_the_overhead_of_fused_heads_once() -> None:
    """Three groups of a layer run as one operation: a device with overhead is not charged for three."""
    steady, quick_start = Compute(1e12, 2e6, 1e-3), Compute(1e12, 1.6e6, 0.0)
    seen = view(LLAMA, [ROOMY] * 2, [steady, quick_start], 1, 2)
    times = [decode_s(Placement(dict.fromkeys(all_blocks(LLAMA), d)), seen, d) for d in (0, 1)]
    assert times == pytest.approx([seen.model_time_s(0), seen.model_time_s(1)])
    assert single.place(seen).devices() == [times.index(min(times))]
    by_block = [sum(seen.time_s(block, d) for block in all_blocks(LLAMA)) for d in (0, 1)]
    assert by_block[0] - times[0] > 2 * 2 * 0.99e-3  # two layers, two heads' overheads too many


@QUICK
@given(views())
def test_greedy_puts_every_block_on_the_first_device_with_room(seen: ClusterView) -> None:
    held = seen.empty_usages()
    expected: dict[Block, int] = {}
    for block in all_blocks(seen.costs.shape):
        fitting = [
            device
            for device, usage in enumerate(held)
            if usage.page_with(block).total_bytes <= seen.devices[device].memory_bytes
        ]
        if not fitting:
            with pytest.raises(InfeasibleError, match=re.escape(f"no device has room for {block} ")):
                greedy.place(seen)
            return
        expected[block] = fitting[0]
        held[fitting[0]].add(block)
    assert greedy.place(seen) == Placement(expected)


def test_round_robin_takes_turns_where_all_have_room() -> None:
    seen = view(LLAMA, [ROOMY] * 3, [Compute(1e9, 1e9, 0.0)] * 3, PROMPT_TOKENS, TOTAL_TOKENS)
    owners = list(round_robin.place(seen).owner.values())
    assert owners == [n % 3 for n in range(len(owners))]


def test_round_robin_passes_over_the_full() -> None:
    """The second device has room for a single head: its other turns go to the third."""
    alone = Placement({head(0, 0): 0})
    room = usages(alone, PhysicalCosts(LLAMA), 1, PROMPT_TOKENS, TOTAL_TOKENS)[0].page().total_bytes
    seen = view(LLAMA, [ROOMY, room, ROOMY], [Compute(1e9, 1e9, 0.0)] * 3, PROMPT_TOKENS, TOTAL_TOKENS)
    placement = round_robin.place(seen)
    assert len(placement.on(1)) == 1
    assert placement.on(1)[0].kind is Kind.HEAD
    owners = list(placement.owner.values())
    after = owners[owners.index(1) + 1 :]
    assert after == [2 if n % 2 == 0 else 0 for n in range(len(after))]


# -- layers ---------------------------------------------------------------------------------------------------------


@QUICK
@given(views(tight=False))
def test_layers_are_whole_contiguous_and_in_the_order_of_devices(seen: ClusterView) -> None:
    try:
        placement = layers.place(seen)
    except InfeasibleError:
        return
    shape = seen.costs.shape
    chain = [placement.owner[EMBED]]
    for layer in range(shape.n_layers):
        owners = {placement.owner[block] for block in layer_blocks(shape, layer)}
        assert len(owners) == 1
        chain += owners
    chain.append(placement.owner[LM_HEAD])
    assert chain == sorted(chain)


def test_layers_follow_the_speeds() -> None:
    """Twelve layers on devices of speeds 1, 2 and 3."""
    shape = replace(LLAMA, n_layers=12)
    computes = [Compute(speed * 1e9, 1e15, 0.0) for speed in (1, 2, 3)]
    placement = layers.place(view(shape, [ROOMY] * 3, computes, PROMPT_TOKENS, TOTAL_TOKENS))
    owners = [placement.owner[head(layer, 0)] for layer in range(12)]
    assert owners == [0] * 2 + [1] * 4 + [2] * 6
    assert (placement.owner[EMBED], placement.owner[LM_HEAD]) == (0, 2)


def test_the_ends_of_the_chain_go_where_they_fit() -> None:
    """The first and the last device have no room for the tables; they get nothing."""
    table_bytes = PhysicalCosts(LLAMA_TIED).weight_bytes(EMBED)
    rooms = [table_bytes - 1, ROOMY, ROOMY, table_bytes - 1]
    seen = view(LLAMA_TIED, rooms, [Compute(1e9, 1e9, 0.0)] * 4, PROMPT_TOKENS, TOTAL_TOKENS)
    placement = layers.place(seen)
    assert placement.devices() == [1, 2]
    assert (placement.owner[EMBED], placement.owner[LM_HEAD]) == (1, 2)


shares_of = st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 12)), min_size=1, max_size=6)


@QUICK
@given(shares_of, st.integers(0, 40))
def test_shares_sum_up_fit_and_no_move_of_one_is_fairer(asked: list[tuple[float, int]], total: int) -> None:
    """D'Hondt: whoever has one has earned it at least as much as anybody with room would earn their next."""
    weights, rooms = [weight for weight, _ in asked], [room for _, room in asked]
    total = min(total, sum(rooms))
    given_out = apportion.highest_averages(weights, total, rooms)
    assert sum(given_out) == total
    assert all(0 <= share <= room for share, room in zip(given_out, rooms, strict=True))
    last = [weight / share for weight, share in zip(weights, given_out, strict=True) if share]
    following = [
        weight / (share + 1) for weight, share, room in zip(weights, given_out, rooms, strict=True) if share < room
    ]
    if last and following:
        assert min(last) >= max(following)


def test_dhondt_by_the_book() -> None:
    """The textbook's election: 100, 80, 30 and 20 thousand votes, 8 seats."""
    assert apportion.highest_averages([100, 80, 30, 20], 8, [8] * 4) == [4, 3, 1, 0]
    assert apportion.highest_averages([100, 80, 30, 20], 8, [2, 8, 8, 8]) == [
        2,
        4,
        1,
        1,
    ]  # the first has room for two only


# -- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASELINES)
def test_what_fits_nowhere_is_said_with_the_devices_names(name: str) -> None:
    seen = view(LLAMA, [1000, 2000], [Compute(1e9, 1e9, 0.0)] * 2, PROMPT_TOKENS, TOTAL_TOKENS)
    with pytest.raises(InfeasibleError, match="small-llama") as refused:
        policy(name)(seen)
    assert refused.value.exit_status == 3
    assert "d1" in str(refused.value)
    assert ("d0" in str(refused.value)) == (name != "single")  # single names the largest only


def test_a_chain_without_room_for_all_layers_says_how_many_each_has() -> None:
    shape = replace(LLAMA, n_layers=30)
    ends = usages(Placement({EMBED: 0, LM_HEAD: 0}), PhysicalCosts(shape), 1, PROMPT_TOKENS, TOTAL_TOKENS)[0].page()
    rooms = [2 * ends.total_bytes] * 2
    seen = view(shape, rooms, [Compute(1e9, 1e9, 0.0)] * 2, PROMPT_TOKENS, TOTAL_TOKENS)
    with pytest.raises(InfeasibleError, match=r"room for \d of the 30 layers of small-llama \(d0 \d, d1 \d\)"):
        layers.place(seen)


def test_an_unknown_policy_is_met_with_the_nearest() -> None:
    with pytest.raises(RequestError, match=r'no policy "gready" \(did you mean "greedy"\?\)'):
        policy("gready")
    with pytest.raises(RequestError, match=r'no policy "roundrobin" \(did you mean "round-robin"\?\)'):
        policy("roundrobin")
    with pytest.raises(RequestError, match=r'no policy "../../etc"; see: edgeemu policies'):
        policy("../../etc")


def test_every_policy_that_is_listed_is_there() -> None:
    assert set(BASELINES) <= set(POLICIES)
    for name, says in POLICIES.items():
        assert callable(policy(name))
        assert says


# -- what a policy sees ---------------------------------------------------------------------------------------------


def test_a_relative_device_is_seen_as_its_fraction_of_the_host() -> None:
    cluster = even_cluster(2, Link(1e6, 1e-3), compute=Compute(5e9, 1e9, 1e-4))
    half = replace(cluster.devices[1], compute=None, host_fraction=0.5, overhead_s=2e-3)
    mixed = Cluster("mixed", 0, (cluster.devices[0], half), Mesh(2, lambda *_: Link(1e6, 1e-3)))
    seen = oracle_view(mixed, PhysicalCosts(LLAMA), Compute(80e9, 20e9, 0.0), 3, 5)
    assert [device.compute for device in seen.devices] == [Compute(5e9, 1e9, 1e-4), Compute(40e9, 10e9, 2e-3)]
    assert (seen.bandwidth_bps(0, 1), seen.delay_s(0, 1)) == (1e6, 1e-3)
    with pytest.raises(ValueError, match="d1 is relative to a host whose speed was not given"):
        oracle_view(mixed, PhysicalCosts(LLAMA), None, 3, 5)


def test_a_layer_takes_as_long_as_its_operations() -> None:
    compute = Compute(3e8, 2e8, 1e-4)
    seen = view(LLAMA, [ROOMY], [compute], PROMPT_TOKENS, TOTAL_TOKENS)
    duration = roofline_durations([compute], seen.costs)
    program = compile_routes(Placement(dict.fromkeys(all_blocks(LLAMA), 0)), LLAMA)
    made = predict(even_cluster(1, Link(1e6, 0)), seen.costs, program, duration, TOTAL_TOKENS - 1, 2)
    layer = [e.time for e in made.executions if e.step.step == 1 and e.op.layer == 0]
    assert seen.layer_time_s(0) == pytest.approx(layer[-1].end_s - layer[0].start_s)
