"""The placement that a scenario writes, for a model: every block on one device. Chooses nothing."""

from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction
from math import floor
from typing import NamedTuple

from edgeemu.errors import RequestError
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, head, n_shards
from edgeemu.placement.placement import Placement
from edgeemu.scenario.document import Position
from edgeemu.scenario.placement import LayerPlacement, PlacementSpec, number_text, share, spans
from edgeemu.scenario.scenario import Scenario
from edgeemu_kernels.shape import ModelShape

_UNITS = {Kind.HEAD: "KV group", Kind.PROJ: "KV group", Kind.FFN: "unit"}
_KEYS = {Kind.HEAD: "heads", Kind.PROJ: "proj", Kind.FFN: "ffn"}


def given_placement(scenario: Scenario, shape: ModelShape) -> Placement | None:
    """Return the placement that a scenario writes; None if it writes none.

    Raises:
        RequestError: a layer, a KV group or a unit is on no device or twice, or is not there; with its place.
    """
    return None if scenario.placement is None else _ByHand(scenario, scenario.placement, shape).read()


class _ByHand:
    """The placement of one scenario, for a model."""

    def __init__(self, scenario: Scenario, spec: PlacementSpec, shape: ModelShape) -> None:
        self._scenario = scenario
        self._spec = spec
        self._shape = shape

    def read(self) -> Placement:
        entries = self._entries()  # of each layer
        held = {key: dict(self._held(key, layer)) for key, layer in self._spec.layers.items()}
        owner: dict[Block, int] = {EMBED: self._device(self._spec.embed)}
        for layer in range(self._shape.n_layers):
            for kind, holders in held[entries[layer]].items():
                if isinstance(holders, int) and kind is not Kind.HEAD:
                    owner[Block(kind, layer)] = holders
                elif isinstance(holders, int):
                    owner |= {head(layer, group): holders for group in range(self._shape.n_groups)}
                else:
                    owner |= {Block(kind, layer, number): device for number, device in enumerate(holders)}
        return Placement({**owner, LM_HEAD: self._device(self._spec.lm_head)})

    def _entries(self) -> dict[int, str]:
        """Key of the entry of each layer."""
        entries: dict[int, str] = {}
        n_layers = self._shape.n_layers
        for key in self._spec.layers:
            for span in spans(key):
                if span[-1] >= n_layers:
                    has = f"the layers of {self._shape.name} are {number_text(range(n_layers))}"
                    raise self._error((key,), f"there is no layer {span[-1]}: {has}")
                for layer in span:
                    if layer in entries:
                        other = "twice in this entry" if entries[layer] == key else f'here and in "{entries[layer]}"'
                        raise self._error((key,), f"layer {layer} is placed twice, {other}: name it once")
                    entries[layer] = key
        if missing := [layer for layer in range(n_layers) if layer not in entries]:
            text = number_text(missing)
            which = f"layer {text} is" if len(missing) == 1 else f"layers {text} are"
            raise self._error((), f'{which} on no device: add "{text}: DEVICE"')
        return entries

    def _held(self, key: str, layer: LayerPlacement) -> Iterator[tuple[Kind, int | list[int]]]:
        """Device of each kind of block of an entry; where there are several, that of each group or unit."""
        for kind in (Kind.HEAD, Kind.PROJ, Kind.FFN):
            holders = layer.holders(_KEYS[kind])
            if isinstance(holders, str):
                yield kind, self._device(holders)
            else:
                yield kind, self._parts(key, kind, holders)

    def _parts(self, key: str, kind: Kind, holders: Mapping[str, str]) -> list[int]:
        """Device of each KV group or unit of the layers of an entry."""
        total = self._shape.n_groups if kind is Kind.HEAD else n_shards(self._shape, kind)
        units = _UNITS[kind] if total == 1 else f"{_UNITS[kind]}s"
        place = _Parts((key, _KEYS[kind]), units, f"layer{'' if key.isdigit() else 's'} {key}", total)
        shares = {device: found for device, part in holders.items() if (found := share(part)) is not None}
        numbers = self._shared(place, shares) if len(shares) == len(holders) else self._numbered(place, holders, shares)
        return [self._device(numbers[number]) for number in range(total)]

    def _numbered(self, place: "_Parts", holders: Mapping[str, str], shares: Collection[str]) -> dict[int, str]:
        """Device of each number, where every device has numbers."""
        owners: dict[int, str] = {}
        for device, part in holders.items():
            if device in shares:
                raise self._error(place.position, f"{device} has a share and another numbers: write one or the other")
            for span in spans(part):
                if span[-1] >= place.total:
                    message = f"there is no {span[-1]} of {place.total} {place.units}: they are {place.all}"
                    raise self._error((*place.position, device), message)
                for number in span:
                    if number in owners:
                        message = f"{number} of the {place.units} of {place.where} is placed twice, on"
                        both = f"{owners[number]} and {device}" if owners[number] != device else f"{device} both times"
                        raise self._error((*place.position, device), f"{message} {both}: name it once")
                    owners[number] = device
        if missing := [number for number in range(place.total) if number not in owners]:
            verb = "is" if len(missing) == 1 else "are"
            message = f"{number_text(missing)} of the {place.units} of {place.where} ({place.all}) {verb} on no device"
            raise self._error(place.position, f"{message}: add {number_text(missing)} to one")
        return owners

    def _shared(self, place: "_Parts", shares: Mapping[str, Fraction]) -> dict[int, str]:
        """Device of each number, in the order of the devices, each boundary at the nearest whole number."""
        if sum(shares.values()) != 1:
            total = f"{float(100 * sum(shares.values())):.6g} %"
            message = f"the shares of {place.where} come to {total}, not 100 % (fractions such as 1/3 are exact)"
            raise self._error(place.position, message)
        owners: dict[int, str] = {}
        until = Fraction(0)
        for device, part in shares.items():
            first, until = floor(until * place.total + Fraction(1, 2)), until + part
            numbers = range(first, floor(until * place.total + Fraction(1, 2)))
            if not numbers:
                message = f"this share of {place.total} {place.units} of {place.where} is none of them: leave it out"
                raise self._error((*place.position, device), message)
            owners |= dict.fromkeys(numbers, device)
        return owners

    def _device(self, name: str) -> int:
        return self._scenario.members(name)[0]

    def _error(self, position: Position, message: str) -> RequestError:
        return self._scenario.error_at(("placement", "layers", *position), message)


class _Parts(NamedTuple):
    """Heads, projection or feed-forward of an entry: its position, and the words for its parts."""

    position: Position
    units: str
    where: str
    total: int

    @property
    def all(self) -> str:
        """Text of the numbers that there are."""
        return number_text(range(self.total))
