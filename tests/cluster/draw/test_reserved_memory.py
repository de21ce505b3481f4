"""Memory that the system of a device keeps: from its profile, or as a scenario says, and never both forgotten."""

import pytest

from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.draw.resolve import resolve
from edgeemu.errors import RequestError
from edgeemu.scenario.catalog import device_profile
from edgeemu.scenario.load import parse_scenario

TEXT = """
model: tinyllama-1.1b
devices: [{name: pi, DEVICE}]
workload: {prompts: [{tokens: 4}], max_tokens: 4}
policy: single
"""
MIB = 2**20


def parsed(device: str):
    return parse_scenario(TEXT.replace("DEVICE", device))


@pytest.mark.parametrize(
    ("device", "usable_mib", "reserved_mib"),
    [
        ("profile: raspberry-pi-5", 8192 - 812, 812),
        ("profile: raspberry-pi-5, memory_reserved: 1 GiB", 7168, 1024),
        ("profile: raspberry-pi-5, memory: 8 GiB", 8192, 0),
        ("profile: raspberry-pi-5, memory: 16 GiB, memory_reserved: 900 MiB", 16384 - 900, 900),
        ("profile: jetson-nano", 4096, 0),
    ],
)
def test_runs_get_the_memory_that_the_system_leaves(device, usable_mib, reserved_mib):
    scenario = parsed(device)
    (drawn,) = draw(scenario).devices
    assert (drawn.memory_bytes, drawn.memory_reserved_bytes) == (usable_mib * MIB, reserved_mib * MIB)
    resolved = resolve(scenario)
    assert draw(resolved) == draw(scenario)
    assert resolve(resolved) == resolved


def test_a_system_that_keeps_everything_is_refused():
    with pytest.raises(RequestError, match=r"pi: the system keeps 1 GiB \(memory_reserved\) of 512 MiB of memory"):
        draw(parsed("profile: raspberry-pi-5, memory: 512 MiB, memory_reserved: 1 GiB"))


def test_a_board_that_is_sold_with_several_sizes_asks_for_that_of_yours():
    assert device_profile("orange-pi-5").memory is None
    with pytest.raises(RequestError, match=r"devices\[0\].memory: is missing: Orange Pi 5 .* no single size of memory"):
        parsed("profile: orange-pi-5")
    assert draw(parsed("profile: orange-pi-5, memory: 16 GiB")).devices[0].memory_bytes == 16384 * MIB
