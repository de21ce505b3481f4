"""The platform that all tests here rely on: netem, namespaces and cgroup v2 exist and work."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.netem

CGROUPS = Path("/sys/fs/cgroup")
MIB = 1 << 20


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """Two namespaces with a cable: 10.9.0.1 on "here" in the first, 10.9.0.2 on "there" in the second."""
    names = (f"one-{os.getpid()}", f"two-{os.getpid()}")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "here", "netns", names[0], "type", "veth", "peer", "name", "there", "netns", names[1])
        for number, (name, device) in enumerate(zip(names, ("here", "there"), strict=True), start=1):
            ip("-n", name, "address", "add", f"10.9.0.{number}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            ip("netns", "delete", name)


ECHO = """
import socket
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
here.bind(("10.9.0.2", 7))
print("ready", flush=True)
while True:
    data, sender = here.recvfrom(64)
    here.sendto(data, sender)
"""

ASK = """
import socket, time
there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
there.settimeout(5)
there.connect(("10.9.0.2", 7))
for number in range(10):
    start = time.monotonic()
    there.send(b"%d" % number)
    assert there.recv(64) == b"%d" % number
    print(time.monotonic() - start)
"""


def test_netem_delays_packets_in_a_namespace(pair: tuple[str, str]) -> None:
    first, second = pair
    qdisc = ["qdisc", "add", "dev", "here", "root", "netem", "delay", "40ms", "limit", "100"]
    subprocess.run(["tc", "-n", first, *qdisc], check=True)
    shown = subprocess.run(["tc", "-n", first, "qdisc", "show", "dev", "here"], check=True, capture_output=True)
    assert b"delay 40ms" in shown.stdout
    with subprocess.Popen(
        ["ip", "netns", "exec", second, sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True
    ) as echo:
        try:
            assert echo.stdout is not None
            assert echo.stdout.readline() == "ready\n"
            times_s = sorted(float(line) for line in ip("netns", "exec", first, sys.executable, "-c", ASK).split())
        finally:
            echo.kill()
    assert len(times_s) == 10
    assert times_s[0] >= 0.040  # never early; how late it can be is the machine's affair


QDISCS = (
    *("netem delay 1ms", "htb default 1", "tbf rate 10mbit burst 5kb latency 50ms"),
    *("prio", "fq", "fq_codel", "sfq"),
)


def test_kernel_has_what_links_are_made_of(pair: tuple[str, str]) -> None:
    name, _ = pair
    commands = [f"tc -n {name} qdisc replace dev here root {qdisc}" for qdisc in QDISCS]
    for place in ("ingress", "clsact"):
        commands += [f"tc -n {name} qdisc {verb} dev here {place}" for verb in ("add", "delete")]
    commands += [f"ip -n {name} link add extra-{kind} type {kind}" for kind in ("bridge", "ifb", "dummy")]
    refused = [line for line in commands if subprocess.run(line.split(), check=False).returncode]
    assert not refused


@pytest.fixture
def group() -> Iterator[Path]:
    directory = CGROUPS / f"edgeemu-test-{os.getpid()}"
    directory.mkdir()
    try:
        yield directory
    finally:
        directory.rmdir()


ALLOCATE = """
import sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text("0")
block = bytearray(int(sys.argv[2]))
block[::4096] = b"x" * len(block[::4096])
print("done")
"""


@pytest.mark.parametrize(("mib", "ended"), [(8, 0), (200, -signal.SIGKILL)])
def test_memory_controller_kills_what_exceeds_its_limit(group: Path, mib: int, ended: int) -> None:
    (group / "memory.max").write_text(str(64 * MIB))
    done = subprocess.run([sys.executable, "-c", ALLOCATE, str(group), str(mib * MIB)], capture_output=True, text=True)
    assert done.returncode == ended
    events = dict(line.split() for line in (group / "memory.events").read_text().splitlines())
    assert (int(events["oom_kill"]) > 0) == (ended != 0)


def test_cpu_controller_is_enabled(group: Path) -> None:
    (group / "cpu.max").write_text("50000 100000")
    assert (group / "cpu.max").read_text() == "50000 100000\n"
