"""Device processes end when they are told to, when the server dies, and when the controller does."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.fleets import Runner, alive, next_exit

from edgeemu.errors import RunError
from edgeemu.host.fleet import Fleet
from edgeemu.host.owner import start_ticks

pytestmark = pytest.mark.alone  # it has limits of time
TESTS = Path(__file__).parents[1]


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
