"""Words name the largest changes only: of devices, of their memory, and of links, by the way that changed more."""

from dataclasses import replace

from support.builders import view

from edgeemu.cluster.devices import Compute
from edgeemu.placement.blocks import EMBED, LM_HEAD
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.run.measured_changes import Views, changes_in_words
from edgeemu_kernels.shape import ModelShape

N = 20
SHAPE = ModelShape("small", 1, 64, 2, 2, 32, 128, 64, 64)
NOMINAL = [Compute(1e9, 1e9, 0.0)] * N
BEFORE = view(SHAPE, [2**30] * N, NOMINAL, 4, 8)
PLACEMENT = Placement({EMBED: 1, LM_HEAD: 3})


def with_device(seen: ClusterView, at: int, slowdown: float = 1.0, memory_bytes: int = 2**30) -> ClusterView:
    device = seen.devices[at]
    changed = replace(device, compute=device.compute.slowed(slowdown), memory_bytes=memory_bytes)
    return replace(seen, devices=(*seen.devices[:at], changed, *seen.devices[at + 1 :]))


def with_slow_links(seen: ClusterView, factors: dict[tuple[int, int], float]) -> ClusterView:
    links = LinkMatrix.of_pairs(N, lambda a, b: 1e8 / factors.get((a, b), 1.0), lambda *_: 0.0)
    return replace(seen, links=links)


def words(now: ClusterView, before: ClusterView = BEFORE, placement: Placement = PLACEMENT) -> list[str]:
    return changes_in_words(Views(NOMINAL, before, now, "measured "), placement)


def test_nothing_is_named_that_has_changed_little() -> None:
    assert words(BEFORE) == []
    assert words(with_device(BEFORE, 2, 1.09)) == []


def test_the_two_largest_changes_are_named_the_largest_first() -> None:
    now = with_device(with_device(with_device(BEFORE, 2, 2.0), 5, 4.0), 7, memory_bytes=2**27)
    assert words(now) == ["d7 has 128 MiB of memory for us (was 1 GiB)", "d5 measured at 25 % of its speed"]


def test_of_equal_changes_the_first_devices_are_named() -> None:
    now = with_device(with_device(with_device(BEFORE, 9, 2.0), 4, 2.0), 6, 2.0)
    assert words(now) == ["d4 measured at 50 % of its speed", "d6 measured at 50 % of its speed"]


def test_a_change_is_since_the_view_before() -> None:
    before = with_device(BEFORE, 2, 4.0)
    assert words(with_device(before, 2, 0.5), before) == ["d2 measured at 50 % of its speed (was 25 %)"]


def test_a_speed_is_a_share_of_that_without_load() -> None:
    """A device can have load when the run begins."""
    before = with_device(BEFORE, 2, 3.0)
    assert words(BEFORE, before) == ["d2 measured at 100 % of its speed (was 33 %)"]


def test_a_link_is_named_once_by_the_way_that_changed_more() -> None:
    before = with_slow_links(BEFORE, {})
    now = with_slow_links(BEFORE, {(1, 3): 3.0, (3, 1): 5.0, (6, 7): 9.0})
    (found,) = words(now, before)
    assert found.startswith("link d1-d3 measured 5.0 times slower ("), "nothing uses, or has measured, the other link"


def test_links_that_were_measured_are_compared_too() -> None:
    before = with_slow_links(BEFORE, {})
    now = replace(with_slow_links(BEFORE, {(7, 6): 1 / 9}), observed={(7, 6): (1.0, 1 / 9)})
    (found,) = words(now, before)
    assert found.startswith("link d6-d7 measured 9.0 times faster (")
