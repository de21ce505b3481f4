"""EdgeShard's two dynamic programs (arXiv 2405.14371): which devices, and which layers on each. Pure.

The profile of the paper (time and activation size per layer and device) is taken from the view: decode steps at the
sequence's full length. The first element, the embedding, stays on the source device, so that prompts never leave it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.search.pipeline_stages import Stage, StageCosts, merged
from edgeemu.policies.search.speed_order import in_order_of_speed
from edgeemu.policies.view.cluster_view import ClusterView

KEPT = 32  # [D] partial paths that are kept for each element and device, where the paper keeps one
CANDIDATES = 32  # [D] devices that are looked at on larger clusters
_ODD = -7046029254386353131  # 2^64 over the golden ratio, as a number with a sign
TRANSITIONS = 30_000  # [D] of the throughput program, above which devices are taken in the order of their speed


class _PartialPaths(NamedTuple):
    """Elements so far, on `n_paths` ways; each way's last element is on `device`, an index into the candidates."""

    time_s: FloatArray  # [n_paths]
    device: IntArray  # [n_paths], ascending
    taken: IntArray  # [n_paths, n_candidates] decoder layers
    before: IntArray  # [n_paths] index of the path without the last element


def least_latency(costs: StageCosts, source: int, devices: Sequence[int] | None = None) -> list[Stage] | None:
    """DP(i, j) = min over k of DP(i - 1, k) + t_comp(i, j) + t_comm(i - 1, k, j); None: nothing fits.

    The return to the source is added after the last element. The paper tracks memory along the one path that it keeps
    for (i, j), and so may miss the optimum where memory is short. [D] Here the `KEPT` fastest that differ in what they
    take from the devices are kept: as long as there are no more than that, the result is the optimum. Where a model
    needs more than `CANDIDATES` devices, it is one path, as in the paper.
    """
    among = list(devices) if devices is not None else candidates(costs, source)
    start = among.index(source)
    room = np.array([costs.room(d, embed=d == source) for d in among])  # [n]
    room_at_end = np.array([costs.room(d, embed=d == source, lm_head=True) for d in among])  # [n]
    if room[start] < 0:
        return None
    each_s = np.array([np.diff(costs.until_s(d)) for d in among])  # [n, n_elements]
    hops_s = costs.hops_s(among)  # [n, n]
    alike = _alike(costs, source, among)
    most = KEPT if len(among) <= CANDIDATES else 1
    nothing = np.zeros((1, len(among)), np.int64)
    paths = [_PartialPaths(each_s[start, :1], np.array([start]), nothing, np.array([0]))]
    for element in range(1, costs.n_elements):
        last = element == costs.n_elements - 1
        room, layers = (room_at_end, 0) if last else (room, 1)
        paths.append(_longer(paths[-1], hops_s, each_s[:, element], room, most, alike, layers))
        if not len(paths[-1].time_s):
            return None
    back_s = np.array([costs.token_s(device, source) for device in among])  # [n]
    path = int((paths[-1].time_s + back_s[paths[-1].device]).argmin())
    found = []
    for step in reversed(paths):
        found.append(among[int(step.device[path])])
        path = int(step.before[path])
    return merged(found[::-1])


def _longer(
    paths: _PartialPaths,
    hops_s: FloatArray,
    own_s: FloatArray,
    room: IntArray,
    most: int,
    alike: list[list[int]],
    layers: int,
) -> _PartialPaths:
    """Paths with one more element: on each device the `most` fastest that differ in what they take.

    `hops_s`: [n, n]; `own_s`, the element's time on each device: [n]; `room` in layers: [n].
    """
    arrive_s = paths.time_s[:, None] + hops_s[paths.device]  # [n_paths, n]
    arrive_s[paths.taken + layers > room] = np.inf
    able = np.flatnonzero(np.isfinite(arrive_s).any(axis=0))
    if most == 1:
        device, before = able, arrive_s[:, able].argmin(axis=0)  # [n_able]
    else:
        first = [_fastest(paths.taken, arrive_s[:, j], j, most, alike) for j in able.tolist()]
        device = np.repeat(able, [len(kept) for kept in first])
        before = np.concatenate([*first, np.zeros(0, np.int64)])
    taken = paths.taken[before]  # [n_longer, n]
    taken[np.arange(len(device)), device] += layers
    return _PartialPaths(arrive_s[before, device] + own_s[device], device, taken, before)


