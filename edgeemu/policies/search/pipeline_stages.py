"""Contiguous stages of complete layers: their times, how many layers fit a device, and their placement. Pure.

The elements of a model are counted as pipelined systems count layers: the embedding (0), the decoder layers
(1 … n_layers) and the output matrix (n_layers + 1).
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from edgeemu.errors import InfeasibleError
from edgeemu.placement.arrays import FloatArray, IntArray, PlacementArrays
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, layer_blocks
from edgeemu.placement.costs import Costs
from edgeemu.placement.memory import Usage
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.device_view import MANY
from edgeemu.units import SIZE


class Stage(NamedTuple):
    """Elements `first` to `end` (exclusive) on a device."""

    device: int
    first: int
    end: int


class StageCosts:
    """Times of a decode step by element and device, and how many layers fit. At the sequence's full length."""

    def __init__(self, view: ClusterView) -> None:
        self.view = view
        self.n_layers = view.costs.shape.n_layers
        self.n_elements = self.n_layers + 2
        self._hidden_bits = 8.0 * view.costs.activation_bytes(1)
        self._token_bits = 8.0 * view.costs.token_bytes()

    @cached_property
    def layer_s(self) -> FloatArray:
        """One decoder layer on each device: [n_devices]."""
        return self.view.layer_times_s

    @cached_property
    def _ends_s(self) -> FloatArray:
        """Embedding and output matrix on each device: [2, n_devices]."""
        return np.array([self.view.times_s(self.view.work(end)) for end in (EMBED, LM_HEAD)])

    def until_s(self, device: int) -> FloatArray:
        """Time of a device for all elements before each: [n_elements + 1], so that differences are stages."""
        until_s: FloatArray = self.all_until_s(np.array([device]))[0]
        return until_s

    def all_until_s(self, devices: IntArray) -> FloatArray:
        """`until_s` of some devices: [n, n_elements + 1]."""
        until_s = np.zeros((len(devices), self.n_elements + 1))
        until_s[:, 1], until_s[:, -1] = self._ends_s[:, devices]
        until_s[:, 2:-1] = self.layer_s[devices, None]
        return until_s.cumsum(axis=1)

    def hop_s(self, source: int, target: int) -> float:
        """Time of one row of x from one device to another; 0 where they are one device."""
        return self.view.links.pair(source, target, self._hidden_bits)

    def hops_s(self, devices: Sequence[int]) -> FloatArray:
        """`hop_s` between all these devices: [n, n], by source and target."""
        among = np.array(devices)
        return self.view.links.block(among, among, self._hidden_bits)

    def occupied_s(self, source: int, target: int) -> float:
        """Time that one row of x occupies a link, without the delay: the next row can follow at once."""
        return self.view.links.s_per_bit.pair(source, target) * self._hidden_bits

    def all_occupied_s(self, devices: IntArray) -> FloatArray:
        """`occupied_s` between all these devices: [n, n], by source and target."""
        return self.view.links.s_per_bit.block(devices, devices) * self._hidden_bits

    def token_s(self, source: int, target: int) -> float:
        """Time of a sampled token's return to the embedding."""
        return self.view.links.pair(source, target, self._token_bits)

    def room(self, device: int, *, embed: bool = False, lm_head: bool = False) -> int:
        """How many layers fit a device with the ends that it holds; -1 where not even the ends do."""
        return bisect_right(self.total_bytes[embed, lm_head], int(self.view.memory_bytes[device])) - 1

    def rooms(self, devices: IntArray, *, lm_head: bool = False) -> IntArray:
        """`room` of some devices without the embedding: [n]."""
        totals = np.array(self.total_bytes[False, lm_head])  # [n_layers + 1]
        return np.searchsorted(totals, self.view.memory_bytes[devices], side="right") - 1

    @cached_property
    def total_bytes(self) -> dict[tuple[bool, bool], tuple[int, ...]]:
        """Memory of 0, 1, … layers, by (embed, lm_head) on the device too. It is the same on every device."""
        view, rules = self.view, (self.view.star, self.view.gather)
        of = view.exact, view.prompt_tokens, view.total_tokens, view.workload.concurrent, *rules
        return {(e, o): _total_bytes(*of, e, o) for e in (False, True) for o in (False, True)}

    def segments_s(self, device: int) -> FloatArray:
        """Every stage's time on a device, infinite where it does not fit: [first, end], n_elements + 1 each."""
        until_s = self.until_s(device)  # [n_elements + 1]
        stage_s = until_s[None, :] - until_s[:, None]  # [first, end]
        n = self.n_elements
        first, end = np.arange(n + 1)[:, None], np.arange(n + 1)[None, :]
        layers = np.minimum(end, n - 1) - np.maximum(first, 1)  # [first, end]
        embed, lm_head = first == 0, end == n
        room = np.where(
            embed,
            np.where(lm_head, self.room(device, embed=True, lm_head=True), self.room(device, embed=True)),
            np.where(lm_head, self.room(device, lm_head=True), self.room(device)),
        )
        fits: FloatArray = np.where((end > first) & (np.maximum(layers, 0) <= room), stage_s, np.inf)
        return fits

    def stage_s(self, stage: Stage) -> float:
        until_s = self.until_s(stage.device)
        return float(until_s[stage.end] - until_s[stage.first])

    def bottleneck_s(self, stages: Sequence[Stage]) -> float:
        """The longest time that any stage or link is busy with one token of one sequence."""
        links_s = [self.occupied_s(before.device, after.device) for before, after in pairwise(stages)]
        return max([self.stage_s(stage) for stage in stages] + links_s)

    def latency_s(self, stages: Sequence[Stage]) -> float:
        """Time of one token through all stages and back to the embedding."""
        hops_s = sum(self.hop_s(before.device, after.device) for before, after in pairwise(stages))
        return sum(map(self.stage_s, stages)) + hops_s + self.token_s(stages[-1].device, stages[0].device)

    def too_small(self, what: str, devices: Sequence[int]) -> InfeasibleError:
        """An error: no partition of this kind fits. Its message has the layers that fit each of these devices."""
        shown = [self.view.devices[device] for device in devices[:MANY]]
        rooms = [
            f"  {device.name}: {max(0, self.room(index))} layers in {SIZE.format_human(device.memory_bytes)}"
            if device.memory_bytes
            else f"  {device.name}: not there"
            for index, device in zip(devices, shown, strict=False)
        ]
        if len(devices) > MANY:
            rooms.append(f"  and {len(devices) - MANY} more devices")
        shape = self.view.costs.shape
        return InfeasibleError(
            f"{what} cannot hold the {shape.n_layers} layers of {shape.name}, its embedding and its output matrix. "
            "There is room for:\n"
            + "\n".join(rooms)
            + "\nGive the devices more memory, add devices, lower max_tokens, or take a smaller model."
        )

    def placement(self, stages: Sequence[Stage]) -> Placement:
        """The stages as a placement."""
        shape = self.view.costs.shape
        layers = [tuple(layer_blocks(shape, layer)) for layer in range(self.n_layers)]
        elements: list[tuple[Block, ...]] = [(EMBED,), *layers, (LM_HEAD,)]
        owner: dict[Block, int] = {}
        for device, first, end in stages:
            for blocks in elements[first:end]:
                owner.update(dict.fromkeys(blocks, device))
        return Placement(owner)

    def layout(self, stages: Sequence[Stage]) -> PlacementArrays:
        """The stages as a placement's arrays."""
        devices = np.repeat([stage.device for stage in stages], [stage.end - stage.first for stage in stages])
        layers = devices[1:-1]  # [n_layers]
        heads = np.repeat(layers[:, None], self.view.costs.shape.n_groups, axis=1)
        return PlacementArrays(int(devices[0]), int(devices[-1]), heads, layers, layers)


