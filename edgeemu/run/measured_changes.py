"""Words for what has changed of devices and links between two views of a cluster, the largest change first. Pure.

Changes are compared as arrays: words are for the few that are named, and a decision must not wait for the others.
"""

from collections.abc import Sequence
from itertools import permutations
from math import log
from typing import NamedTuple

import numpy as np

from edgeemu.cluster.devices import Compute
from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_factors import LinkFactors
from edgeemu.report.formats import percent_text
from edgeemu.report.formats import size as size_text

MAX_CAUSES = 2
MAX_USERS = 16  # devices with blocks, between which all links are compared; of more, those that were measured
NOTICED = 1.1  # least factor by which what is named has changed


class Views(NamedTuple):
    """Views of one cluster, for the last change and now, and speeds without load. `known` is "measured ", or empty."""

    nominal: Sequence[Compute]
    before: ClusterView
    now: ClusterView
    known: str = ""


class _LinkChanges(NamedTuple):
    """Links, ascending, each by its way on which the message with one token's x has changed more: [n_links] each."""

    ends: IntArray  # [2, n_links]
    change: FloatArray  # logarithm of the factor
    then_s: FloatArray
    now_s: FloatArray

    def in_words(self, views: Views, at: int) -> str:
        (a, b), then_s, now_s = self.ends[:, at].tolist(), float(self.then_s[at]), float(self.now_s[at])
        devices = views.now.devices
        link = f"link {devices[a].name}-{devices[b].name} {views.known}".strip()
        times = f"{now_s / then_s:.1f} times slower" if now_s > then_s else f"{then_s / now_s:.1f} times faster"
        return f"{link} {times} ({1000 * now_s:.1f} ms for a token's activations)"


def changes_in_words(views: Views, placement: Placement) -> list[str]:
    """Name the largest changes of devices, and of links that the placement uses or that were measured."""
    _, before, now, _ = views
    n = len(now.devices)
    speeds = np.log(now.mem_bytes_per_s / before.mem_bytes_per_s)
    memories = np.log(np.maximum(now.memory_bytes, 1) / np.maximum(before.memory_bytes, 1))
    links = _links(before, now, _pairs(before, now, placement))
    sizes = np.abs(np.concatenate([np.stack([speeds, memories], axis=1).ravel(), links.change]))  # [2 n + n_links]
    largest = np.argsort(-sizes, kind="stable")[:MAX_CAUSES].tolist()
    return [
        links.in_words(views, at - 2 * n) if at >= 2 * n else (_speed, _memory)[at % 2](views, at // 2)
        for at in largest
        if sizes[at] > log(NOTICED)
    ]


def _speed(views: Views, device: int) -> str:
    own_bytes_per_s = views.nominal[device].mem_bytes_per_s
    seen = (view.devices[device].compute for view in (views.now, views.before))
    now, then = (compute.mem_bytes_per_s / own_bytes_per_s for compute in seen)
    was = f" (was {percent_text(then)})" if abs(log(then)) > log(NOTICED) else ""
    return f"{views.now.devices[device].name} {views.known}at {percent_text(now)} of its speed{was}"


def _memory(views: Views, device: int) -> str:
    old, new = views.before.devices[device], views.now.devices[device]
    if not new.memory_bytes or not old.memory_bytes:
        return f"{new.name} is gone" if old.memory_bytes else f"{new.name} is there"
    return f"{new.name} has {size_text(new.memory_bytes)} of memory for us (was {size_text(old.memory_bytes)})"


def _pairs(before: ClusterView, now: ClusterView, placement: Placement) -> IntArray:
    """Pairs of devices whose links are compared, of which some can be there twice: [2, n_pairs]."""
    users = placement.devices()
    used = list(permutations(users, 2)) if len(users) <= MAX_USERS else []
    measured = [LinkFactors.of(view.observed) for view in (before, now)]
    ends = [np.stack([each.sources, each.targets]) for each in measured]
    if np.array_equal(ends[0], ends[1]):
        ends = ends[:1]
    return np.concatenate([*ends, np.array(used, np.int64).reshape(-1, 2).T], axis=1)


def _links(before: ClusterView, now: ClusterView, pairs: IntArray) -> _LinkChanges:
    """Changes that are noticed of the time that one token's x takes on the links between pairs of devices."""
    bits = 8.0 * now.costs.activation_bytes(1)
    wires = before.links.wire, now.links.wire
    then_s, now_s = (each.s_per_bit.pairs(*pairs) * bits + each.delay_s.pairs(*pairs) for each in wires)  # [n_pairs]
    known = np.flatnonzero((then_s > 0) & (now_s > 0))
    known = known[np.abs(np.log(now_s[known] / then_s[known])) > log(NOTICED)]  # of many links most have not changed
    ends, then_s, now_s = np.sort(pairs[:, known], axis=0), then_s[known], now_s[known]
    change = np.abs(np.log(now_s / then_s))
    order = np.lexsort((now_s, then_s, change, ends[1], ends[0]))  # of each link, the way that has changed more is last
    ends = ends[:, order]
    last = np.append((ends[:, 1:] != ends[:, :-1]).any(0), np.ones(min(1, len(order)), np.bool_))
    at = order[last]
    return _LinkChanges(ends[:, last], change[at], then_s[at], now_s[at])
