"""The capabilities of a kernel for links are found by trying, and reported in words that a user can act on."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgeemu.errors import RunError
from edgeemu.host import namespaces
from edgeemu.links.netns import capabilities
from edgeemu.links.netns.capabilities import Capabilities, probe_host

ALL = Capabilities({}, rootless=False)
NO_NETEM = Capabilities({"netem": "CONFIG_NET_SCH_NETEM: unknown"}, rootless=False)


def test_a_kernel_that_has_all_can_do_all() -> None:
    assert ALL.why == ALL.why_not("kernel", shared_channel=True) == ALL.why_not("hybrid") == ""
    assert all(ALL.qdiscs.values())


def test_a_missing_capability_counts_where_it_is_needed() -> None:
    assert NO_NETEM.why_not("hybrid", shared_channel=True) == ""
    assert NO_NETEM.why_not("kernel") == "no netem (CONFIG_NET_SCH_NETEM: unknown)"
    assert NO_NETEM.qdiscs == {"htb": True, "netem": False, "clsact": True}
    without_ifb = Capabilities({"ifb": "CONFIG_IFB: unknown"}, rootless=True)
    assert without_ifb.why_not("kernel") == ""
    assert "no ifb" in without_ifb.why_not("hybrid", shared_channel=True)


def test_without_namespaces_nothing_else_is_said() -> None:
    nothing = replace(NO_NETEM, missing={capabilities.NAMESPACES: "it takes root", **NO_NETEM.missing})
    assert nothing.why_not("kernel") == "no network namespaces (it takes root)"


def test_trying_leaves_nothing_on_this_host() -> None:
    before = Path("/proc/self/ns/net").readlink(), sorted(Path("/sys/class/net").iterdir())
    found = probe_host()
    assert (Path("/proc/self/ns/net").readlink(), sorted(Path("/sys/class/net").iterdir())) == before
    every = {*capabilities.KERNEL_NEEDS, *capabilities.SHARED_CHANNEL_NEEDS, capabilities.USER_NAMESPACES}
    assert set(found.missing) <= every
    if os.geteuid() == 0:
        assert found.namespaces
        assert not found.rootless


def test_a_bug_while_trying_is_not_a_missing_capability(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(namespaces, "own_network_namespace", broken)
    with pytest.raises(RunError, match="traceback"):
        probe_host()
    assert "ZeroDivisionError: a bug" in capfd.readouterr().err