def _fastest(taken: IntArray, arrive_s: FloatArray, here: int, most: int, alike: list[list[int]]) -> IntArray:
    """The paths that arrive first, of those that differ only by swapping equal devices one: [n_kept], ascending."""
    order = np.argsort(arrive_s, kind="stable")[: np.count_nonzero(np.isfinite(arrive_s))]
    found = taken[order]  # [n_paths, n]
    for group in alike:
        others = [member for member in group if member != here]
        found[:, others] = np.sort(found[:, others], axis=1)
    _, first = np.unique(found @ _keys(found.shape[1]), return_index=True)
    kept: IntArray = order[np.sort(first)[:most]]
    return kept


@cache
def _keys(n_devices: int) -> IntArray:
    """Powers of an odd number modulo 2^64: counts that are multiplied by them have different sums: [n_devices]."""
    keys: IntArray = np.multiply.accumulate(np.full(n_devices, _ODD))
    return keys


def _alike(costs: StageCosts, source: int, among: Sequence[int]) -> list[list[int]]:
    """Groups of two or more equal devices, as indexes into `among`."""
    index = {device: n for n, device in enumerate(among)}
    return [[index[d] for d in group] for group in alike_devices(costs.view, source, among) if len(group) > 1]


def candidates(costs: StageCosts, source: int) -> list[int]:
    """The source and the fastest other devices: `CANDIDATES`, or more if the model needs more memory."""
    others = [d for d in np.argsort(costs.layer_s, kind="stable").tolist() if d != source]
    everyone = np.arange(costs.view.n_devices)
    rooms, rooms_at_end = (costs.rooms(everyone, lm_head=lm_head).tolist() for lm_head in (False, True))
    chosen, layers = [source], max(0, costs.room(source, embed=True))
    for device in others:
        room = rooms[device]
        if room < 1 and rooms_at_end[device] < 0:
            continue
        if len(chosen) >= CANDIDATES and layers > costs.n_layers:  # one more: the output matrix takes a layer's place
            break
        chosen.append(device)
        layers += max(0, room)
    return sorted(chosen)


def alike_devices(view: ClusterView, source: int, among: Sequence[int]) -> list[list[int]]:
    """Group devices that are interchangeable: equal speed, memory and links. The source is a group of its own."""
    groups: list[list[int]] = []
    facts = view.flops_per_s, view.mem_bytes_per_s, view.overhead_s, view.memory_bytes
    kinds = np.array(facts)[:, list(among)].T.tolist()  # [n, 4] known sooner than devices are compared
    of_kind: dict[tuple[float, ...], list[list[int]]] = {}  # groups without the source's
    for device, kind in zip(among, kinds, strict=True):
        if device == source:
            groups.append([device])
            continue
        known = of_kind.setdefault(tuple(kind), [])
        group = next((group for group in known if _same(view, group[0], device, among)), None)
        if group is None:
            group = []
            groups.append(group)
            known.append(group)
        group.append(device)
    return groups


def _same(view: ClusterView, a: int, b: int, among: Sequence[int]) -> bool:
    mine, other = view.devices[a], view.devices[b]
    if (mine.compute, mine.memory_bytes) != (other.compute, other.memory_bytes):
        return False
    rest = [d for d in among if d not in (a, b)]
    for rows in (view.links.s_per_bit, view.links.delay_s):
        if rows.pair(a, b) != rows.pair(b, a):
            return False
        if any(rows.pair(a, d) != rows.pair(b, d) or rows.pair(d, a) != rows.pair(d, b) for d in rest):
            return False
    return True


@dataclass(slots=True)
class _PartialPipeline:
    """The least bottleneck by elements done, with these devices used and this one last, and how it is reached."""

    used: tuple[int, ...]
    last: int  # a group
    best_s: FloatArray  # [n_elements + 1]
    before: (
        "list[tuple[_PartialPipeline, int] | None]"  # by elements done: the state before, and the elements done then
    )


