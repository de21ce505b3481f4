"""`edgeemu doctor` says what is there, whatever is missing, and advises one thing."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from support.capped import VERSION
from support.warm_commands import run_edgeemu

from edgeemu.host import doctor
from edgeemu.host.doctor import Caps, Findings, Host, LinkSupport, Scheduling, advise

GOOD = Findings(
    Host("6.1", "3.11", 4, 8 * 2**30, 4 * 2**30, "openblas 0.3", "", 100e9, 20e9),
    Caps("cgroup v2", "/sys/fs/cgroup/user.slice", ["cgroup v2 at /sys/fs/cgroup"], ""),
    Scheduling(True, "SCHED_FIFO while pacing", 2e-5, 6e-5),
    LinkSupport("", "", True, True, {}),
)
NO_LINKS = LinkSupport("no namespaces", "no namespaces", False, False, {"network namespaces": "refused"})
NO_NETEM = LinkSupport("no netem", "", True, True, {"netem": "no such queue"})
NO_CAPS = Caps("rlimit", "", [], "no memory controller is mounted")
NO_PRIORITY = Scheduling(False, "no real-time priority", 1e-4, 1e-3)


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that says nothing of itself."""
    monkeypatch.setattr(doctor, "_namespace_switch", lambda: None)
    monkeypatch.setattr(doctor, "_has_module", lambda _: False)
    monkeypatch.setattr(doctor, "_has_systemd", lambda: True)


@pytest.mark.parametrize(
    ("found", "root", "command"),
    [
        (GOOD, True, None),
        (GOOD, False, None),
        (replace(GOOD, scheduling=NO_PRIORITY), False, "sudo prlimit --rtprio=1 --pid $$"),
        (replace(GOOD, scheduling=NO_PRIORITY), True, None),
        (replace(GOOD, caps=NO_CAPS), False, "systemd-run --user --scope -p Delegate=yes edgeemu run SCENARIO"),
        (replace(GOOD, caps=NO_CAPS), True, None),
        (replace(GOOD, caps=NO_CAPS, scheduling=NO_PRIORITY), False, 'sudo "$(command -v edgeemu)" run SCENARIO'),
        (replace(GOOD, links=NO_NETEM), True, None),
    ],
)
def test_one_command_is_advised_and_only_one_that_helps(found: Findings, root: bool, command: str | None) -> None:
    assert advise(found, root=root).command == command
    assert advise(found, root=root).why


def test_a_module_or_a_switch_that_is_there_is_what_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_has_module", lambda name: name == "sch_netem")
    assert advise(replace(GOOD, links=NO_NETEM), root=True).command == "modprobe sch_netem"
    assert advise(replace(GOOD, links=NO_NETEM), root=False).command == "sudo modprobe sch_netem"
    monkeypatch.setattr(doctor, "_namespace_switch", lambda: "sudo sysctl -w a=0")
    everything = replace(GOOD, links=NO_LINKS, caps=NO_CAPS, scheduling=NO_PRIORITY)
    assert advise(everything, root=False).command == "sudo sysctl -w a=0"


def test_what_it_means_names_the_backend_and_why_not_a_better_one() -> None:
    assert GOOD.meaning()["links"] == "network.backend can be kernel"
    assert replace(GOOD, links=NO_NETEM).meaning()["links"] == "network.backend can be hybrid (no netem)"
    assert replace(GOOD, links=NO_LINKS).meaning()["links"] == "network.backend can be stamped (no namespaces)"
    assert "gets an error (no memory controller is mounted)" in replace(GOOD, caps=NO_CAPS).meaning()["memory caps"]


def test_the_command_prints_a_page_or_one_document() -> None:
    plain = subprocess.run([sys.executable, "-m", "edgeemu", "doctor"], capture_output=True, text=True, check=True)
    assert "network.backend can be" in plain.stdout
    assert "to improve: " in plain.stdout
    assert "trying: memory caps" in plain.stderr
    done = run_edgeemu("doctor", "--json", stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["caps"]["means"] == (f"cgroup v{VERSION}" if VERSION else "rlimit")
    assert found["host"]["flops_per_s"] > 1e8
    assert found["scheduling"]["late_p50_s"] <= found["scheduling"]["late_p99_s"]
    assert set(found["advice"]) == {"command", "why"}
