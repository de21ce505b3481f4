"""Device processes start fast, say why they died, and never outlive the controller."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest
from support.fleets import Runner, alive, next_exit

from edgeemu.errors import RunError
from edgeemu.host import scratch
from edgeemu.host.device_exit import DeviceExit
from edgeemu.host.fleet import Fleet
from edgeemu.links.netns.capabilities import probe_host

pytestmark = pytest.mark.alone  # it has limits of time


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
            await fleet.close(grace_s=0)
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
