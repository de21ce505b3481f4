"""Steps that are computed in arrays leave the records that the simulator leaves, whatever happens between them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, devices, divided_placements, even_cluster, placements, scattered
from support.simulated_steps import compute_narrow_steps, note_simulated

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Change, Link
from edgeemu.cluster.topology import Mesh
from edgeemu.placement.blocks import Block, Kind
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.program import MessageKind, Op, Program, Slot
from edgeemu.placement.shipments import Shipment
from edgeemu.timeline.steps import Duration, Step, roofline_durations
from edgeemu.timeline.virtual import VirtualTimeline

COSTS = PhysicalCosts(LLAMA)
N = 4
SHIPMENTS = [
    Shipment(Block(Kind.PROJ, 1, 0), source, target, -1, 0, 0, with_weights=True) for source, target in ((0, 1), (2, 1))
]

Happens = Callable[[VirtualTimeline, float], object]


@pytest.fixture(autouse=True)
def of_any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    compute_narrow_steps(monkeypatch)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the steps that are simulated, and not computed in arrays."""
    return note_simulated(monkeypatch)


def uneven(speeds: list[float], rates: list[float]) -> Cluster:
    computes = [Compute(speed, 2.0 * speed, 1e-5) for speed in speeds]
    mesh = Mesh(N, lambda a, b: Link(rates[(3 * a + b) % len(rates)], 1e-4 * ((a + b) % 3)))
    return Cluster("uneven", 0, devices(computes), mesh)


UNEVEN = uneven([1e8, 1.3e8, 1.7e8, 2.1e8], [1e6 + 1e5 * n for n in range(13)])


def roofline(cluster: Cluster) -> Duration:
    return roofline_durations([device.compute for device in cluster.devices if device.compute is not None], COSTS)


def ship(made: VirtualTimeline, at_s: float) -> None:
    made.ship(SHIPMENTS, at_s, epoch=2, number=1, chunk_bytes=256, flash_s={})


def ship_and_wait(made: VirtualTimeline, at_s: float) -> float | None:
    ship(made, at_s)
    return made.wait_for_round()


def replicate(made: VirtualTimeline, at_s: float) -> None:
    made.ship_replicas(SHIPMENTS, at_s, number=1, chunk_bytes=256, flash_s={})


def probe(made: VirtualTimeline, at_s: float) -> None:
    made.probe((1, 3), 5, [64, 4096], at_s, Step(0, 1, 1, 5))


def slow_down(made: VirtualTimeline, at_s: float) -> None:
    made.change(Change(devices=(1,), speed=0.5), at_s)


def restart(made: VirtualTimeline, at_s: float) -> None:
    made.end_device(2, at_s)
    made.restart_device(2, at_s)


BEFORE: dict[str, Happens] = {
    "": lambda *_: None,
    "ship": ship,
    "wait": ship_and_wait,
    "replicate": replicate,
    "probe": probe,
    "change": slow_down,
    "restart": restart,
}
DURING: dict[str, Happens] = {
    "look": lambda *_: None,
    "ship": ship,
    "replicate": replicate,
    "probe": probe,
    "change": slow_down,
}


class Happening(NamedTuple):
    """Step of a token: what happens before it and while it runs, and which program it has."""

    before: str = ""
    during: str = ""
    program: int = 0


def told(
    cluster: Cluster, programs: Sequence[Program], duration: Duration, happens: Sequence[Happening], *, repeats: bool
) -> list[Any]:
    """All that a timeline says of the steps of a sequence."""
    made = VirtualTimeline(cluster, COSTS, duration, repeats=repeats)
    said: list[Any] = []
    at_s, past = 0.0, 0
    for number, (before, during, program) in enumerate(happens):
        step = Step(0, number, 1 if number else 5, past)
        past += step.rows
        waited_s = BEFORE[before](made, at_s)
        at_s = waited_s if isinstance(waited_s, float) else at_s
        made.start(step, programs[program], at_s)
        token = None
        if during:
            token = made.sampled(at_s + 1e-5)
            DURING[during](made, at_s + 1e-5 if token is None else token.sampled_s)
        token = token or made.sampled()
        assert token is not None
        executed, transits = made.executions(step), made.transits()
        traffic, replicated = list(made.traffic(step)), made.replicated(token.sampled_s)
        said.append((token, list(executed), list(transits), traffic, list(made.replica_traffic()), replicated))
        at_s = token.sampled_s
    return [*said, list(made.sent_bytes().items()), made.arrived_s(), list(made.transits())]


speeds = st.floats(1e7, 1e10)


@QUICK
@given(st.data())
def test_records_are_the_simulators(data: st.DataObject) -> None:
    kinds = data.draw(st.sampled_from((placements, divided_placements)))
    programs = [compile_routes(data.draw(kinds(LLAMA, N)), LLAMA) for _ in range(2)]
    some = st.sampled_from((1e7, 3e7)) | speeds
    cluster = uneven(
        data.draw(st.lists(some, min_size=N, max_size=N)), data.draw(st.lists(some, min_size=1, max_size=9))
    )
    mostly_nothing = st.just("") | st.just("") | st.just("")
    before, during = (mostly_nothing | st.sampled_from(sorted(what)) for what in (BEFORE, DURING))
    plan = st.builds(Happening, before, during, st.sampled_from((0, 0, 0, 1)))
    happens = data.draw(st.lists(plan, min_size=4, max_size=8))
    duration = roofline(cluster)
    expected = told(cluster, programs, duration, happens, repeats=False)
    assert told(cluster, programs, duration, happens, repeats=True) == expected


