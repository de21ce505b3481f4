"""Memory that a device needs, planned before a run. Knows blocks and bytes; allocates nothing."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import NamedTuple

from edgeemu.placement.blocks import Block, Kind, n_shards
from edgeemu.placement.costs import Costs
from edgeemu.placement.placement import Placement, rings_of
from edgeemu.placement.slice_costs import SliceCosts

WeightsOf = Callable[[Kind, int, int], int]  # weights of a block of a kind, a layer and a group
_PART = itemgetter(0, 1)  # kind and layer of a block


class MemoryPage(NamedTuple):
    """Peak memory of one device by account, in bytes."""

    weights_bytes: int
    cache_bytes: int
    workspace_bytes: int
    messages_bytes: int

    @property
    def total_bytes(self) -> int:
        return sum(self)


@dataclass(slots=True)
class Usage:
    """Memory of one device, block by block, for a sequence of `total_tokens` whose prompt is `prompt_tokens`.

    `beside` are the lengths of concurrent sequences, none of them longer: they have caches and messages of their own,
    and share the workspace.
    """

    costs: Costs
    prompt_tokens: int
    total_tokens: int
    beside: tuple[int, ...] = ()
    blocks: set[Block] = field(default_factory=set)
    groups: Counter[int] = field(default_factory=Counter)
    members: int = 0  # devices of the largest ring that shares a layer; 0: no block is divided
    star: bool = False  # their collective algorithm is star
    gather: bool = False  # or gather
    _shards: Counter[tuple[Kind, int]] = field(default_factory=Counter)  # by kind and layer
    _weights_bytes: int = 0

    def __post_init__(self) -> None:
        self.costs = self.costs.at_step(1, self.total_tokens - 1)

    def add(self, block: Block, weight_bytes: int | None = None) -> None:
        """Add a block. `weight_bytes`: its weights, if they are known."""
        self.blocks.add(block)
        self._weights_bytes += self.costs.weight_bytes(block) if weight_bytes is None else weight_bytes
        if block.kind is Kind.HEAD:
            if not self.groups[block.layer]:
                self._weights_bytes += self.costs.norm_bytes()
            self.groups[block.layer] += 1
        elif block.is_shard:
            if block.kind is Kind.FFN and not self._shards[block.kind, block.layer]:
                self._weights_bytes += self.costs.norm_bytes()
            self._shards[block.kind, block.layer] += 1

    def fill(self, blocks: Sequence[Block], weights: "WeightsOf") -> None:
        """Add all blocks of a device that has none."""
        self.blocks = set(blocks)
        for (kind, layer), count in Counter(map(_PART, blocks)).items():
            if kind is Kind.HEAD:
                self._weights_bytes += count * weights(kind, layer, 0) + self.costs.norm_bytes()
                self.groups[layer] = count
            elif (kind, layer, -1) in self.blocks:
                self._weights_bytes += weights(kind, layer, -1)
            else:
                first = (kind, layer, 0) in self.blocks
                self._weights_bytes += (count - first) * weights(kind, layer, 1)
                self._weights_bytes += weights(kind, layer, 0) if first else 0
                self._weights_bytes += self.costs.norm_bytes() if kind is Kind.FFN else 0
                self._shards[kind, layer] = count

    def remove(self, block: Block) -> None:
        self.blocks.remove(block)
        self._weights_bytes -= self.costs.weight_bytes(block)
        if block.kind is Kind.HEAD:
            self.groups[block.layer] -= 1
            if not self.groups[block.layer]:
                self._weights_bytes -= self.costs.norm_bytes()
        elif block.is_shard:
            self._shards[block.kind, block.layer] -= 1
            if block.kind is Kind.FFN and not self._shards[block.kind, block.layer]:
                self._weights_bytes -= self.costs.norm_bytes()

    def page_with(self, *blocks: Block) -> MemoryPage:
        """Page after adding blocks, which are not added."""
        for block in blocks:
            self.add(block)
        page = self.page()
        for block in blocks:
            self.remove(block)
        return page

    def page(self, past: int = 0) -> MemoryPage:
        """Sum up what the blocks need. `past`: cached rows before those of the longest step; 0 for a prompt."""
        weights_bytes = self._weights_bytes
        kinds = {kind for kind, _, group in self.blocks if group < 0 or kind is Kind.HEAD}  # undivided
        if self.costs.shape.tied_embeddings and {Kind.EMBED, Kind.LM_HEAD} <= kinds:
            weights_bytes -= self.costs.table_bytes()
        if self.gather and self.members:
            return self._gathered_page(weights_bytes, kinds)
        rows = self.prompt_tokens
        widest = max(self.groups.values(), default=0)
        workspaces = [self.costs.workspace_bytes(kind, widest, rows, past) for kind in kinds]
        workspaces += [self.costs.workspace_bytes(kind, widest, 1, self.total_tokens) for kind in kinds]
        widest_shards = self._widest_shards()
        for kind, shards in widest_shards.items():
            workspaces += [self.costs.shard_workspace_bytes(kind, shards, rows) for rows in (self.prompt_tokens, 1)]
        messages_bytes = self.costs.inbox_bytes(rows) if self.blocks else 0
        if self.members and self.blocks:
            messages_bytes = self.costs.collective_inbox_bytes(rows, self.members, widest, star=self.star)
        if Kind.PROJ in kinds or Kind.PROJ in widest_shards:
            messages_bytes += self.costs.gather_bytes(rows)
        return MemoryPage(
            weights_bytes,
            self.groups.total() * caches_bytes(self.costs, self.total_tokens, self.beside),
            max(workspaces, default=0),
            messages_bytes * (1 + len(self.beside)),
        )

    def _gathered_page(self, weights_bytes: int, kinds: set[Kind]) -> MemoryPage:
        """Page under `gather`: the device of the embedding has all caches, and biases are those of a device's columns.

        `weights_bytes`: with all of a bias on the device of the first shard.
        """
        slices, n_layers = SliceCosts(self.costs.shape), self.costs.shape.n_layers
        root = Kind.EMBED in kinds
        weights_bytes += sum(slices.bias_bytes(kind, count) for (kind, _), count in self._shards.items())
        firsts = [block.kind for block in self.blocks if block.is_shard and block.group == 0]
        weights_bytes -= sum(slices.bias_bytes(kind, n_shards(self.costs.shape, kind)) for kind in firsts)
        widest, shards = max(self.groups.values(), default=0), self._widest_shards()
        workspaces = [0]
        for rows, past in ((self.prompt_tokens, 0), (1, self.total_tokens)):
            workspaces += [self.costs.workspace_bytes(kind, 0, rows, past) for kind in kinds - {Kind.HEAD}]
            workspaces += [slices.projected_workspace_bytes(widest, rows)] if widest else []
            workspaces += [slices.outer_workspace_bytes(kind, rows) for kind in shards]
            workspaces += [slices.inner_workspace_bytes(shards[Kind.FFN], rows)] if Kind.FFN in shards else []
            if root:
                workspaces += [slices.attend_workspace_bytes(rows, past), self.costs.collective_workspace_bytes(rows)]
                workspaces += [slices.lacking_workspace_bytes(rows)]
        held = slices.held_messages_bytes(self.prompt_tokens, self.members, root=root) if self.blocks else 0
        caches = caches_bytes(self.costs, self.total_tokens, self.beside)
        return MemoryPage(
            weights_bytes,
            n_layers * self.costs.shape.n_groups * caches if root else 0,
            max(workspaces),
            held * (1 + len(self.beside)),
        )

    def _widest_shards(self) -> dict[Kind, int]:
        """Largest number of shards of one layer, by kind."""
        widest: dict[Kind, int] = {}
        for (kind, _), count in self._shards.items():
            widest[kind] = max(widest.get(kind, 0), count)
        return {kind: count for kind, count in widest.items() if count}


def caches_bytes(costs: Costs, total_tokens: int, beside: Sequence[int]) -> int:
    """K/V caches of one group of one layer, of all sequences at their ends."""
    return sum(costs.kv_bytes(tokens) for tokens in (total_tokens, *beside))


def usages(
    placement: Placement,
    costs: Costs,
    n_devices: int,
    prompt_tokens: int,
    total_tokens: int,
    beside: tuple[int, ...] = (),
    *,
    star: bool = False,
    gather: bool = False,
) -> list[Usage]:
    """Memory of each device under a placement; blocks that are nowhere take none.

    `star`, `gather`: the collective algorithm is that.
    """
    members = max(map(len, rings_of(placement, costs.shape.n_layers)))
    held = [
        Usage(costs, prompt_tokens, total_tokens, beside, members=members, star=star, gather=gather)
        for _ in range(n_devices)
    ]
    by_device: list[list[Block]] = [[] for _ in held]
    for block, device in placement.owner.items():
        if device >= 0:
            by_device[device].append(block)
    at_end = costs.at_step(1, total_tokens - 1)
    of_first = cache(lambda kind, group: at_end.weight_bytes(Block(kind, 0, group)))
    of_each = cache(lambda kind, layer, group: at_end.weight_bytes(Block(kind, layer, group)))
    weights = of_each if costs.shape.precision.layers else lambda kind, _, group: of_first(kind, group)
    for usage, blocks in zip(held, by_device, strict=True):
        usage.fill(blocks, weights)
    return held
