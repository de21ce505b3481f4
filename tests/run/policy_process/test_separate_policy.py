"""A policy in a process of its own: whatever it does is a reason with file and line, and spoils nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.moving import SCENARIO, simulated

from edgeemu.errors import InfeasibleError, Interrupted
from edgeemu.placement.placement import Placement
from edgeemu.policies import policy
from edgeemu.run.ask_policy import Answer, first_decision, next_decision
from edgeemu.run.choose_policy import open_policy
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.run.policy_process.separate_policy import PolicyError, SeparatePolicy
from edgeemu.scenario.load import parse_scenario

EXAMPLE = Path(__file__).parents[3] / "examples" / "my_policy.py"
PATIENT_S = 30.0
POLICIES = """\
import asyncio, ctypes, os, resource, signal, sys, threading, time
from pathlib import Path

import numpy as np

from edgeemu.policies.api import Block, InfeasibleError, Placement, policy

greedy = policy("greedy")
NOW = Path(__file__).with_name("now")

def place(view, current):
    return globals()[NOW.read_text()](view, current)

class Unspeakable(Exception):
    def __str__(self):
        raise ValueError

def unspeakable(view, current): raise Unspeakable

class Evil(int):
    def __eq__(self, other):
        os._exit(9)
    __hash__ = int.__hash__

def evil(view, current):
    return Placement({block: Evil(at) for block, at in greedy(view, None).owner.items()})

def cancelled(view, current): raise asyncio.CancelledError
def closed(view, current): raise GeneratorExit
def left(view, current): sys.exit(3)
def interrupted(view, current): raise KeyboardInterrupt
def in_a_library(view, current): return np.zeros(3).reshape(5)
def nonsense(view, current): return np.zeros(3)
def offers_nonsense(view, current): view.offer(np.zeros(3))
def offers(view, current):
    view.offer(Placement({}))
    view.offer(greedy(view, None))
    while current: pass
    os._exit(0)

def offers_for_ever(view, current):
    while True: view.offer(greedy(view, None))

def no_block(view, current): return Placement({Block("nowhere"): 0})
def too_large(view, current): return Placement(dict.fromkeys(greedy(view, None).owner, 2**70))
def writes(view, current): view.links.delay_s.row(0)[:] = 0
def replaces(view, current): view.devices = ()
def deep(view, current): return deep(view, current)
def full(view, current): return bytearray(10**15)
def no_room(view, current): raise InfeasibleError("nothing fits")
def hangs_in_c(view, current): return sum(range(10**13))
def hangs(view, current):
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

def exits(view, current): os._exit(3)
def kills(view, current): os.kill(os.getpid(), signal.SIGKILL)
def crashes(view, current): ctypes.string_at(0)
def stops(view, current): os.kill(os.getpid(), signal.SIGSTOP)
def closes(view, current):
    os.closerange(0, 50)
    return greedy(view, None)

def tidy(view, current):
    return greedy(view, None)

def waits(view, current):
    time.sleep(0.4)
    return greedy(view, None)

def untidy(view, current):
    print("printed")
    os.chdir("/")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=(1000,)).start()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
    current.owner.clear()
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY
    return greedy(view, None)
