"""Memory of all devices at once, as arrays: a fast equivalent of `placement.memory`. Knows bytes; no time.

The two agree to the byte, and a test holds that: what fits here fits when a plan is checked and when a device charges
its ledger.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray, PlacementArrays
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, ffn, head, proj
from edgeemu.placement.costs import Costs
from edgeemu.placement.memory import caches_bytes
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.same import Same, layout_of

_SINGLES = (Kind.EMBED, Kind.PROJ, Kind.FFN, Kind.LM_HEAD)


class Sizes:
    """Bytes of every kind of block, for a sequence at its end and the concurrent ones."""

    def __init__(self, costs: Costs, prompt: int, total: int, concurrent: tuple[int, ...] = ()) -> None:
        shape = costs.shape
        self.n_groups = shape.n_groups
        self.weights = {
            Kind.EMBED: costs.weight_bytes(EMBED),
            Kind.PROJ: costs.weight_bytes(proj(0)),
            Kind.FFN: costs.weight_bytes(ffn(0)),
            Kind.LM_HEAD: costs.weight_bytes(LM_HEAD),
        }
        self.caches = caches_bytes(costs, total, concurrent)  # of a group
        self.group = costs.weight_bytes(head(0, 0)) + self.caches
        self.norm = costs.norm_bytes()
        tied = shape.tied_embeddings
        self.shared = costs.table_bytes() if tied else 0  # embed and lm_head together

        def workspace(kind: Kind, n_groups: int) -> int:
            return max(
                costs.workspace_bytes(kind, n_groups, prompt, 0), costs.workspace_bytes(kind, n_groups, 1, total)
            )

        self.workspace = {kind: workspace(kind, 1) for kind in _SINGLES}
        self.head_workspace = np.array(  # [n_groups + 1], by the most groups of one layer; ascending
            [0, *(workspace(Kind.HEAD, k) for k in range(1, shape.n_groups + 1))], np.int64
        )
        self.any_messages = costs.inbox_bytes(prompt) * (1 + len(concurrent))
        self.proj_messages = costs.gather_bytes(prompt) * (1 + len(concurrent))
        messages = {Kind.PROJ: self.proj_messages}
        self.least_alone = self.any_messages + min(  # of a single block on a device that has nothing else
            self.weights[kind] + self.workspace[kind] + messages.get(kind, 0) for kind in _SINGLES
        )
        k = np.arange(shape.n_groups + 1)  # [n_groups + 1]
        # Bytes of k groups of a layer on a device that has none of them yet: without and with their workspace.
        self.groups_total = np.where(k > 0, self.norm + k * self.group, 0)
        self.groups_with_workspace = self.groups_total + self.head_workspace


@lru_cache(maxsize=16)
def cached_sizes(costs: Costs, prompt: int, total: int, concurrent: tuple[int, ...]) -> Sizes:
    """`Sizes`, of which the last few are kept: they take longer to compute than a decision."""
    return Sizes(costs, prompt, total, concurrent)


def sizes_of(view: ClusterView) -> Sizes:
    """The sizes for the workload of a view."""
    workload = view.workload
    costs = view.costs.at_step(1, workload.total_tokens - 1)
    return cached_sizes(costs, workload.prompt_tokens, workload.total_tokens, workload.concurrent)


def _taken_by(groups: IntArray, singles: Mapping[Kind, IntArray], s: Sizes) -> tuple[IntArray, IntArray, IntArray]:
    """Bytes of weights and caches, workspace, messages; of groups [n_layers, n] and single blocks: [n] each."""
    held = groups.sum(0) * s.group + (groups > 0).sum(0) * s.norm
    for kind in _SINGLES:
        held += singles[kind] * s.weights[kind]
    both_ends = (singles[Kind.EMBED] > 0) & (singles[Kind.LM_HEAD] > 0)  # [n]
    held -= np.where(both_ends, s.shared, 0)
    workspace = s.head_workspace[groups.max(0)]
    for kind in _SINGLES:
        workspace = np.maximum(workspace, np.where(singles[kind] > 0, s.workspace[kind], 0))
    messages = np.where(workspace > 0, s.any_messages, 0) + np.where(singles[Kind.PROJ] > 0, s.proj_messages, 0)
    return held, workspace, messages


class _Held(NamedTuple):
    """Blocks that devices hold, and the bytes that these take."""

    groups: IntArray  # [n_layers, n]
    singles: tuple[IntArray, ...]  # [n] of each kind
    bytes: tuple[IntArray, ...]  # [n] of weights and caches, of workspace, of messages

    @classmethod
    @lru_cache(maxsize=4)
    def nothing(cls, n_layers: int, n: int) -> Self:
        """No blocks on n devices."""
        none = np.zeros(n, np.int64)
        return cls(np.zeros((n_layers, n), np.int64), (none,) * len(_SINGLES), (none,) * 3)


@lru_cache(maxsize=4)
def _held_by(known: Same[PlacementArrays], sizes: Same[Sizes], n: int) -> _Held:
    """Blocks of a placement on n devices; of the last few they are kept, because most decisions keep the placement."""
    layout, on = known.kept, {kind: np.zeros(n, np.int64) for kind in _SINGLES}
    on[Kind.EMBED][layout.embed] = 1
    on[Kind.LM_HEAD][layout.lm_head] = 1
    on[Kind.PROJ] = np.bincount(layout.proj, minlength=n)
    on[Kind.FFN] = np.bincount(layout.ffn, minlength=n)
    groups = layout.counts(n)
    return _Held(groups, tuple(on.values()), _taken_by(groups, on, sizes.kept))


class MemoryHeadroom:
    """Memory that devices hold, and that is left. It starts empty; blocks are added and removed by kind."""

    def __init__(self, view: ClusterView, held: "_Held | None" = None) -> None:
        """`held`: begin with that instead of nothing."""
        self.sizes = sizes_of(view)
        self.memory_bytes = view.memory_bytes  # [n]
        self.capacity = view.memory_bytes  # [n] for what arrives
        if held is None:
            held = _Held.nothing(view.costs.shape.n_layers, view.n_devices)
        self.groups = held.groups.copy()  # [n_layers, n]
        self.singles = {kind: on.copy() for kind, on in zip(_SINGLES, held.singles, strict=True)}  # kind -> [n]
        self.held, self.workspace, self.messages = (each.copy() for each in held.bytes)  # [n] each

    @classmethod
    def of(cls, view: ClusterView, layout: PlacementArrays) -> "MemoryHeadroom":
        """The memory of a placement."""
        return cls(view, _held_by(Same(layout), Same(sizes_of(view)), view.n_devices))

    def begin_migration(self) -> None:
        """From now on blocks arrive by migration.

        A device that holds more than it has, because it has lost memory, gets nothing: what it is about to send still
        fills it.
        """
        self.capacity = np.where(self.total > self.memory_bytes, 0, self.memory_bytes)

    def recount(self) -> None:
        """Compute the totals from `groups` and `singles`."""
        self.held, self.workspace, self.messages = _taken_by(self.groups, self.singles, self.sizes)

    @property
    def total(self) -> IntArray:
        """Bytes that every device holds at its fullest: [n]."""
        return self.held + self.workspace + self.messages

    def over(self) -> IntArray:
        """The devices that hold more than they have, ascending."""
        return np.flatnonzero(self.total > self.memory_bytes)

    def fits(self) -> bool:
        """Whether no device holds more than it has."""
        return not bool((self.total > self.memory_bytes).any())

    def with_single(self, kind: Kind) -> IntArray:
        """Bytes that every device would hold with one more block of a kind: [n]."""
        s = self.sizes
        total = self.held + s.weights[kind] + np.maximum(self.workspace, s.workspace[kind])
        total += np.maximum(self.messages, s.any_messages)
        if kind is Kind.PROJ:
            total += np.where(self.singles[kind] > 0, 0, s.proj_messages)
        elif s.shared and kind is not Kind.FFN:
            other = self.singles[Kind.LM_HEAD if kind is Kind.EMBED else Kind.EMBED]
            total -= s.shared * np.minimum(other, 1)
        return total

    def groups_room(self, layer: int, devices: IntArray | None = None) -> IntArray:
        """How many more groups of a layer devices have room for, at most n_groups: [n], or [m] of `devices` [m]."""
        s, at = self.sizes, slice(None) if devices is None else devices
        before = self.groups[layer, at]
        free = self.capacity[at] - self.held[at] - np.maximum(self.messages[at], s.any_messages)
        free += s.groups_total[before]
        narrow = s.groups_total.searchsorted(free - self.workspace[at], "right") - 1
        wide = s.groups_with_workspace.searchsorted(free, "right") - 1
        most: IntArray = np.maximum(np.minimum(narrow, wide) - before, 0)
        return most

    def group_fits(self, layer: int) -> NDArray[np.bool_]:
        """Whether every device has room for one more group of a layer, as `groups_room` says: [n]."""
        s, before = self.sizes, self.groups[layer]  # [n]
        after = np.minimum(before + 1, s.n_groups)
        free = self.capacity - self.held - np.maximum(self.messages, s.any_messages) + s.groups_total[before]
        narrow = s.groups_total[after] <= free - self.workspace
        fits: NDArray[np.bool_] = narrow & (s.groups_with_workspace[after] <= free) & (before < after)
        return fits

    def first_group_fits(self) -> NDArray[np.bool_]:
        """Whether every device has room for a group of a layer of which it has none: [n]."""
        s = self.sizes
        workspace = np.maximum(self.workspace, s.head_workspace[1])
        after = self.held + workspace + np.maximum(self.messages, s.any_messages) + s.groups_total[1]
        fits: NDArray[np.bool_] = after <= self.capacity
        return fits

    def add_single(self, kind: Kind, device: int) -> None:
        s = self.sizes
        self.held[device] += s.weights[kind]
        if s.shared and kind in (Kind.EMBED, Kind.LM_HEAD):
            other = Kind.LM_HEAD if kind is Kind.EMBED else Kind.EMBED
            self.held[device] -= s.shared * min(1, int(self.singles[other][device]))
        if kind is Kind.PROJ and not self.singles[kind][device]:
            self.messages[device] += s.proj_messages
        if not self.workspace[device]:
            self.messages[device] += s.any_messages
        self.workspace[device] = max(self.workspace[device], s.workspace[kind])
        self.singles[kind][device] += 1

    def add_groups(self, layer: int, counts: IntArray) -> None:
        """Add groups of a layer: counts [n]."""
        s, devices = self.sizes, counts.nonzero()[0]
        before = self.groups[layer, devices]  # [m]
        after = before + counts[devices]  # [m]
        self.groups[layer, devices] = after
        self.held[devices] += s.groups_total[after] - s.groups_total[before]
        self.messages[devices] += np.where(self.workspace[devices] > 0, 0, s.any_messages)
        self.workspace[devices] = np.maximum(self.workspace[devices], s.head_workspace[after])

    def remove_single(self, kind: Kind, device: int) -> None:
        self.singles[kind][device] -= 1
        self.recount_one(device)

    def remove_groups(self, layer: int, device: int, count: int) -> None:
        self.groups[layer, device] -= count
        self.recount_one(device)

    def recount_one(self, device: int) -> None:
        """Compute the totals of one device from `groups` and `singles`."""
        s, singles, mine = self.sizes, self.singles, self.groups[:, device]
        kinds = [kind for kind in _SINGLES if singles[kind][device]]
        held = int(mine.sum()) * s.group + int(np.count_nonzero(mine)) * s.norm
        held += sum(int(singles[kind][device]) * s.weights[kind] for kind in kinds)
        if Kind.EMBED in kinds and Kind.LM_HEAD in kinds:
            held -= s.shared
        workspace = max((int(s.head_workspace[mine.max()]), *(s.workspace[kind] for kind in kinds)))
        self.held[device] = held
        self.workspace[device] = workspace
        self.messages[device] = (s.any_messages if workspace else 0) + (s.proj_messages if Kind.PROJ in kinds else 0)


def found_placement(view: ClusterView, layout: PlacementArrays) -> Placement:
    """The placement that a search of ours has found, noted as one that fits where devices have memory for it."""
    placement = layout.placement(view.costs.shape)
    if placement_fits(view, layout_of(placement, view.costs.shape)):  # kept for the next decision
        view.fitting.append(placement)
    return placement


def placement_fits(view: ClusterView, layout: PlacementArrays) -> bool:
    """Whether no device holds more of a placement than it has."""
    held = _held_by(Same(layout), Same(sizes_of(view)), view.n_devices)
    return not bool((sum(held.bytes) > view.memory_bytes).any())


def union_fits(view: ClusterView, old: PlacementArrays, new: PlacementArrays) -> bool:
    """Whether receivers have room for both placements during a migration: senders free memory only at the commit.

    Devices that receive nothing are not checked: they must hold `new` only, which the caller has to ensure.
    """
    n = view.n_devices
    both, receives = MemoryHeadroom.of(view, old), np.zeros(n, np.bool_)
    both.begin_migration()
    moved = old.heads != new.heads  # [n_layers, n_groups]
    if moved.any():
        layers, _ = np.nonzero(moved)
        np.add.at(both.groups, (layers, new.heads[moved]), 1)
        receives[new.heads[moved]] = True
    for kind, befores, afters in (
        (Kind.EMBED, np.array([old.embed]), np.array([new.embed])),
        (Kind.LM_HEAD, np.array([old.lm_head]), np.array([new.lm_head])),
        (Kind.PROJ, old.proj, new.proj),
        (Kind.FFN, old.ffn, new.ffn),
    ):
        arriving = afters[befores != afters]
        both.singles[kind] = both.singles[kind] + np.bincount(arriving, minlength=n)
        receives[arriving] = True
    both.recount()
    return not bool((receives & (both.total > both.capacity)).any())
