"""Steps that run alone, computed in arrays: every token is sampled at the simulator's instant, bit by bit."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, devices, divided_placements, even_cluster, mixed_shapes, placements, shapes
from support.one_sequence import predict
from support.simulated_steps import compute_narrow_steps, note_simulated

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Change, Link, TokenEvent
from edgeemu.cluster.topology import Mesh, Star
from edgeemu.cluster.variation import Uniform
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, n_shards
from edgeemu.placement.compile import CollectiveAlgorithm, compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.message_overheads import with_message_overheads
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import MessageKind, Op, Program, Slot
from edgeemu.timeline.prediction import predict_workload
from edgeemu.timeline.scheduler import Scheduler
from edgeemu.timeline.steps import Duration, Step, roofline_durations

SHAPE = replace(LLAMA, n_heads=4, n_kv_heads=4)
COSTS = PhysicalCosts(SHAPE)
LINK = Link(1e8, 1e-4)
TOKENS = 6


class Asked(NamedTuple):
    """Request of six tokens."""

    prompt_tokens: int = 5
    arrival_s: float | None = None


@pytest.fixture(autouse=True)
def of_any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    compute_narrow_steps(monkeypatch)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the steps that are simulated, and not computed in arrays."""
    return note_simulated(monkeypatch)


def sampled(
    cluster: Cluster,
    program: Program,
    duration: Duration,
    costs: PhysicalCosts = COSTS,
    asked: Sequence[Asked] = (Asked(),),
) -> list[list[float]]:
    made = predict_workload(cluster, costs, program, duration, Scheduler(asked), [TOKENS] * len(asked))
    return [each.sampled_s for each in made]


def expected(
    cluster: Cluster,
    program: Program,
    duration: Duration,
    costs: PhysicalCosts = COSTS,
    asked: Sequence[Asked] = (Asked(),),
) -> list[list[float]]:
    """Tokens of sequences one after the other, every step simulated."""
    found: list[list[float]] = []
    for each in asked:
        start_s = max(found[-1][-1] if found else 0.0, each.arrival_s or 0.0)
        found.append(predict(cluster, costs, program, duration, each.prompt_tokens, TOKENS, start_s).sampled_s)
    return found


def roofline(cluster: Cluster, costs: PhysicalCosts = COSTS) -> Duration:
    return roofline_durations([device.compute for device in cluster.devices if device.compute is not None], costs)


