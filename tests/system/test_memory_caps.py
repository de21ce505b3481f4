"""Caps that the kernel enforces: a device that takes more is ended and named, an honest one never is."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.capped import MEANS, TIGHT, VERSION, finish, groups_of, meta, needs_groups, run_directory, start

from edgeemu.host import cgroups
from edgeemu.host.cgroup_mounts import hierarchies
from edgeemu.host.memory_caps import MemoryCaps
from edgeemu.host.owner import Owner
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import parse_scenario

V1 = """31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


def test_where_groups_are_is_read_from_proc(tmp_path: Path) -> None:
    v1, v2 = tmp_path / "memory", tmp_path / "unified"
    for group in (v1 / "a/b", v2 / "user.slice/session-3.scope"):
        group.mkdir(parents=True)
    mounts = V1.replace("/sys/fs/cgroup", str(tmp_path))
    membership = "4:memory:/a/b\n3:cpu,cpuacct:/x\n0::/user.slice/session-3.scope\n"
    second, first = hierarchies(mounts, membership, read_controllers=False)
    assert (first.version, first.mount, first.own) == (1, v1, v1 / "a/b")
    assert first.candidates() == [v1 / "a/b", v1 / "a", v1]
    assert (second.version, second.own) == (2, v2 / "user.slice/session-3.scope")
    assert hierarchies(mounts, membership)[0].version == 1  # the v2 there has no memory controller
    (v2 / "cgroup.controllers").write_text("cpu memory\n")
    assert [hierarchy.version for hierarchy in hierarchies(mounts, membership)] == [2, 1]


