"""The head-level paper's search for a placement: scores, order, overload resolution, backtracking, caps. Pure.

The docstring of `resource_aware.py` says which parts are published.
"""

from collections.abc import Iterator
from functools import cached_property, lru_cache

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.policies.search.head_split import cheapest_slots, slots
from edgeemu.policies.search.partial_placement import ENDS, UNPLACED, PartialPlacement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.step_time import ROUNDING, StepTimes

MAX_BACKTRACKS = 50
MAX_SCORED = 400  # blocks placed again by overload resolution: about 25 us each, so 10 ms
FREED = 1.1  # of a device's excess
FEW = 4  # slots of each device that are looked at first, where there are as many devices as groups

LAYER_KINDS = (Kind.FFN, Kind.PROJ, Kind.HEAD)


@lru_cache(maxsize=4)
def _nothing(n_devices: int) -> FloatArray:
    """No time on any device: [n_devices]."""
    none = np.zeros(n_devices)
    none.setflags(write=False)
    return none


class NothingFoundError(Exception):
    """A block fits nowhere, or a device's excess does."""

    def __init__(self, layer: int = 0, device: int = 0) -> None:
        super().__init__(layer, device)
        self.layer, self.device = layer, device


class Search:
    """The algorithm, applied to a draft."""

    def __init__(
        self, view: ClusterView, times: StepTimes, draft: PartialPlacement, *, memory_only: bool = False
    ) -> None:
        self.view, self.times, self.draft = view, times, draft
        self.memory_only = memory_only
        self.many = not memory_only and times.n_devices >= times.n_groups  # so that each group could have a device
        self.backtracks = self.scored = 0
        self.alone_s = {
            Kind.EMBED: times.embed_s,
            Kind.LM_HEAD: times.lm_head_s,
            Kind.PROJ: times.proj_s,
            Kind.FFN: times.ffn_s,
        }
        self.interval_s = float(times.whole_layer_s.min())

    @cached_property
    def _first_heads_s(self) -> FloatArray:
        """Time of a layer's first group on every device: [n_devices]."""
        everyone = np.arange(self.times.n_devices)
        return self.times.heads_s(everyone, np.ones_like(everyone))

    def everything(self, *, singles_only: bool = False) -> PartialPlacement:
        """Place all blocks. `singles_only`: a layer's heads that come last are left out, if they have room."""
        demand = self._demands()
        for kind in sorted(ENDS, key=demand.__getitem__, reverse=True):
            self.single(kind, 0)
        in_layer = sorted(LAYER_KINDS, key=demand.__getitem__, reverse=True)
        for layer in range(len(self.draft.ffn)):
            for kind in in_layer:
                if kind is not Kind.HEAD:
                    self.single(kind, layer)
                elif not (singles_only and self._may_be_left_out(layer, in_layer)):
                    self.heads(layer)
        return self.draft

    def _may_be_left_out(self, layer: int, in_layer: list[Kind]) -> bool:
        """Whether a layer's heads come after all other blocks, and devices have room for all of them."""
        after_all = layer == len(self.draft.ffn) - 1 and in_layer[-1] is Kind.HEAD
        return after_all and int(self.draft.room.groups_room(layer).sum()) >= self.times.n_groups

    def _demands(self) -> dict[Kind, float]:
        """Demand of a block of every kind: memory/max memory + operations/max operations."""
        sizes, flops = self.draft.room.sizes, self.times.flops
        memory = {**sizes.weights, Kind.HEAD: sizes.group}
        most, most_flops = max(memory.values()), max(flops.values())
        return {kind: memory[kind] / most + flops[kind] / most_flops for kind in Kind}

    # -- single blocks ------------------------------------------------------------------------------------------

    def single(self, kind: Kind, layer: int, without: int = UNPLACED, depth: int = 0) -> None:
        """Place one block by least S; make room for it where it fits nowhere."""
        score = self._scores(kind, layer)
        if without != UNPLACED:
            score[without] = np.inf
        device = int(score.argmin())
        if score[device] == np.inf:
            device = self._make_room(kind, layer, without, depth)
        self.draft.put(kind, layer, device)

    def _scores(self, kind: Kind, layer: int) -> FloatArray:
        """Score S of a block on every device; infinite where it does not fit: [n_devices]."""
        room = self.draft.room
        after, total = room.with_single(kind), room.total  # [n_devices] each
        with np.errstate(divide="ignore", invalid="ignore"):
            score = (after - total) / (room.capacity - total)
        if not self.memory_only:
            np.maximum(score, self._slowness(kind, layer), out=score)
        score[after > room.capacity] = np.inf
        return score

    def _slowness(self, kind: Kind, layer: int) -> FloatArray:
        """The larger of compute and transfer times, as shares of the interval: [n_devices]."""
        return np.maximum(self.alone_s[kind], self._transfers_s(kind, layer)) / self.interval_s

    def _transfers_s(self, kind: Kind, layer: int) -> FloatArray:
        """Transfer time between each device and the placed blocks with which a block exchanges data: [n_devices]."""
        draft, links, bits = self.draft, self.times.links, self.times.hidden_bits
        last = len(draft.ffn) - 1
        match kind:
            case Kind.EMBED:
                from_device, bits_in = draft.lm_head, self.times.token_bits
                to_device, bits_out = int(draft.proj[0]), bits
            case Kind.LM_HEAD:
                from_device, bits_in = int(draft.ffn[last]), bits
                to_device, bits_out = draft.embed, self.times.token_bits
            case Kind.PROJ:
                from_device, bits_in = draft.source(layer), bits
                to_device, bits_out = int(draft.ffn[layer]), bits
            case _:
                from_device, bits_in = int(draft.proj[layer]), bits
                if from_device == UNPLACED:
                    from_device = draft.source(layer)
                to_device, bits_out = (int(draft.proj[layer + 1]), bits) if layer < last else (draft.lm_head, bits)
        total = _nothing(self.times.n_devices)
        if from_device != UNPLACED:
            total = links.row(from_device, bits_in)
        if to_device != UNPLACED:
            total = total + links.column(to_device, bits_out)
        return total

    # -- heads --------------------------------------------------------------------------------------------------

    def heads(self, layer: int, without: int = UNPLACED) -> None:
        """Place the groups of a layer that have no device yet, each by least S."""
        draft = self.draft
        if self.many and without == UNPLACED and (counts := self._soonest(layer)) is not None:
            draft.put_groups(layer, counts)
            return
        while needed := self.times.n_groups - int(draft.groups[layer].sum()):
            room = draft.room.groups_room(layer)  # [n_devices]
            if without != UNPLACED:
                room[without] = 0
            fitting = int(room.sum())
            if fitting >= needed:
                draft.put_groups(layer, self._least_scores(layer, room, needed))
                return
            if without != UNPLACED:
                raise NothingFoundError(layer, without)
            draft.put_groups(layer, room)
            self._make_room(Kind.HEAD, layer, without, 0)

    def _head_transfers_s(self, layer: int) -> tuple[FloatArray, FloatArray]:
        """Time to and from each device with some of a layer's heads, and of each group besides: [n_devices] each."""
        times, source, gather = self.times, self.draft.source(layer), int(self.draft.proj[layer])
        fixed_s = each_s = _nothing(times.n_devices)
        if source != UNPLACED:
            fixed_s = times.links.row(source, times.hidden_bits)
        if gather != UNPLACED:
            fixed_s = fixed_s + times.links.column(gather, times.attention_fixed_bits)
            each_s = times.links.s_per_bit.column(gather) * times.attention_slope_bits
        return fixed_s, each_s

    def _least_scores(self, layer: int, room: IntArray, needed: int) -> IntArray:
        """How many of `needed` groups each device gets. S rises with each, so the least ones are taken together."""
        times, draft = self.times, self.draft
        transfer_s, each_s = self._head_transfers_s(layer)
        before = draft.groups[layer]  # [n_devices]
        one = np.maximum(times.heads_s(np.arange(times.n_devices), before + 1), transfer_s + each_s)
        chosen = np.flatnonzero(room)  # [m]
        if len(chosen) > needed:
            chosen = chosen[np.argpartition(one[chosen], needed - 1)[:needed]]
            if int(room[chosen].sum()) < needed:
                chosen = np.flatnonzero(room)
        k = slots(needed)  # [1, needed]: the k-th group in addition to those that are there
        count = before[chosen, None] + k
        compute_s = self._heads_s(chosen, count)  # [m, needed]
        moved_s = transfer_s[chosen, None] + count * each_s[chosen, None]
        absent = k > room[chosen, None]
        shortest = cheapest_slots(np.where(absent, np.inf, np.maximum(compute_s, moved_s)), needed)
        assert shortest is not None, "room for all was counted"
        interval_s = shortest[0]
        group = float(draft.room.sizes.group)
        free = (draft.room.capacity - draft.room.total)[chosen, None] - (k - 1) * group
        with np.errstate(divide="ignore", invalid="ignore"):
            memory = np.where(free > 0, group / free, np.inf)
            already_s = np.where(count > 1, self._heads_s(chosen, count - 1), 0.0)
            left_s = interval_s - already_s
            compute = np.where(left_s > 0, (compute_s - already_s) / left_s, np.inf)
        score = memory if self.memory_only else np.maximum(np.maximum(memory, compute), moved_s / interval_s)
        # A full device comes before a slot that does not exist.
        score = np.maximum.accumulate(np.minimum(score, 1e300), axis=1)
        found = cheapest_slots(np.where(absent, np.inf, score), needed)
        assert found is not None, "as many slots are there as before"
        counts = np.zeros(times.n_devices, np.int64)
        counts[chosen] = found[1]
        return counts

    def _soonest(self, layer: int) -> IntArray | None:
        """`_least_scores` of all groups of a layer, of which no device holds any, where that is clear: [n_devices].

        The interval is the shortest that has enough slots. Those in it have scores of at most 1, because they fit, and
        all others more. So they are the answer where they are just enough, and the next one is later by more than
        rounding. None where it is not clear, or devices too few to get one each.
        """
        times, room, needed = self.times, self.draft.room, self.times.n_groups
        chosen = room.first_group_fits().nonzero()[0]  # [m]
        if len(chosen) < needed or room.groups[layer].any():
            return None
        transfer_s, each_s = self._head_transfers_s(layer)
        if len(chosen) > needed:  # no other device can be among the soonest
            one_s = np.maximum(self._first_heads_s, transfer_s + each_s)  # [n_devices]
            chosen = chosen[one_s[chosen].argpartition(needed - 1)[:needed]]
        # The latest first slot is an upper bound: few columns have all that are earlier.
        k = slots(min(FEW, needed))  # [1, FEW]
        compute_s = self._heads_s(chosen, k)  # [m, FEW]
        prices = np.maximum(compute_s, transfer_s[chosen, None] + k * each_s[chosen, None])
        latest_s = (1 + ROUNDING) * prices[:, 0].max()
        if prices[:, -1].min() <= latest_s and len(k[0]) < needed:
            return None
        prices[k > room.groups_room(layer, chosen)[:, None]] = np.inf
        shortest = cheapest_slots(prices, needed)
        assert shortest is not None, "each device has room for one"
        interval_s, counts = shortest
        clear = interval_s > 0 and np.count_nonzero(prices <= (1 + ROUNDING) * interval_s) == needed
        # Where time does not rise with the number, a slot in the interval could have no time left.
        if not clear or (compute_s[:, 1:] <= compute_s[:, :-1]).any():
            return None
        found = np.zeros(times.n_devices, np.int64)
        found[chosen] = counts
        return found

    def _heads_s(self, devices: IntArray, counts: IntArray) -> FloatArray:
        """Time of fused heads of one layer: [m], [m, k] or [1, k] -> [m, k]."""
        times, at = self.times, devices[:, None]
        return np.maximum(
            times.compute_fixed_s[at] + counts * times.compute_slope_s[at],
            times.memory_fixed_s[at] + counts * times.memory_slope_s[at],
        )

    # -- overload -----------------------------------------------------------------------------------------------

    def _make_room(self, kind: Kind, layer: int, without: int, depth: int) -> int:
        """Free memory on a device for a block that fits nowhere; the device. Devices are tried by S without memory."""
        room = self.draft.room
        if kind is Kind.HEAD:
            source, gather = self.draft.source(layer), int(self.draft.proj[layer])
            order = self.times.compute_slope_s / self.interval_s
            for at in (source, gather):
                if at != UNPLACED:
                    order = order + self.times.links.row(at, self.times.hidden_bits) / self.interval_s
            need = np.full(self.times.n_devices, room.sizes.group + room.sizes.norm)
            after = room.total + need
        else:
            order, after = self._slowness(kind, layer), room.with_single(kind)
        devices: list[int] = np.argsort(order, kind="stable").tolist()
        for device in devices:
            gets_nothing = device == without or not room.capacity[device]
            if gets_nothing or self.backtracks >= MAX_BACKTRACKS or depth > 1:
                continue
            saved = self.draft.save()
            try:
                self._free(device, float(after[device] - room.capacity[device]), depth)
            except NothingFoundError:
                self.backtracks += 1
                self.draft.restore(saved)
                room = self.draft.room
                continue
            fits = room.groups_room(layer) if kind is Kind.HEAD else room.capacity - room.with_single(kind) + 1
            if fits[device] > 0:
                return device
            self.backtracks += 1
            self.draft.restore(saved)
            room = self.draft.room
        raise NothingFoundError(layer, max(without, 0))

    def relieve(self, device: int) -> None:
        """Move a device's excess to other devices."""
        room = self.draft.room
        while (excess := int(room.total[device] - room.memory_bytes[device])) > 0:
            self._free(device, float(excess), 0)

    def _free(self, device: int, excess: float, depth: int) -> None:
        """Unplace a device's largest users of memory until 1.1 x the excess is free; place them elsewhere by S."""
        freed, unplaced = 0.0, []
        for size, kind, layer, count in self._users(device):
            if freed >= FREED * excess:
                break
            taken = 1
            if kind is Kind.HEAD:
                taken = min(count, max(1, int(np.ceil((FREED * excess - freed) / size))))
                self.draft.take_groups(layer, device, taken)
            else:
                self.draft.take(kind, layer)
            freed += taken * size
            unplaced.append((kind, layer))
        if not unplaced:
            raise NothingFoundError(device=device)
        for kind, layer in unplaced:
            self.scored += 1
            if self.scored > MAX_SCORED:
                raise NothingFoundError(layer, device)
            if kind is Kind.HEAD:
                self.heads(layer, device)
            else:
                self.single(kind, layer, device, depth + 1)

    def _users(self, device: int) -> Iterator[tuple[int, Kind, int, int]]:
        """(bytes of one, kind, layer, number) of the blocks of a device, largest first."""
        draft, sizes = self.draft, self.draft.room.sizes
        users = [(sizes.weights[kind], kind, 0, 1) for kind in ENDS if draft.at(kind, 0) == device]
        users += [(sizes.weights[Kind.FFN], Kind.FFN, int(at), 1) for at in np.flatnonzero(draft.ffn == device)]
        users += [(sizes.weights[Kind.PROJ], Kind.PROJ, int(at), 1) for at in np.flatnonzero(draft.proj == device)]
        layers = np.flatnonzero(draft.groups[:, device])
        users += [(sizes.group, Kind.HEAD, int(at), int(draft.groups[at, device])) for at in layers]
        return iter(sorted(users, key=lambda user: (-user[0], user[2])))