def everywhere(n_devices: int) -> Placement:
    """Every layer on all devices, in equal shares."""
    owner: dict[Block, int] = {EMBED: 0, LM_HEAD: 0}
    for layer, kind in product(range(SHAPE.n_layers), (Kind.HEAD, Kind.PROJ, Kind.FFN)):
        parts = SHAPE.n_groups if kind is Kind.HEAD else n_shards(SHAPE, kind)
        owner |= {Block(kind, layer, part): part * n_devices // parts for part in range(parts)}
    return Placement(owner)


speeds = st.sampled_from((1e7, 3e7, 1e9)) | st.floats(1e6, 1e10)


@st.composite
def still_meshes(draw: st.DrawFn, n_devices: int) -> Cluster:
    """Clusters that stand still, many of whose devices and links are alike."""
    overheads_s = st.sampled_from((0.0, 1e-5))
    computes = [Compute(draw(speeds), draw(speeds), draw(overheads_s), draw(overheads_s)) for _ in range(n_devices)]
    rates = [draw(speeds) for _ in range(3)]
    delays_s = [draw(st.sampled_from((0.0, 1e-4, 3e-3))) for _ in range(3)]
    mesh = Mesh(n_devices, lambda a, b: Link(rates[(3 * a + b) % 3], delays_s[(a + b) % 3]))
    return Cluster("still", 0, devices(computes), mesh)


@QUICK
@given(st.data())
def test_tokens_are_sampled_when_the_simulator_samples_them(data: st.DataObject) -> None:
    n_devices, shape = data.draw(st.integers(1, 5)), data.draw(shapes() | mixed_shapes())
    kinds = data.draw(st.sampled_from((placements, divided_placements)))
    placement, cluster = data.draw(kinds(shape, n_devices)), data.draw(still_meshes(n_devices))
    collectives: tuple[CollectiveAlgorithm, ...] = ("ring", "star", "relay")
    program = compile_routes(placement, shape, data.draw(st.sampled_from(collectives)))
    program = with_message_overheads(program, data.draw(st.just(()) | st.sets(st.integers(0, n_devices - 1))))
    requests = st.builds(Asked, st.integers(1, 9), st.none() | st.floats(0.0, 5.0))
    asked = sorted(data.draw(st.lists(requests, min_size=1, max_size=3)), key=lambda each: each.arrival_s or 0.0)
    costs = PhysicalCosts(shape)
    duration = roofline(cluster, costs)
    assert sampled(cluster, program, duration, costs, asked) == expected(cluster, program, duration, costs, asked)


def test_only_a_prompt_and_the_first_step_of_a_token_are_simulated(simulated: list[int]) -> None:
    cluster, program = even_cluster(4, LINK), compile_routes(everywhere(4), SHAPE)
    asked = Asked(5), Asked(7)
    found = sampled(cluster, program, roofline(cluster), asked=asked)
    assert simulated == [0, 1, 0], "prompts, of both sequences"
    assert found == expected(cluster, program, roofline(cluster), asked=asked)


@pytest.mark.parametrize("case", ["load", "jitter", "shared", "overheads"])
def test_where_steps_may_differ_all_are_simulated(case: str, simulated: list[int]) -> None:
    """Devices with other work, jitter, a shared medium, and messages that are sent before other work is done."""
    compute = Compute(1e9, 1e9, 1e-5)
    program = compile_routes(everywhere(4), SHAPE)
    every = devices([compute] * 4)
    mesh = Mesh(4, lambda *_: Link(1e8, 1e-4, jitter_s=1e-4 if case == "jitter" else 0.0))
    cluster = Cluster("differs", 0, every, mesh)
    if case == "load":
        busy = replace(every[1], availability=Uniform(0.2, 0.9, 1e-3, 3))
        cluster = Cluster("differs", 0, (every[0], busy, *every[2:]), mesh)
    if case == "shared":
        cluster = Cluster("differs", 0, every, Star(4, lambda *_: LINK, on_channel=frozenset(range(4))))
    if case == "overheads":
        program = with_message_overheads(program, {0, 1})
    found = sampled(cluster, program, roofline(cluster))
    assert simulated == list(range(TOKENS))
    assert found == expected(cluster, program, roofline(cluster))


def test_from_a_change_on_steps_are_simulated(simulated: list[int]) -> None:
    events = (TokenEvent(3, Change(devices=(1,), speed=0.5)),)
    cluster = Cluster("changes", 0, devices([Compute(1e9, 1e9, 1e-5)] * 4), Mesh(4, lambda *_: LINK), events)
    program = compile_routes(everywhere(4), SHAPE)
    found = sampled(cluster, program, roofline(cluster))
    assert simulated == [0, 1, 3, 4, 5]
    assert found == expected(cluster, program, roofline(cluster))


def test_operations_with_equal_inputs_have_one_order(simulated: list[int]) -> None:
    """So it is where results are gathered: the root sends each device the columns that it lacks."""
    cluster, program = even_cluster(4, LINK), compile_routes(everywhere(4), SHAPE, "gather")
    found = sampled(cluster, program, roofline(cluster))
    assert simulated == [0, 1]
    assert found == expected(cluster, program, roofline(cluster))


def two_ways() -> Program:
    """Two heads, whose results two operations of a fourth device take in turn."""
    x, end = Slot(MessageKind.HIDDEN, 0, 0), Slot(MessageKind.TOKEN, 0, 0)
    heads = [Slot(MessageKind.ATTENTION, 0, 1), Slot(MessageKind.ATTENTION, 0, 2)]
    sums = [Slot(MessageKind.RESIDUAL, 0, 3, 0), Slot(MessageKind.RESIDUAL, 0, 3, 1)]
    ops = (
        Op(0, Kind.EMBED, -1, (), 0, (Slot(MessageKind.PROMPT, 0, -1), end), x, (1, 2)),
        *(Op(1 + n, Kind.HEAD, 0, (n,), 1 + n, (x,), heads[n], (3,)) for n in range(2)),
        *(Op(3 + n, Kind.PROJ, 0, (), 3, (heads[n],), sums[n], (0,)) for n in range(2)),
        Op(5, Kind.LM_HEAD, -1, (), 0, tuple(sums), end, (0,)),
    )
    return Program(ops, 0, 0)


@pytest.mark.parametrize(
    ("slower", "steps"),
    [
        ((2, 2, 2, 2, 2, 2), [0, 1]),  # always the second head
        ((2, 2, 2, 1, 1, 1), [0, 1, 3]),
        ((1, 2, 1, 2, 1, 2), [0, 1, 2, 3, 4, 5]),  # an order that does not last is not tried again
        ((0, 0, 0, 0, 0, 0), [0, 1, 2, 3, 4, 5]),  # neither: both at one instant
    ],
)
def test_another_order_is_taken_from_the_simulator(
    slower: tuple[int, ...], steps: list[int], simulated: list[int]
) -> None:
    def duration_s(op: Op, step: Step) -> float:
        if op.kind is Kind.PROJ:
            return 0.5 + op.index  # the order says which result is late
        return 1.5 if op.device == slower[step.step] else 1.0

    cluster = even_cluster(4, LINK)
    found = sampled(cluster, two_ways(), duration_s)
    assert simulated == steps
    assert found == expected(cluster, two_ways(), duration_s)
