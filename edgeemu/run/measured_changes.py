"""Words for what has changed of devices and links between two views of a cluster, the largest change first. Pure."""

from collections.abc import Iterable, Iterator
from math import log
from typing import NamedTuple

from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.report.formats import size as size_text

MAX_CAUSES = 2
MAX_USERS = 16  # devices with blocks, between which all links are compared; of more, those that were measured
NOTICED = 1.1  # least factor by which what is named has changed


class Views(NamedTuple):
    """Views of one cluster: of the first placement, of the last change, and now. `known` is "measured ", or empty."""

    nominal: ClusterView
    before: ClusterView
    now: ClusterView
    known: str = ""


def changes_in_words(views: Views, placement: Placement) -> list[str]:
    """Name the largest changes of devices, and of links that the placement uses or that were measured."""
    before, now = views.before, views.now
    found = list(_of_devices(views))
    pairs = before.observed.keys() | now.observed.keys()
    if len(users := placement.devices()) <= MAX_USERS:
        pairs |= {(a, b) for a in users for b in users if a != b}
    found += _of_links(before, now, pairs, views.known)
    found.sort(key=lambda cause: -cause[0])
    return [text for size, text in found if size > log(NOTICED)][:MAX_CAUSES]


def _of_devices(views: Views) -> Iterator[tuple[float, str]]:
    """Changes of the speed and the memory of devices: the logarithm of the factor, and words."""
    nominal, before, seen, known = views
    for own, old, new in zip(nominal.devices, before.devices, seen.devices, strict=True):
        now, then = (each.compute.mem_bytes_per_s / own.compute.mem_bytes_per_s for each in (new, old))
        was = f" (was {100 * then:.0f} %)" if abs(log(then)) > log(NOTICED) else ""
        yield abs(log(now / then)), f"{own.name} {known}at {100 * now:.0f} % of its speed{was}"
        factor = max(new.memory_bytes, 1) / max(old.memory_bytes, 1)
        room = f"{own.name} has {size_text(new.memory_bytes)} of memory for us"
        yield abs(log(factor)), f"{room} (was {size_text(old.memory_bytes)})"


def _of_links(
    before: ClusterView, seen: ClusterView, pairs: Iterable[tuple[int, int]], known: str
) -> Iterator[tuple[float, str]]:
    """Changes of the time that the message with one token's x takes on a link, the slower way of both."""
    bits = 8.0 * seen.costs.activation_bytes(1)
    slowest: dict[tuple[int, int], tuple[float, float, float]] = {}
    for a, b in pairs:
        then_s, now_s = (view.links.wire.pair(a, b, bits) for view in (before, seen))
        if then_s and now_s:
            pair = min(a, b), max(a, b)
            slowest[pair] = max(slowest.get(pair, (0.0, 0.0, 0.0)), (abs(log(now_s / then_s)), then_s, now_s))
    for (a, b), (size, then_s, now_s) in sorted(slowest.items()):
        link = f"link {seen.devices[a].name}-{seen.devices[b].name} {known}".strip()
        times = f"{now_s / then_s:.1f} times slower" if now_s > then_s else f"{then_s / now_s:.1f} times faster"
        yield size, f"{link} {times} ({1000 * now_s:.1f} ms for a token's activations)"
