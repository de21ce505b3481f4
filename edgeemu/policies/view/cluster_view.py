"""The view of a cluster that a policy gets: plain numbers, from measurements or from the true cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.errors import EdgeemuError, InfeasibleError
from edgeemu.placement.arrays import FloatArray
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, ffn, proj
from edgeemu.placement.costs import Costs
from edgeemu.placement.memory import Usage, usages
from edgeemu.placement.placement import Placement
from edgeemu.placement.work import Work, roofline_s
from edgeemu.policies.view.device_view import DeviceView, no_room
from edgeemu.policies.view.link_factors import Factors
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.message_prices import priced
from edgeemu.policies.view.outlook import STAYS, Outlook
from edgeemu.units import SIZE

Objective = Literal["latency", "throughput", "energy"]
EnergyPerBit = Callable[[int, int], float | None]


class NoBetterPlacement(EdgeemuError):  # noqa: N818  # an answer, not a fault: the placement that is there stays
    """A policy found no other placement. `str()` gives the reason, which is recorded; the current placement stays."""


class Rehearsed(NamedTuple):
    """Simulated start of a run. `latency_s` is the time per token of a sequence, prompt included."""

    latency_s: float
    throughput_tok_s: float  # of all sequences together


def _not_kept(_placement: Placement) -> None:
    """Take an offer where nobody limits the time of the decision."""


def _no_energy(_source: int, _target: int) -> float | None:
    return None


@dataclass(frozen=True)
class WorkloadView:
    """Numbers of tokens (positions) of the sequence to place for, and of those that run concurrently."""

    prompt_tokens: int
    total_tokens: int  # prompt and generated tokens, when the sequence ends
    length: int = 0  # positions that are cached now; 0 before the prompt has run
    interval_tokens: int = 1  # tokens until the next decision
    concurrent: tuple[int, ...] = ()  # `total_tokens` of each sequence that runs at the same time, at most
    cached: int = 0  # positions that are cached now, of all sequences together; 0: only `length`

    def with_cached(self, length: int, cached: int) -> "WorkloadView":
        """Workload with so many positions cached: of the longest sequence, and of all together."""
        workload = object.__new__(WorkloadView)
        workload.__dict__.update(self.__dict__, length=length, cached=cached)
        return workload


class Refusal(NamedTuple):
    """A placement that devices refused, because something that was to arrive has no room there, and their reason."""

    placement: Placement
    reason: str


_NOTES = frozenset({"offer", "refused", "earlier", "outlook", "still"})


@dataclass(frozen=True)
class ClusterView:
    """Devices and links as they are known, the workload to place for, and the rules of the scenario."""

    costs: Costs  # all layers alike: where a file's are not, they are those of the mean
    devices: tuple[DeviceView, ...]
    links: LinkMatrix  # as messages are priced: with the overheads of both ends; `links.wire`: without them
    workload: WorkloadView
    weights_on_flash: bool = False  # every device can read every block's weights from its own storage
    flash_bytes_per_s: float = 100e6
    chunk_bytes: int = 64 * 1024  # of blocks that move
    precopy: bool = False  # steps go on while blocks are copied; else they wait
    source: int = 0  # the device where prompts come from
    divide: bool = True  # whether a policy that can divide projections and feed-forward blocks should do so
    star: bool = False  # results of shards are combined by one device; else in a ring
    gather: bool = False  # rows of all matrices are divided, and the device of the embedding attends
    tile_rows: int | None = None  # rows of a chunk from which on products are computed chunk by chunk; None: never
    rehearse: Callable[[Placement], Rehearsed | None] | None = None  # at the first decision
    offer: Callable[[Placement], None] = _not_kept  # keep a placement for the case that the limit strikes: the last
    lost: frozenset[int] = frozenset()  # devices that are gone, with blocks: links from them are what restores those
    refused: Refusal | None = None  # of the decisions since the memory of devices has changed, the last that was
    earlier: tuple[Placement, ...] = ()  # placements that the run has left: the first, and the last few
    observed: Factors = field(default_factory=dict)  # of the links that were measured
    outlook: Outlook = STAYS  # how long what was seen to come and go is expected to stay
    objective: Objective = "latency"
    energy_budget_j: float | None = None  # for a token, of all devices; `view.step_energy` estimates what one needs
    still: int = 0  # decisions in a row that kept this placement; nothing has changed by over 1 % since the first
    given: Placement | None = None  # what the scenario writes as its placement
    j_per_bit: EnergyPerBit = _no_energy  # from one device to another, of all devices on the path; None: not known
    by_layer: Costs | None = None  # where layers have different formats: the costs of each
    fitting: list[Placement] = field(default_factory=list, init=False, compare=False)  # as a search has found

    def __post_init__(self) -> None:
        object.__setattr__(self, "links", priced(self.links, self.message_ends))

    def noted(self, **notes: Any) -> Self:
        """The view with other notes on the run: `offer`, `refused`, `earlier`, `outlook` or `still`.

        Nothing is computed from them, so that what has been computed of the view stays.
        """
        assert notes.keys() <= _NOTES, "such a field is no note"
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__, **notes)
        return view

    def relinked(self, links: LinkMatrix, **others: Any) -> Self:
        """The view with other links, and `observed` and notes that go with them: what devices have stays computed."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__, links=links, fitting=[], **others)
        return view

    def has_refused(self, placement: Placement) -> bool:
        """Whether devices have just refused a placement."""
        return self.refused is not None and self.refused.placement.owner == placement.owner

    def slowed(self, slowdowns: FloatArray, memory_bytes: NDArray[np.int64], *known: FloatArray, **others: Any) -> Self:
        """The view of devices on which all takes as many times as long, with other memory: [n_devices] each.

        `known`: FLOP/s, bytes/s and overheads then, if known. `others`: other fields. Devices are made when asked for.
        """
        speeds = known or (self.flops_per_s / slowdowns, self.mem_bytes_per_s / slowdowns, self.overhead_s * slowdowns)
        view, each = object.__new__(type(self)), (*_kept(self.__dict__), *speeds, memory_bytes, self.installed_bytes)
        busy = self.links is not self.links.wire  # messages keep devices
        ends = self.message_ends * slowdowns if busy else self.message_ends
        view.__dict__.update(zip(_SLOWED, each, strict=True), fitting=[], _made_of=(self, slowdowns), **others)
        view.__dict__.update(message_ends=ends, links=priced(view.links, ends) if busy else view.links)
        return view

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Make the devices of a view that another one was `slowed` to."""
            if name != "devices" or "_made_of" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__} has no {name}")
            (other, slowdowns), memory_bytes = self.__dict__["_made_of"], self.memory_bytes
            made = map(DeviceView.slowed, other.devices, slowdowns.tolist(), memory_bytes.tolist())
            self.__dict__["devices"] = tuple(made)
            return self.__dict__["devices"]

    def __getstate__(self) -> dict[str, Any]:
        return {"devices": self.devices} | {name: self.__dict__[name] for name in self.__dict__ if name != "_made_of"}

    @property
    def n_devices(self) -> int:
        return len(self.memory_bytes)

    @property
    def exact(self) -> Costs:
        """Costs of each layer, by which memory is checked and time passes."""
        return self.by_layer or self.costs

    @cached_property
    def nodes(self) -> list[int]:
        """Devices that are there, which have memory, in the scenario's order from the source on, or from the next."""
        order = [*range(self.source, len(self.devices)), *range(self.source)]
        return [device for device in order if self.devices[device].memory_bytes > 0] or order

    @property
    def prompt_tokens(self) -> int:
        return self.workload.prompt_tokens

    @property
    def total_tokens(self) -> int:
        """Prompt and generated tokens, when the sequence ends."""
        return self.workload.total_tokens

    @property
    def length(self) -> int:
        """Positions that are cached now; 0 before the prompt has run."""
        return self.workload.length

    @property
    def interval_tokens(self) -> int:
        """Decode steps until the next decision."""
        return self.workload.interval_tokens

    @property
    def past(self) -> int:
        """Positions that the next decode step finds cached."""
        return max(self.length, self.prompt_tokens)

    @property
    def sequences(self) -> int:
        """How many sequences run at the same time, at most: a pipeline needs several."""
        return 1 + len(self.workload.concurrent)

    @property
    def remaining_tokens(self) -> int:
        """Decode steps that are still to come, at most."""
        return max(1, self.total_tokens - self.past)

    def bandwidth_bps(self, source: int, target: int) -> float:
        """Bit/s of the link from `source` to `target`; infinite where they are one device."""
        s_per_bit = self.links.s_per_bit.pair(source, target)
        return 1.0 / s_per_bit if s_per_bit else inf

    def delay_s(self, source: int, target: int) -> float:
        """Seconds of delay of the link from `source` to `target`; 0 where they are one device."""
        return self.links.delay_s.pair(source, target)

    def bandwidth_from(self, source: int) -> FloatArray:
        """Bit/s from `source` to every device, infinite to itself: [n_devices]."""
        with np.errstate(divide="ignore"):
            return 1.0 / self.links.s_per_bit.row(source)

    def delay_from(self, source: int) -> FloatArray:
        """Seconds from `source` to every device, 0 to itself: [n_devices]."""
        return self.links.delay_s.row(source)

    @cached_property
    def flops_per_s(self) -> FloatArray:
        return np.array([device.compute.flops_per_s for device in self.devices])  # [n_devices]

    @cached_property
    def mem_bytes_per_s(self) -> FloatArray:
        return np.array([device.compute.mem_bytes_per_s for device in self.devices])  # [n_devices]

    @cached_property
    def overhead_s(self) -> FloatArray:
        return np.array([device.compute.overhead_s for device in self.devices])  # [n_devices]

    @cached_property
    def message_ends(self) -> FloatArray:
        """Seconds that a message keeps its sender and its receiver busy, and for each byte: [2, n_devices]."""
        ends = [(each.compute.message_s, each.compute.byte_s) for each in self.devices]
        return np.ascontiguousarray(np.array(ends).reshape(-1, 2).T)

    @cached_property
    def memory_bytes(self) -> NDArray[np.int64]:
        return np.array([device.memory_bytes for device in self.devices], np.int64)  # [n_devices]

    @cached_property
    def installed_bytes(self) -> NDArray[np.int64]:
        return np.array([device.installed_bytes for device in self.devices], np.int64)  # [n_devices]

    def work(self, block: Block) -> Work:
        """Operations and bytes of one decode step of the block at the sequence's full length."""
        return self.costs.work(block.kind, 1, 1, self.total_tokens - 1)

    def time_s(self, block: Block, device: int) -> float:
        """Time of one decode step of the block on the device, alone."""
        return roofline_s(self.devices[device].compute, self.work(block))

    def layer_time_s(self, device: int) -> float:
        """Time of one decode step of a complete layer on the device, alone: its heads are fused, and run as one."""
        heads = self.costs.work(Kind.HEAD, self.costs.shape.n_groups, 1, self.total_tokens - 1)
        heads_s = roofline_s(self.devices[device].compute, heads)
        return heads_s + self.time_s(proj(0), device) + self.time_s(ffn(0), device)

    @cached_property
    def layer_times_s(self) -> FloatArray:
        """`layer_time_s` of every device: [n_devices]."""
        past = self.total_tokens - 1
        heads = self.costs.work(Kind.HEAD, self.costs.shape.n_groups, 1, past)
        return self.times_s(heads) + self.times_s(self.work(proj(0))) + self.times_s(self.work(ffn(0)))

    def model_time_s(self, device: int) -> float:
        """Time of one decode step of the complete model on the device, alone."""
        layers_s = self.costs.shape.n_layers * self.layer_time_s(device)
        return self.time_s(EMBED, device) + layers_s + self.time_s(LM_HEAD, device)

    def times_s(self, work: Work) -> FloatArray:
        """Time of some work on every device, by the roofline: [n_devices]."""
        return np.maximum(work.flops / self.flops_per_s, work.bytes_read / self.mem_bytes_per_s) + self.overhead_s

    def empty_usages(self) -> list[Usage]:
        """Memory of every device without blocks; blocks can be added."""
        return [self.empty_usage() for _ in self.devices]

    def empty_usage(self) -> Usage:
        """Memory of one device without blocks; blocks can be added."""
        concurrent = self.workload.concurrent
        return Usage(self.exact, self.prompt_tokens, self.total_tokens, concurrent, star=self.star, gather=self.gather)

    def usages(self, placement: Placement) -> list[Usage]:
        """Memory of each device under a placement, with all sequences at their ends."""
        n_devices, concurrent = len(self.devices), self.workload.concurrent
        return usages(
            *(placement, self.exact, n_devices, self.prompt_tokens, self.total_tokens, concurrent),
            star=self.star,
            gather=self.gather,
        )

    def fits(self, usage: Usage, block: Block, device: int) -> bool:
        """Whether the device still fits its memory with the block added."""
        return usage.page_with(block).total_bytes <= self.devices[device].memory_bytes

    def held_bytes(self, placement: Placement) -> dict[int, int]:
        """Bytes that each device with blocks holds at its fullest, ascending by device."""
        holders = placement.devices()
        place = {device: n for n, device in enumerate(holders)}  # of thousands of devices most hold nothing
        held = usages(
            Placement({block: place[device] for block, device in placement.owner.items()}),
            *(self.exact, len(holders), self.prompt_tokens, self.total_tokens, self.workload.concurrent),
            star=self.star,
            gather=self.gather,
        )
        return {device: usage.page().total_bytes for device, usage in zip(holders, held, strict=True)}

    def holds(self, placement: Placement) -> bool:
        """Whether every device has memory for a placement, to the end of the sequence."""
        return all(held <= self.devices[device].memory_bytes for device, held in self.held_bytes(placement).items())

    def infeasible(self, block: Block, held: Sequence[Usage] | Sequence[int]) -> InfeasibleError:
        """An error: no device has room for `block`. `held`: memory that each device holds, as usages or in bytes."""
        need_bytes, name = self.costs.weight_bytes(block), self.costs.shape.name
        held_bytes = [usage if isinstance(usage, int) else usage.page().total_bytes for usage in held]
        return no_room(f"{block} ({SIZE.format_human(need_bytes)} of weights) of {name}", self.devices, held_bytes)


_KEPT = [each.name for each in fields(ClusterView) if each.name not in {"devices", "fitting"}]
_kept = itemgetter(*_KEPT)
_SLOWED = *_KEPT, "flops_per_s", "mem_bytes_per_s", "overhead_s", "memory_bytes", "installed_bytes"