def test_a_container_sees_a_part_of_the_hierarchy(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    inside = f"30 23 0:26 /docker/7f3 {tmp_path} rw - cgroup cgroup rw,memory\n"
    assert hierarchies(inside, "4:memory:/docker/7f3/sub\n")[0].own == tmp_path / "sub"
    assert hierarchies(inside, "4:memory:/docker/7f3\n")[0].candidates() == [tmp_path]
    assert hierarchies(inside, "4:memory:/somewhere/else\n")[0].own == tmp_path
    assert hierarchies(inside, "3:cpu:/\n") == []
    spaced = tmp_path / "a b"
    spaced.mkdir()
    line = V2.replace("/sys/fs/cgroup", str(spaced).replace(" ", "\\040"))
    assert hierarchies(line, "0::/\n", read_controllers=False)[0].mount == spaced


def test_a_groups_name_says_whose_it_is() -> None:
    owner = Owner.of(os.getpid())
    name = f"edgeemu-x_y8.{owner.pid}.{owner.start_ticks}.{owner.pid_namespace}.{owner.boot_id}"
    assert cgroups.owner_of(name) == owner
    assert owner.state == "alive"
    assert owner._replace(start_ticks=owner.start_ticks + 1).state == "dead"
    assert owner._replace(boot_id="0" * 36).state == "dead"
    assert owner._replace(pid_namespace=1).state == "elsewhere"
    for other in ("edgeemu-x", "docker", f"{name}.more", f"x{name}"):
        assert cgroups.owner_of(other) is None


GREEDY = "import sys; sys.stdin.read(1); held = bytearray(int(sys.argv[1])); print(len(held), flush=True)"


@pytest.mark.cgroups
@needs_groups
def test_a_process_that_exceeds_its_group_is_killed_and_counted() -> None:
    with run_directory() as directory:
        group = cgroups.make_run_group(directory, Owner.of(os.getpid()))
        assert cgroups.recorded(directory) == [group.path]
        for name, size, status in (("modest", 8 * 2**20, 0), ("greedy", 200 * 2**20, -signal.SIGKILL)):
            inner = group.make(name, 64 * 2**20)
            with subprocess.Popen(
                [sys.executable, "-c", GREEDY, str(size)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
            ) as process:
                inner.add(process.pid)
                process.communicate(b"x")
            assert process.returncode == status
            assert inner.kills == (1 if status else 0)
            if VERSION == 1 or inner.peak_bytes is not None:
                assert inner.peak_bytes is not None
                assert size < inner.peak_bytes <= 64 * 2**20 or (status and inner.peak_bytes > 60 * 2**20)
        assert cgroups.remove(group.path) == ""
        assert not group.path.exists()
        assert cgroups.remove(group.path) == ""  # a second time is no error


@pytest.mark.cgroups
@needs_groups
def test_a_group_with_a_process_in_it_is_not_removed() -> None:
    with run_directory() as directory:
        group = cgroups.make_run_group(directory, Owner.of(os.getpid()))
        inner = group.make("0", 64 * 2**20)
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            inner.add(process.pid)
            assert cgroups.remove(group.path) == "Device or resource busy"
            process.communicate(b"\n")
        assert cgroups.remove(group.path) == ""


def test_where_there_is_nothing_the_ledger_is_what_there_is() -> None:
    with run_directory() as directory:
        caps = MemoryCaps(directory, os.getpid(), means=())
        caps.cap("a", 0, os.getpid(), 1, 1)
        assert caps.described == "ledger"
        assert caps.why_killed("a", -signal.SIGKILL, {}) is None


@pytest.mark.cgroups
@pytest.mark.parametrize(("entry", "page"), [("hog", "cache"), ("hog_at_once", "nothing yet")])
@needs_groups
def test_the_kernel_ends_a_device_that_takes_more_than_its_cap(tmp_path: Path, entry: str, page: str) -> None:
    process = start(tmp_path, entry, "cgroup")
    status, document = finish(process)
    assert status == document["status"] == 3
    error = document["error"]
    assert error.startswith("a is out of memory: it took more than its ledger counts")
    assert f"(cgroup v{VERSION}: " in error
    assert groups_of(process.pid) == []
    assert meta(tmp_path)["memory_cap"] == f"cgroup v{VERSION}"
    _, _, told = error.partition("The ledger's last page: ")
    assert told.startswith(page)
    assert ("weights" in told) == (entry == "hog")


def test_without_groups_a_process_limit_ends_it(tmp_path: Path) -> None:
    status, document = finish(start(tmp_path, "hog", "rlimit"))
    assert status == 3
    assert "a: the system gives it no more memory" in document["error"]
    assert "weights" in document["error"]
    assert meta(tmp_path)["memory_cap"] == "rlimit"


@pytest.mark.cgroups
@pytest.mark.parametrize("means", MEANS)
def test_a_device_that_keeps_to_its_ledger_is_never_killed(tmp_path: Path, means: str) -> None:
    """Its ledger is full to the last few percent, a third of it with the cache that grows until the end."""
    long = ("policy=single", "workload.max_tokens=600")
    plan = make_plan(parse_scenario(TIGHT, "tight", long))
    page = max(plan.pages, key=lambda page: page.total_bytes)
    assert page.cache_bytes > 0.3 * page.weights_bytes
    process = start(tmp_path, "honest", means, *long, f"devices[0].memory={int(page.total_bytes * 1.01)} B")
    status, summary = finish(process)
    assert status == 0
    used = summary["memory"]["by_device"]["a"]
    assert used["peak_bytes"] > 0.95 * used["cap_bytes"]
    assert meta(tmp_path)["memory_cap"].startswith(means)
    if means == "cgroup":
        peak_bytes = used["group_peak_bytes"]
        assert peak_bytes is None or used["peak_bytes"] * 0.9 < peak_bytes < used["cap_bytes"] + used["baseline_bytes"]


@needs_groups
def test_groups_are_gone_after_a_run_and_while_it_runs_hold_only_devices(tmp_path: Path) -> None:
    process = start(tmp_path, "honest", "cgroup", "time.mode=realtime", "workload.max_tokens=900")
    try:
        while process.poll() is None and not (made := groups_of(process.pid)):
            time.sleep(0.01)
        (group,) = made
        while process.poll() is None and len(list(group.glob("[0-9]*/cgroup.procs"))) < 2:
            time.sleep(0.01)
        assert (group / "cgroup.procs").read_text() == ""
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert groups_of(process.pid) == []