UNEVEN = uneven([1e8, 1.3e8, 1.7e8, 2.1e8], [1e6 + 1e5 * n for n in range(13)])
PROGRAMS = [compile_routes(scattered(LLAMA, N, seed), LLAMA) for seed in (1, 2)]


@pytest.mark.parametrize(
    ("at_four", "steps"),
    [
        (Happening(), [0, 1]),
        (Happening(before="wait"), [0, 1]),  # all of it has arrived before the step
        (Happening(before="ship"), [0, 1, 4, 5, 6]),  # as long as chunks are under way
        (Happening(before="replicate"), [0, 1, 4, 5, 6]),
        (Happening(before="probe"), [0, 1, 4]),
        (Happening(during="look"), [0, 1, 4]),
        (Happening(during="ship"), [0, 1, 4, 5, 6]),
        (Happening(program=1), [0, 1, 4]),
        (Happening(before="change"), [0, 1, 4, 5, 6, 7]),
        (Happening(before="restart"), [0, 1, 4, 5, 6, 7]),
        (Happening(during="change"), [0, 1, 4, 5, 6, 7]),
    ],
    ids=str,
)
def test_a_step_is_simulated_if_it_is_not_alone(at_four: Happening, steps: list[int], simulated: list[int]) -> None:
    program = Happening(program=at_four.program)
    happens = [*[Happening()] * 4, at_four, *[program] * 3]
    found = told(UNEVEN, PROGRAMS, roofline(UNEVEN), happens, repeats=True)
    assert simulated == steps
    assert found == told(UNEVEN, PROGRAMS, roofline(UNEVEN), happens, repeats=False)


def test_where_devices_do_something_at_one_instant_all_is_simulated(simulated: list[int]) -> None:
    """Only events tell which of them is recorded first."""
    cluster = even_cluster(N, Link(1e8, 1e-4))
    found = told(cluster, PROGRAMS, roofline(cluster), [Happening()] * 6, repeats=True)
    assert simulated == list(range(6))
    assert found == told(cluster, PROGRAMS, roofline(cluster), [Happening()] * 6, repeats=False)


def test_sequences_that_run_at_once_are_simulated(simulated: list[int]) -> None:
    """The first of two sequences ends early: what is left of the other runs alone."""

    def tokens(*, repeats: bool) -> list[Any]:
        made, said = VirtualTimeline(UNEVEN, COSTS, roofline(UNEVEN), repeats=repeats), list[Any]()
        left = {0: 3, 1: 6}
        for sequence in left:
            made.start(Step(sequence, 0, 5, 0), PROGRAMS[0], 0.0)
        while any(left.values()):
            token = made.sampled()
            assert token is not None
            (sequence, number, rows, past), at_s = token
            said.append(
                (token, list(made.executions(token.step)), list(made.transits()), list(made.traffic(token.step)))
            )
            left[sequence] -= 1
            if left[sequence]:
                made.start(Step(sequence, number + 1, 1, past + rows), PROGRAMS[0], at_s)
        return said

    found = tokens(repeats=True)
    assert simulated == [0, 0, 1, 1, 2, 2]
    assert found == tokens(repeats=False)


def two_heads(*ends: int) -> Program:
    """Two heads, of which the second sends its result to these devices; the first has what waits for both."""
    x, end = Slot(MessageKind.HIDDEN, 0, 0), Slot(MessageKind.TOKEN, 0, 0)
    heads = [Slot(MessageKind.ATTENTION, 0, 1), Slot(MessageKind.ATTENTION, 0, 2)]
    ops = (
        Op(0, Kind.EMBED, -1, (), 0, (Slot(MessageKind.PROMPT, 0, -1), end), x, (1, 2)),
        *(Op(1 + n, Kind.HEAD, 0, (n,), 1 + n, (x,), heads[n], ((0,), ends)[n]) for n in range(2)),
        Op(3, Kind.LM_HEAD, -1, (), 0, tuple(heads), end, (0,)),
    )
    return Program(ops, 0, 0)


@pytest.mark.parametrize(
    ("head_s", "ends", "steps"),
    [
        ((0.5, 0.75), (0,), [0, 1]),
        ((0.5, 0.125), (0,), [0, 1, 2, 3]),  # both results arrive at one instant
        ((0.5, 0.75), (0, 3), [0, 1, 2, 3]),  # nobody waits for a result, which arrives after the token
    ],
)
def test_what_only_events_tell_is_simulated(
    head_s: tuple[float, float], ends: tuple[int, ...], steps: list[int], simulated: list[int]
) -> None:
    def duration_s(op: Op, _: Step) -> float:
        return head_s[op.index - 1] if op.kind is Kind.HEAD else 1.0

    delays_s = {(0, 1): 0.125, (0, 2): 0.25, (1, 0): 0.25, (2, 0): 0.5, (2, 3): 9.0}
    mesh = Mesh(N, lambda *ends: Link(float("inf"), delays_s.get(ends, 0.0)))
    cluster = Cluster("exact", 0, devices([Compute(1e9, 1e9, 0.0)] * N), mesh)
    happens = [Happening()] * 4
    found = told(cluster, [two_heads(*ends)], duration_s, happens, repeats=True)
    assert simulated == steps
    assert found == told(cluster, [two_heads(*ends)], duration_s, happens, repeats=False)