@lru_cache(maxsize=32)
def _total_bytes(
    costs: Costs, prompt: int, total: int, concurrent: tuple[int, ...], star: bool, gather: bool, embed: bool, end: bool
) -> tuple[int, ...]:
    """Memory of 0, 1, … layers beside the ends of the model that are there; kept, as it is for a whole run."""
    usage = Usage(costs, prompt, total, concurrent, star=star, gather=gather)
    for block, there in ((EMBED, embed), (LM_HEAD, end)):
        if there:
            usage.add(block)
    totals = [usage.page().total_bytes]
    for layer in range(min(2, costs.shape.n_layers)):
        for block in layer_blocks(costs.shape, layer):
            usage.add(block)
        totals.append(usage.page().total_bytes)
    each = totals[-1] - totals[-2]  # from the second layer on: workspace and messages are there already
    return (*totals, *(totals[-1] + each * more for more in range(1, costs.shape.n_layers - 1)))


def merged(devices: Sequence[int]) -> list[Stage]:
    """Merge a device for each element into stages."""
    stages: list[Stage] = []
    for element, device in enumerate(devices):
        if stages and stages[-1].device == device:
            stages[-1] = stages[-1]._replace(end=element + 1)
        else:
            stages.append(Stage(device, element, element + 1))
    return stages