def least_bottleneck(costs: StageCosts, source: int, devices: Sequence[int] | None = None) -> list[Stage] | None:
    """g(m, S, j) = min over i < m, k in S of max(g(i, S - j, k), t_comm(i - 1, k, j), sum of t_comp(i → m, j)).

    Groups of equal devices stand for their members, as many as are used of each [D]; without groups this is the
    paper's O(N² 2^M M²). None: nothing fits. Of exactly equal bottlenecks the one with fewer devices is taken; rounding
    can make another one less in its last digit. A link counts with the time that it is busy [D]: its delay does not
    keep the next token from following.

    Where even so there are too many sets of devices, only those in the order of their speed are looked at [D].
    """
    found = pipelines(costs, source, devices)
    return min(found, key=costs.bottleneck_s) if found else None  # the first of equals is the shortest


def pipelines(costs: StageCosts, source: int, devices: Sequence[int] | None = None) -> list[list[Stage]]:
    """The program's best pipeline of one stage, of two, and so on; without those that do not fit.

    Where devices are taken in the order of their speed, only the best one of all lengths.
    """
    among = list(devices) if devices is not None else candidates(costs, source)
    groups = alike_devices(costs.view, source, among)
    if len(groups) ** 2 * prod(len(group) + 1 for group in groups) > TRANSITIONS:
        best = in_order_of_speed(costs, source, among)
        return [] if best is None else [best]
    first = next(n for n, group in enumerate(groups) if group[0] == source)
    segments_s = [costs.segments_s(group[0]) for group in groups]
    sizes = [len(group) for group in groups]
    start = _start(costs, segments_s[first], tuple(int(n == first) for n in range(len(groups))), first)
    of_length = {(start.used, first): start}
    found: list[list[Stage]] = []
    while of_length:
        best_state = min(of_length.values(), key=lambda state: float(state.best_s[-1]))
        stages = _stages(best_state, costs.n_elements, groups)
        found += [] if stages is None else [stages]
        following: dict[tuple[tuple[int, ...], int], _PartialPipeline] = {}
        for state in of_length.values():
            for group, size in enumerate(sizes):
                if state.used[group] == size:
                    continue
                link_s = costs.occupied_s(*_two(groups, state.last, group))
                used = tuple(count + (n == group) for n, count in enumerate(state.used))
                _extend(following, state, used, group, link_s, segments_s[group])
        of_length = following
    return found


def _two(groups: list[list[int]], before: int, after: int) -> tuple[int, int]:
    """Two different devices, one of each group."""
    return groups[before][0], groups[after][1 if before == after else 0]


def _start(costs: StageCosts, segments_s: FloatArray, used: tuple[int, ...], group: int) -> _PartialPipeline:
    return _PartialPipeline(used, group, segments_s[0].copy(), [None] * (costs.n_elements + 1))


def _extend(
    following: dict[tuple[tuple[int, ...], int], _PartialPipeline],
    state: _PartialPipeline,
    used: tuple[int, ...],
    group: int,
    link_s: float,
    segments_s: FloatArray,
) -> None:
    """Add one more stage, on a device of `group`, of every length."""
    so_far_s = np.maximum(state.best_s, link_s)  # [n + 1] by elements done before it
    through_s = np.maximum(so_far_s[:, None], segments_s)  # [before, after]
    best_s = through_s.min(axis=0)  # [n + 1]
    came_from = through_s.argmin(axis=0)
    known = following.get((used, group))
    if known is None:
        known = following[used, group] = _PartialPipeline(
            used, group, np.full(len(best_s), np.inf), [None] * len(best_s)
        )
    for done in np.flatnonzero(best_s < known.best_s).tolist():
        known.best_s[done] = best_s[done]
        known.before[done] = state, int(came_from[done])


def _stages(found: _PartialPipeline, n_elements: int, groups: list[list[int]]) -> list[Stage] | None:
    if not np.isfinite(found.best_s[-1]):
        return None
    spans: list[tuple[int, int, int]] = []  # group, first, end: from the last to the first
    state, end = found, n_elements
    while (before := state.before[end]) is not None:
        spans.append((state.last, before[1], end))
        state, end = before
    spans.append((state.last, 0, end))
    members: list[Iterator[int]] = [iter(group) for group in groups]
    return [Stage(next(members[group]), first, end) for group, first, end in reversed(spans)]