"""


def line_of(name: str) -> int:
    """The last line of a function of `POLICIES`."""
    lines = POLICIES.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith(f"def {name}("))
    return first + 1 if lines[first].endswith(")") or ": " in lines[first] else first + 2


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(parse_scenario(SCENARIO, "moving"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policies")
    (path / "mine.py").write_text(POLICIES)
    return path


@pytest.fixture
def asked(directory: Path) -> Iterator[SeparatePolicy]:
    """The policies of the file, in one process as long as none of them ends it."""
    policy = SeparatePolicy(f"{directory}/mine.py", PATIENT_S)
    yield policy
    policy.close()


@pytest.fixture
def ask(asked: SeparatePolicy, plan: Plan, directory: Path) -> Callable[..., Answer]:
    """A later decision by a function of the file."""

    def ask(name: str, limit_s: float = PATIENT_S) -> Answer:
        (directory / "now").write_text(name)
        return next_decision(asked, plan.view, plan.placement, limit_s)

    return ask


RAISED = {
    "unspeakable": "Unspeakable: (its message cannot be read: ValueError)",
    "cancelled": "CancelledError",
    "closed": "GeneratorExit",
    "left": "SystemExit: 3",
    "interrupted": "KeyboardInterrupt",
    "in_a_library": "ValueError: cannot reshape array",
    "writes": "ValueError: assignment destination is read-only",
    "replaces": "FrozenInstanceError: cannot assign to field 'devices'",
    "deep": "RecursionError: maximum recursion depth exceeded",
    "full": "MemoryError",
}


def test_what_a_policy_raises_is_named_with_its_line(
    ask: Callable[..., Answer], asked: SeparatePolicy, plan: Plan, directory: Path
) -> None:
    for name, reason in RAISED.items():
        answer = ask(name)
        where = "" if name == "deep" else f"{directory}/mine.py:{line_of(name)}: "
        assert answer.problem.startswith(f"{where}{reason}") or (name == "deep" and reason in answer.problem), name
        assert answer.placement is plan.placement
        assert not answer.lost
        with pytest.raises(PolicyError) as refused:
            first_decision(asked, plan.view, PATIENT_S)
        assert refused.value.exit_status == 2
        assert str(refused.value) == f"the policy gave no first placement: {answer.problem}"
    for name, reason in ANSWERED.items():
        assert reason in ask(name).problem
    with pytest.raises(InfeasibleError, match=r"^nothing fits$"):
        first_decision(asked, plan.view, PATIENT_S)


def test_what_was_offered_is_used_when_the_limit_strikes_or_the_process_ends(
    ask: Callable[..., Answer], asked: SeparatePolicy, plan: Plan, directory: Path
) -> None:
    offered = policy("greedy")(plan.view, None)
    for name in ("offers", "offers_for_ever"):
        late = ask(name, 0.1)
        assert (late.placement, late.cut, late.lost) == (offered, True, False)
        assert late.problem.endswith("what it had offered until then is used")
        assert "mine.py:" in late.problem
        assert "the policy did not answer within" in late.problem
    (directory / "now").write_text("offers")
    ended = first_decision(asked, plan.view, PATIENT_S)
    assert ended.placement == offered
    assert "the policy's process ended with status 0; what" in ended.problem
    assert "is a ndarray, not a Placement" in ask("offers_nonsense").problem


ANSWERED = {
    "nonsense": "the answer is a ndarray, not a Placement",
    "no_block": "ValueError: 'nowhere' is not a valid Kind",
    "too_large": "OverflowError",
    "no_room": "nothing fits",
}


def test_nothing_of_a_policy_comes_to_life_in_the_controller(ask: Callable[..., Answer], plan: Plan) -> None:
    expected = policy("greedy")(plan.view, None)
    made = ask("evil")
    assert (made.placement, made.problem) == (expected, "")
    assert {type(device) for device in made.placement.owner.values()} == {int}


LOST = {
    "hangs_in_c": "the policy did not answer within 0.2 s of processor time",
    "hangs": "the policy did not answer within 1 s",
    "stops": "the policy did not answer within 1 s",
    "exits": "the policy's process ended with status 3",
    "kills": "the policy's process was killed by SIGKILL",
    "crashes": "the policy's process was killed by SIGSEGV",
    "closes": "the policy's process ended with status",
}


def test_a_policy_that_gives_no_answer_is_replaced(ask: Callable[..., Answer], plan: Plan, directory: Path) -> None:
    for name, reason in LOST.items():
        answer = ask(name, 0.2 if "within" in reason else PATIENT_S)
        assert answer.lost, name
        assert reason in answer.problem
        if name in ("hangs_in_c", "crashes"):
            assert answer.problem.startswith(f"{directory}/mine.py:{line_of(name)}: ")
        assert answer.placement is plan.placement
    assert ask("tidy").problem == ""


def test_a_limit_is_of_processor_time(ask: Callable[..., Answer]) -> None:
    assert ask("waits", 0.2).problem == ""


def test_what_a_policy_leaves_behind_ends_with_it(
    asked: SeparatePolicy, ask: Callable[..., Answer], plan: Plan, capfd: pytest.CaptureFixture[str]
) -> None:
    """Threads, processes in sessions of their own: the fixture of every test finds what is left."""
    before = dict(plan.placement.owner)
    assert ask("untidy").problem == ""
    assert ask("tidy").problem == ""
    asked.close()
    assert plan.placement.owner == before
    assert tuple(capfd.readouterr()) == ("", "printed\n")


def test_a_killed_controller_takes_its_policy_with_it(directory: Path) -> None:
    """Its processes are found by the fixture of every test, wherever they hang by then."""
    (directory / "now").write_text("untidy")
    code = f"""if True:
        import os, signal
        from support.moving import SCENARIO
        from edgeemu.run.make_plan import make_plan
        from edgeemu.run.policy_process.separate_policy import SeparatePolicy
        from edgeemu.scenario.load import parse_scenario
        plan = make_plan(parse_scenario(SCENARIO))
        SeparatePolicy("{directory}/mine.py", 30.0).ask(plan.view, plan.placement, 30.0)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_signal_ends_the_command_while_a_policy_is_in_c(asked: SeparatePolicy, plan: Plan, directory: Path) -> None:
    (directory / "now").write_text("hangs_in_c")
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        asked.load()  # the process of the turn before has been ended
        before = signal.signal(signal.SIGALRM, lambda *_, number=number: os.kill(os.getpid(), number))
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            with pytest.raises(Interrupted) as ended:
                next_decision(asked, plan.view, plan.placement, PATIENT_S)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert ended.value.status == status


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("while True: pass", "did not answer within 0.2 s of processor time"),
        ("raise SystemExit(2)", "cannot be loaded: {file}:1: SystemExit: 2"),
        ("import os; os._exit(4)", "the policy's process ended with status 4"),
    ],
)
def test_a_file_that_does_not_come_to_an_end_when_it_is_imported(tmp_path: Path, source: str, reason: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(source)
    with pytest.raises(PolicyError) as refused:
        SeparatePolicy(str(file), 0.2).load()
    assert refused.value.exit_status == 2
    assert reason.format(file=file) in str(refused.value)


def test_the_solver_in_c_has_a_process_of_its_own(plan: Plan) -> None:
    exact = open_policy("exact", PATIENT_S)
    assert isinstance(exact, SeparatePolicy)
    assert first_decision(exact, plan.view, PATIENT_S).placement == policy("exact")(plan.view, None)
    exact.close()


def test_a_run_is_the_same_whether_its_policy_has_a_process_of_its_own() -> None:
    """A device is slower for a while: the policy moves blocks there and back."""
    name = f"{EXAMPLE}:FastestFirst"
    changes = [
        "knowledge=oracle",
        "events=[{device: a, at_token: 2, speed: 10 %}, {device: a, at_token: 5, speed: 100 %}]",
    ]
    separate = make_plan(parse_scenario(SCENARIO, "moving", changes), name)
    assert isinstance(separate.decide, SeparatePolicy)
    mine, other = (simulated(made) for made in (separate, replace(separate, decide=policy(name))))
    separate.close()
    assert len(mine.migrations) > 0
    for table in ("tokens", "migrations", "ops"):
        assert getattr(mine, table) == getattr(other, table)
    assert mine.problems == other.problems == []
    assert isinstance(separate.placement, Placement)
