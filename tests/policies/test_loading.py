"""Policies by name, from files and from packages; and the kit that checks them."""

import time
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from support.builders import LLAMA, view

from edgeemu.cluster.devices import Compute
from edgeemu.errors import InfeasibleError, RequestError
from edgeemu.placement.placement import Placement
from edgeemu.policies import PARTICULAR, POLICIES, greedy, loading, policy, prepare
from edgeemu.policies.compiled.share_code import functions
from edgeemu.policies.kit import built_in_cases, faults
from edgeemu.policies.view.cluster_view import ClusterView, NoBetterPlacement, Refusal

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_policy.py"
PATIENT_S = 5.0  # how long a policy takes is not what is tested here

GOOD = """
from edgeemu.policies import greedy

class Mine:
    def __call__(self, view, current):
        return greedy.place(view, current)

def place(view, current=None):
    return greedy.place(view, current)

number = 3

class Picky:
    def __init__(self, must):
        self.must = must

def one_argument(view):
    return None

async def later(view, current):
    return None

class Later:
    async def __call__(self, view, current):
        return None
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


# Slow on purpose, or bound to certain devices: those find no placement where others do.
BOUND = {"given", "exact", "single", "mdi", "edge-solo", "cloud-edge-even", "cloud-edge-opt", *PARTICULAR}


@pytest.mark.parametrize("name", sorted(set(POLICIES) - BOUND))
def test_the_kit_has_nothing_against_our_own(name: str) -> None:
    assert faults(policy(name), time.process_time, PATIENT_S) == []


def test_the_kit_has_nothing_against_the_documented_example() -> None:
    assert faults(policy(f"{EXAMPLE}:FastestFirst"), time.perf_counter, PATIENT_S) == []


def test_the_page_shows_the_example_as_it_is_and_every_policy() -> None:
    page = (EXAMPLE.parents[1] / "docs" / "policies.md").read_text()
    assert f"```python\n{EXAMPLE.read_text()}```" in page
    assert all(f"| `{name}` |" in page for name in POLICIES)


def test_single_is_told_that_a_split_would_fit() -> None:
    found = faults(policy("single"), time.perf_counter, PATIENT_S)
    assert found
    assert all("found no placement, and there is one" in fault for fault in found)


@pytest.mark.parametrize("suffix", ["", ":place", ":Mine"])
def test_a_file_has_a_function_or_a_class(file: Path, suffix: str) -> None:
    view = built_in_cases()[1].views[0]
    assert policy(f"{file}{suffix}")(view, None) == greedy.place(view)


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (":Mime", r'has no "Mime" \(did you mean "Mine"\?\)'),
        (":number", "an? int cannot be called"),
        (":Picky", r"cannot be instantiated without arguments: .*must"),
        (":later", r"is a coroutine function \(async def\)"),
        (":Later", r"is a coroutine function \(async def\)"),
        (":one_argument", r"must take \(view, current\), and "),
    ],
)
def test_what_is_no_policy_in_a_file(file: Path, suffix: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        policy(f"{file}{suffix}")
    reason = refused.value.__cause__
    assert reason is None or str(refused.value).endswith(str(reason))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def place(view, current:\n", r"broken\.py cannot be loaded: .*broken\.py:1: SyntaxError: "),
        ("import no_such_module_at_all\n", r"broken\.py:1: ModuleNotFoundError: .*no_such"),
        ("\n\n1 / 0\n", r"broken\.py:3: ZeroDivisionError: "),
        ("import sys\nsys.exit(3)\n", r"broken\.py:2: SystemExit: 3"),
        ("open('no such file')\n", r"broken\.py cannot be loaded: .*no such file"),
    ],
)
def test_a_file_that_cannot_be_loaded(tmp_path: Path, source: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(RequestError, match=message) as refused:
        policy(f"{path}:place")
    reason = refused.value.__cause__
    assert str(refused.value).endswith(str(reason.msg if isinstance(reason, SyntaxError) else reason))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(RequestError, match=r"there is no policy file nowhere/mine\.py"):
        policy("nowhere/mine.py:Mine")


def test_a_packages_policy_and_its_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("theirs", "edgeemu.policies.greedy:place", loading.GROUP),
        EntryPoint("gone", "edgeemu.policies.greedy:nothing", loading.GROUP),
    ]
    monkeypatch.setattr(loading, "entry_points", lambda group: points if group == loading.GROUP else [])
    assert policy("theirs") is greedy.place
    with pytest.raises(RequestError, match=r'"gone" \(edgeemu\.policies\.greedy:nothing\) cannot be loaded'):
        policy("gone")
    with pytest.raises(RequestError, match=r'no policy "their" \(did you mean "theirs"\?\)'):
        policy("their")


def test_the_kit_finds_what_is_wrong() -> None:
    def first_fit(view: ClusterView, current: Placement | None) -> Placement:
        return greedy.place(view, current)

    class Wavering:
        turn = 0

        def __call__(self, view: ClusterView, current: Placement | None) -> Placement:
            self.turn += 1
            placement = first_fit(view, current)
            last = next(reversed(placement.owner))
            return placement.moved([last], self.turn % len(view.devices))

    def incomplete(view: ClusterView, current: Placement | None) -> Placement:
        return Placement(dict(list(first_fit(view, current).owner.items())[1:]))

    def all_on_one(view: ClusterView, current: Placement | None) -> Placement:
        return Placement(dict.fromkeys(first_fit(view, current).owner, 0))

    def greedy_with_current(view: ClusterView, current: Placement | None) -> Placement:
        if current is not None:
            current.owner.clear()  # type: ignore[attr-defined]
        return first_fit(view, None)

    def nothing(_view: ClusterView, _current: Placement | None) -> None:
        return None

    def raises(view: ClusterView, current: Placement | None) -> Placement:
        if current is None:
            return first_fit(view, None)
        raise KeyError("lost")

    def gives_up(_view: ClusterView, current: Placement | None) -> Placement:
        raise InfeasibleError("no") if current is None else NoBetterPlacement("no")

    clock = time.perf_counter
    expected = {
        Wavering(): "called again with the same view, it gave another answer",
        incomplete: "embed is on no device",
        all_on_one: "does not fit the devices' memory",
        greedy_with_current: "changed the current placement",
        nothing: "returned a NoneType, not a Placement",
        raises: "raised KeyError: 'lost'",
        gives_up: "found no placement, and there is one",
    }
    for decide, message in expected.items():
        assert any(message in fault for fault in faults(decide, clock, PATIENT_S)), message  # type: ignore[arg-type]
    ticking = iter(range(10_000))
    assert any("took 1000.0 ms, 100 ms are allowed" in f for f in faults(first_fit, lambda: float(next(ticking))))


def test_a_built_in_policy_does_not_ask_again_for_what_was_refused() -> None:
    seen = view(LLAMA, [2**40] * 2, [Compute(1e9, 1e9, 0.0), Compute(9e9, 9e9, 0.0)], 8, 24)
    place = policy("greedy")
    wanted = place(seen, None)
    current = Placement(dict.fromkeys(wanted.owner, 1))
    assert place(seen, current) == wanted
    assert place(replace(seen, refused=Refusal(wanted, "no room")), current) is current
    assert place(replace(seen, refused=Refusal(current, "no room")), current) == wanted


@pytest.mark.parametrize(("name", "n_devices", "made"), [("lookahead", 2, 1), ("lookahead", 1, 0), ("static", 2, 0)])
def test_machine_code_is_made_before_runs_that_search_over_shares(name: str, n_devices: int, made: int) -> None:
    functions.cache_clear()
    computes = [Compute(1e9, 1e9, 0.0)] * n_devices
    prepare(name, view(LLAMA, [2**30] * n_devices, computes, 10, 11))
    assert functions.cache_info().currsize == made
