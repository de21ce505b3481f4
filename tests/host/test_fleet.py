"""Device processes start fast, say why they died, and never outlive the controller."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from edgeemu.errors import RunError
from edgeemu.host import scratch
from edgeemu.host.fleet import DeviceExit, Fleet
from edgeemu.host.owner import start_ticks
from edgeemu.links.netns.capabilities import probe_host

TESTS = Path(__file__).parents[1]

Runner = Callable[[Awaitable[None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Runner:
    """Runs a coroutine on each event loop that the controller may use."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def runner(coroutine: Awaitable[None]) -> None:
        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(coroutine)  # type: ignore[arg-type]

    return runner


def alive(pid: int) -> bool:
    """A zombie is not: whoever became its parent reaps it in their own time."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rindex(")") + 2] != "Z"


async def next_exit(fleet: Fleet) -> DeviceExit:
    async with asyncio.timeout(10):
        return await fleet.exits.get()


def test_a_device_is_a_process_of_its_own(run: Runner, tmp_path: Path) -> None:
    async def main() -> None:
        async with Fleet("support.fleet_entries:describe") as fleet:
            pid = await fleet.fork("raspberry-pi-4-number-1", str(tmp_path / "facts").encode())
            assert await next_exit(fleet) == DeviceExit("raspberry-pi-4-number-1", pid, 0)
            assert fleet.alive == {}
        facts = json.loads((tmp_path / "facts").read_text())
        assert facts["pid"] == pid
        assert facts["parent"] not in (os.getpid(), 1)
        assert facts["session"] != os.getsid(0)  # a terminal's Ctrl-C does not reach it
        assert facts["sigint_ignored"]
        assert facts["comm"] == "raspberry-pi-4-"
        assert facts["timer_slack_ns"] == 1
        assert facts["threads"] == 1
        assert facts["blas"] == "1"
        assert facts["stdin"] == "/dev/null"
        assert facts["sockets"] == []  # nothing of the server's is left open
        assert {"numpy", "zmq", "msgspec"} <= set(facts["loaded"])
        assert not {"pydantic", "pyarrow", "typer", "rich", "asyncio"} & set(facts["loaded"])
        assert facts["rss_kib"] < 40 * 1024  # 60 MB is what a whole device may take beside weights and caches

    run(main())


def test_one_process_may_run_another_function_than_the_devices(run: Runner, tmp_path: Path) -> None:
    async def main() -> None:
        async with Fleet("support.fleet_entries:sleep") as fleet:
            await fleet.fork("device", b"")
            pid = await fleet.fork("other", str(tmp_path / "facts").encode(), "support.fleet_entries:describe")
            assert await next_exit(fleet) == DeviceExit("other", pid, 0)
            assert set(fleet.alive) == {"device"}
        assert json.loads((tmp_path / "facts").read_text())["comm"] == "other"

    run(main())


def test_processes_can_be_root_of_a_user_namespace_of_their_own(tmp_path: Path) -> None:
    host = probe_host()
    if not host.user_namespaces:
        pytest.skip(host.why)

    async def main() -> None:
        async with Fleet("support.fleet_entries:describe", user_namespace=True) as fleet:
            await fleet.fork("device", str(tmp_path / "facts").encode())
            assert (await next_exit(fleet)).status == 0

    asyncio.run(main())
    facts = json.loads((tmp_path / "facts").read_text())
    assert facts["uid"] == 0
    assert facts["user_namespace"] != str(Path("/proc/self/ns/user").readlink())


def test_25_devices_are_there_in_less_than_5_seconds() -> None:
    async def main() -> None:
        began = time.perf_counter()
        async with Fleet("support.fleet_entries:sleep") as fleet:
            started = time.perf_counter()
            pids = await asyncio.gather(*(fleet.fork(f"d{i}", b"x" * 100_000) for i in range(25)))
            forked = time.perf_counter()
            assert len(set(pids)) == 25
            assert all(alive(pid) for pid in pids)
            await fleet.close(grace_s=0)
            ended = time.perf_counter()
        assert not any(alive(pid) for pid in pids)
        print(f"server {started - began:.2f} s, 25 forks {forked - started:.3f} s, end {ended - forked:.3f} s")
        assert forked - began < 5
        assert forked - started < 1

    asyncio.run(main())


def test_the_traceback_of_a_device_explains_its_death(run: Runner) -> None:
    async def main() -> None:
        async with Fleet("support.fleet_entries:fail") as fleet:
            await fleet.fork("nano", b"head(3, 1)")
            ended = await next_exit(fleet)
            assert ended.status == 1
        why = fleet.explain(ended)  # the directory with the log is gone by now
        assert why.startswith("device nano exited with status 1\nTraceback")
        assert why.endswith("ValueError: no such block: head(3, 1)")

    run(main())


@pytest.mark.parametrize(
    ("entry", "spec", "status", "text"),
    [
        ("leave", b"7", 7, "device d exited with status 7"),
        ("leave", b"0", 0, "device d exited with status 0"),
        ("segfault", b"", -signal.SIGSEGV, "device d was killed by SIGSEGV"),
    ],
)
def test_how_a_device_ended_is_told(entry: str, spec: bytes, status: int, text: str) -> None:
    async def main() -> None:
        async with Fleet(f"support.fleet_entries:{entry}") as fleet:
            await fleet.fork("d", spec)
            ended = await next_exit(fleet)
            assert ended.status == status
            assert str(ended) == text
            if entry == "segfault":
                assert "in segfault" in fleet.log_tail("d")

    asyncio.run(main())


def test_names_are_any_text_and_can_be_used_again_after_an_exit() -> None:
    async def main() -> None:
        async with Fleet("support.fleet_entries:fail") as fleet:
            for name in ("../up/and away", "@server", "владивосток"):
                await fleet.fork(name, b"1")
                assert (await next_exit(fleet)).name == name
                assert "no such block: 1" in fleet.log_tail(name)
            await fleet.fork("@server", b"2")
            await next_exit(fleet)
            assert "no such block: 2" in fleet.log_tail("@server")

    asyncio.run(main())


def test_inherited_descriptors_keep_their_numbers(run: Runner) -> None:
    async def main() -> None:
        shared = os.memfd_create("shared")
        try:
            async with Fleet("support.fleet_entries:write_fd", pass_fds=[shared]) as fleet:
                await fleet.fork("d", str(shared).encode())
                assert (await next_exit(fleet)).status == 0
            assert os.pread(shared, 100, 0) == b"from the device"
        finally:
            os.close(shared)

    run(main())


def test_devices_that_were_told_to_end_get_the_time_for_it(run: Runner) -> None:
    async def main() -> None:
        async with Fleet("support.fleet_entries:on_socket_close") as fleet:
            connected: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

            async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                assert await reader.read(5) == b"hello"
                await connected.put(writer)

            path = fleet.directory / "controller.sock"
            async with await asyncio.start_unix_server(on_connect, path):
                await fleet.fork("d", str(path).encode())
                writer = await connected.get()
                writer.close()
                await writer.wait_closed()
                await fleet.close(grace_s=10)
            assert fleet.exits.get_nowait().status == 0

    run(main())


def test_a_device_that_does_not_want_to_end_is_killed(run: Runner) -> None:
    async def main() -> None:
        fleet = Fleet("support.fleet_entries:ignore_everything")
        await fleet.start()
        directory = fleet.directory
        pid = await fleet.fork("d", b"")
        with pytest.raises(ValueError, match="forked already"):
            await fleet.fork("d", b"")
        began = time.perf_counter()
        await fleet.close(grace_s=0.1)
        assert time.perf_counter() - began < 2
        assert not alive(pid)
        assert not directory.exists()
        await fleet.close()
        with pytest.raises(RuntimeError, match="not running"):
            await fleet.fork("e", b"")

    run(main())


def test_cancelling_cuts_the_grace_short_but_not_the_end(run: Runner) -> None:
    async def main() -> None:
        fleet = Fleet("support.fleet_entries:sleep")
        await fleet.start()
        pid = await fleet.fork("d", b"")
        closing = asyncio.create_task(fleet.close(grace_s=60))
        await asyncio.sleep(0.05)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert not alive(pid)
        assert not fleet.directory.exists()

    run(main())


def test_when_the_server_dies_so_do_its_devices_and_the_controller_hears_of_it(run: Runner) -> None:
    async def main() -> None:
        async with Fleet("support.fleet_entries:sleep") as fleet:
            pids = [await fleet.fork(name, b"") for name in ("a", "b")]
            assert fleet._server is not None
            fleet._server.kill()
            ended = [await next_exit(fleet), await next_exit(fleet)]
            assert {(exit_.name, exit_.status) for exit_ in ended} == {("a", -9), ("b", -9)}
            assert not any(alive(pid) for pid in pids)
            assert fleet.explain(ended[0]) == f"the fork server ended unexpectedly, and with it device {ended[0].name}"
            with pytest.raises(RunError, match="the fork server ended unexpectedly"):
                await fleet.fork("c", b"")
            directory = fleet.directory
        assert not directory.exists()

    run(main())


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("no_such_module:run", "ModuleNotFoundError: .*no_such_module"),
        ("support.fleet_entries:no_such_function", "AttributeError: .*no_such_function"),
    ],
)
def test_a_server_that_cannot_start_says_why(run: Runner, entry: str, why: str) -> None:
    async def main() -> None:
        fleet = Fleet(entry)
        with pytest.raises(RunError, match=why):
            await fleet.start()
        assert not fleet.directory.exists()

    run(main())


CONTROLLER = """
import asyncio, sys
from edgeemu.host.fleet import Fleet

