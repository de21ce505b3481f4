"""Links of the kernel for whole runs: the kinds of them, where this host can, and what must not be left of them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from edgeemu.links.netns.capabilities import Capabilities
from edgeemu.run.choose_links import LinkChoice

Kind = tuple[Literal["hybrid", "kernel"], tuple[str, ...]]
Links = tuple[LinkChoice, tuple[str, ...]]

# A kind of links, and the settings for which it needs what the host has.
KINDS = [
    ("hybrid", ()),
    ("kernel", ("network.default.delay=0",)),
    pytest.param(("kernel", ()), marks=pytest.mark.netem),
]


def named(kind: Kind) -> str:
    """Name of a kind in the id of a test."""
    return f"{kind[0]}{'-no-delay' if kind[1] else ''}"


@contextlib.contextmanager
def links_of(kind: Kind, host: Capabilities) -> Iterator[Links]:
    """Links that this host can do, and settings with which it can; interfaces and namespaces stay as they were."""
    name, settings = kind
    netem = name == "kernel" and not settings
    if why := host.why_not("kernel" if netem else "hybrid", link_faults=True):
        pytest.skip(why)
    before = interfaces()
    yield LinkChoice(name, rootless=host.rootless, netem=netem), settings
    assert interfaces() == before
    assert network_namespaces() == {str(Path("/proc/self/ns/net").readlink())}


def interfaces() -> set[str]:
    """Network interfaces where the tests run."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def network_namespaces() -> set[str]:
    """Namespaces of the processes of this session of tests, orphans included."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            token = os.environ["EDGEEMU_TEST_TOKEN"].encode()
            if token in (process / "environ").read_bytes():
                found.add(str((process / "ns" / "net").readlink()))
    return found | {str(Path("/proc/self/ns/net").readlink())}
