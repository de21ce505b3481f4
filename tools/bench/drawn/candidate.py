"""A placement as numbers that a search can change: how many groups, shards and units each device has."""

from typing import NamedTuple

from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, ffn, head, n_shards, proj
from edgeemu.placement.placement import Placement
from edgeemu_kernels.shape import ModelShape

Counts = tuple[int, ...]  # by device


class Layer(NamedTuple):
    """One layer. With all shards on one device the projection or the feed-forward is undivided."""

    heads: Counts
    proj: Counts
    ffn: Counts


class Candidate(NamedTuple):
    embed: int
    lm_head: int
    layers: tuple[Layer, ...]

    def placement(self) -> Placement:
        owner: dict[Block, int] = {EMBED: self.embed}
        for number, layer in enumerate(self.layers):
            at = owners(layer.heads)
            owner |= {head(number, group): device for group, device in enumerate(at)}
            owner |= _divided(Kind.PROJ, number, layer.proj, near(layer.proj, at))
            owner |= _divided(Kind.FFN, number, layer.ffn, owners(layer.ffn))
        owner[LM_HEAD] = self.lm_head
        return Placement(owner)


def _divided(kind: Kind, layer: int, counts: Counts, owners: list[int]) -> dict[Block, int]:
    if max(counts) == sum(counts):
        return {Block(kind, layer): owners[0]}
    return {Block(kind, layer, index): device for index, device in enumerate(owners)}


def owners(counts: Counts) -> list[int]:
    return [device for device, count in enumerate(counts) for _ in range(count)]


def near(counts: Counts, heads: list[int]) -> list[int]:
    """The devices of a projection's shards: as many as can be are with the groups whose outputs they need."""
    left = list(counts)
    found: list[int | None] = []
    for device in heads:
        found.append(device if left[device] else None)
        left[device] -= left[device] > 0
    rest = owners(tuple(left))
    return [rest.pop(0) if device is None else device for device in found]


def candidate_of(placement: Placement, shape: ModelShape, n_devices: int) -> Candidate:
    """The numbers of a placement; which group a device has is lost."""

    def counts(blocks: list[Block]) -> Counts:
        found = [0] * n_devices
        for block in blocks:
            found[placement.owner[block]] += 1
        return tuple(found)

    def share(kind: Kind, layer: int) -> Counts:
        number = n_shards(shape, kind)
        if (whole := Block(kind, layer)) in placement.owner:
            return tuple(number * (device == placement.owner[whole]) for device in range(n_devices))
        return counts([Block(kind, layer, index) for index in range(number)])

    layers = tuple(
        Layer(counts([head(layer, g) for g in range(shape.n_groups)]), share(Kind.PROJ, layer), share(Kind.FFN, layer))
        for layer in range(shape.n_layers)
    )
    return Candidate(placement.owner[EMBED], placement.owner[LM_HEAD], layers)


def written(placement: Placement, shape: ModelShape, n_devices: int) -> str:
    """A placement in a line: `embed lm_head`, then for each layer the devices of its groups, projection and units.

    `0 1 0011/0/24,40` is one layer with two groups on each of two devices, its projection on the first, and 24 and 40
    units of the feed-forward. Devices are digits.
    """
    owner = placement.owner
    words = [str(owner[EMBED]), str(owner[LM_HEAD])]
    for layer in range(shape.n_layers):
        heads = "".join(str(owner[head(layer, group)]) for group in range(shape.n_groups))
        projs = [owner[b] for b in _blocks(placement, shape, Kind.PROJ, layer)]
        units = [owner[b] for b in _blocks(placement, shape, Kind.FFN, layer)]
        shares = str(units[0]) if len(units) == 1 else ",".join(str(units.count(d)) for d in range(n_devices))
        words.append(f"{heads}/{''.join(map(str, projs))}/{shares}")
    return " ".join(words)


def _blocks(placement: Placement, shape: ModelShape, kind: Kind, layer: int) -> list[Block]:
    whole = Block(kind, layer)
    number = n_shards(shape, kind)
    return [whole] if whole in placement.owner else [Block(kind, layer, index) for index in range(number)]


def placement_of(text: str) -> Placement:
    """The inverse of `written`."""
    embed, lm_head, *layers = text.split()
    owner: dict[Block, int] = {EMBED: int(embed)}
    for layer, words in enumerate(layers):
        heads, projs, units = words.split("/")
        owner |= {head(layer, group): int(digit) for group, digit in enumerate(heads)}
        owner |= {proj(layer, g if len(projs) > 1 else -1): int(digit) for g, digit in enumerate(projs)}
        if "," in units:
            at = owners(tuple(map(int, units.split(","))))
            owner |= {ffn(layer, unit): device for unit, device in enumerate(at)}
        else:
            owner[ffn(layer)] = int(units)
    owner[LM_HEAD] = int(lm_head)
    return Placement(owner)