async def main():
    async with Fleet("support.fleet_entries:ignore_everything") as fleet:
        pids = [await fleet.fork(f"d{i}", b"") for i in range(3)]
        print(fleet.directory, fleet._server.pid, *pids, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSEGV])
def test_nothing_outlives_the_controller_however_it_ends(sign: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CONTROLLER],
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as controller:
        assert controller.stdout is not None
        directory, *pids = controller.stdout.readline().split()
        owner = json.loads((Path(directory) / "owner").read_text())
        assert owner["pid"] == controller.pid
        assert owner["start_ticks"] == start_ticks(controller.pid)
        controller.send_signal(sign)
        controller.wait(10)
    deadline = time.monotonic() + 5
    while Path(directory).exists() or any(alive(int(pid)) for pid in pids):
        assert time.monotonic() < deadline, [pid for pid in pids if alive(int(pid))]
        time.sleep(0.01)


def test_a_run_directory_is_private_short_and_only_removed_if_it_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = scratch.create(os.getpid())
    assert directory.stat().st_mode & 0o777 == 0o700
    assert str(directory).startswith(os.environ["XDG_RUNTIME_DIR"])
    scratch.remove(directory)
    assert not directory.exists()

    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setattr("tempfile.tempdir", str(long))
    directory = scratch.create(os.getpid())
    assert len(str(directory)) <= 60
    scratch.remove(directory)
    assert not directory.exists()

    foreign = tmp_path / "edgeemu-not-ours"
    foreign.mkdir()
    scratch.remove(foreign)
    assert foreign.is_dir()
