"""What a policy may know of the cluster. Plain numbers; it does not say where they come from."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import expm1, log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.blocks import EMBED, LM_HEAD, Block, Costs, Kind, Work, ffn, proj
from edgeemu.cluster import Cluster, Compute, Device
from edgeemu.errors import EdgeemuError, InfeasibleError
from edgeemu.memory import Usage, usages
from edgeemu.placement import Placement
from edgeemu.timeline import roofline_s
from edgeemu.units import SIZE

if TYPE_CHECKING:
    from edgeemu.scenario_dynamics import Objective

MANY = 25  # devices that an error lists
ALL_AT_ONCE = 2000  # devices up to which all links are drawn before the first decision: 64 MB
FloatArray = NDArray[np.float64]
Pairwise = Callable[[int, int], float]
EnergyPerBit = Callable[[int, int], float | None]
Row = Callable[[int], FloatArray]  # of one device and all: [n_devices]


class NoBetterPlacement(EdgeemuError):  # noqa: N818  # an answer, not a fault: the placement that is there stays
    """A policy found nothing to put in the current placement's stead. `str()` says why; whoever asked records it."""


class Rows:
    """A time per pair of devices as vectors, each worked out when first asked for. A device reaches itself at once."""

    def __init__(self, n_devices: int, pair: Pairwise, row: Row | None = None, column: Row | None = None) -> None:
        """`row` and `column`, where they are given, make whole vectors; else they are made of `pair`."""
        self.n_devices = n_devices
        self._pair = pair
        self._row = row or self._row_of_pairs
        self._column = column or self._column_of_pairs
        self._out_of: dict[int, FloatArray] = {}
        self._into: dict[int, FloatArray] = {}
        self._least_out_of: dict[int, float] = {}

    def out_of(self, source: int) -> FloatArray:
        """From `source` to every device: [n_devices]."""
        row = self._out_of.get(source)
        if row is None:
            row = self._out_of[source] = self._row(source)
        return row

    def into(self, target: int) -> FloatArray:
        """From every device to `target`: [n_devices]."""
        column = self._into.get(target)
        if column is None:
            column = self._into[target] = self._column(target)
        return column

    def least_out_of(self, source: int) -> float:
        """The least from `source` to another device; infinite where there is none."""
        least = self._least_out_of.get(source)
        if least is None:
            others = np.delete(self.out_of(source), source)
            least = self._least_out_of[source] = float(others.min(initial=np.inf))
        return least

    def between(self, source: int, target: int) -> float:
        if source == target:
            return 0.0
        row = self._out_of.get(source)
        return self._pair(source, target) if row is None else float(row[target])

    def _row_of_pairs(self, source: int) -> FloatArray:
        values = (0.0 if d == source else self._pair(source, d) for d in range(self.n_devices))
        return np.fromiter(values, np.float64, self.n_devices)

    def _column_of_pairs(self, target: int) -> FloatArray:
        values = (0.0 if d == target else self._pair(d, target) for d in range(self.n_devices))
        return np.fromiter(values, np.float64, self.n_devices)


class Links:
    """Every pair's seconds per bit, and delay. Keep one for as long as the links do, and decisions share its rows."""

    def __init__(self, n_devices: int, bandwidth_bps: Pairwise, delay_s: Pairwise) -> None:
        self.n_devices = n_devices
        self.s_per_bit = Rows(n_devices, lambda a, b: 1.0 / bandwidth_bps(a, b))
        self.delay_s = Rows(n_devices, delay_s)

    @classmethod
    def of(cls, cluster: Cluster) -> "Links":
        """Those of a cluster by themselves: all now, or, of very many devices, each row when it is asked for."""
        made, ways = cls(len(cluster.devices), cluster.bandwidth_bps, cluster.delay_s), cluster.ways
        if ways is None:
            return made
        everyone = np.arange(made.n_devices)
        if made.n_devices <= ALL_AT_ONCE:
            bps, delay_s = ways.between(everyone, everyone)  # [n_devices, n_devices] each
            made.s_per_bit, made.delay_s = _rows_of(1.0 / bps), _rows_of(delay_s)
            return made

        def row(source: int) -> tuple[FloatArray, FloatArray]:
            bps, delay_s = ways.between(everyone[source, None], everyone)
            return 1.0 / bps[0], delay_s[0]

        def column(target: int) -> tuple[FloatArray, FloatArray]:
            bps, delay_s = ways.between(everyone, everyone[target, None])
            return 1.0 / bps[:, 0], delay_s[:, 0]

        n, s_per_bit, delay = made.n_devices, made.s_per_bit.between, cluster.delay_s
        made.s_per_bit = Rows(n, s_per_bit, lambda source: row(source)[0], lambda target: column(target)[0])
        made.delay_s = Rows(n, delay, lambda source: row(source)[1], lambda target: column(target)[1])
        return made

    def at(self, cluster: Cluster, at_s: float) -> "Links":
        """These, of a cluster by itself, as they are at an instant: what does not vary is taken as it is."""
        ways = cluster.varying_ways()
        bandwidth_bps, delay_s = _at(cluster, at_s)
        if ways is None:
            return Links(self.n_devices, bandwidth_bps, delay_s)
        made = Links(self.n_devices, bandwidth_bps, delay_s)
        made.s_per_bit = _patched(self.s_per_bit, made.s_per_bit.between, ways)
        made.delay_s = _patched(self.delay_s, made.delay_s.between, ways)
        return made

    def out_of(self, source: int, bits: float) -> FloatArray:
        """When a message of `bits` from `source` is wholly at each device, alone on its way: [n_devices], seconds."""
        return self.s_per_bit.out_of(source) * bits + self.delay_s.out_of(source)

    def into(self, target: int, bits: float) -> FloatArray:
        """When a message of `bits` from each device is wholly at `target`: [n_devices], seconds."""
        return self.s_per_bit.into(target) * bits + self.delay_s.into(target)

    def between(self, source: int, target: int, bits: float) -> float:
        return self.s_per_bit.between(source, target) * bits + self.delay_s.between(source, target)


def _at(cluster: Cluster, at_s: float) -> tuple[Pairwise, Pairwise]:
    """Bandwidth and delay at an instant."""
    return (
        lambda a, b: cluster.path(a, b).bandwidth_at(at_s),
        lambda a, b: cluster.path(a, b).delay_at(at_s),
    )


def _rows_of(matrix: FloatArray) -> Rows:
    """Of all pairs, [n_devices, n_devices]. Nobody may write into the rows."""
    matrix.flags.writeable = False

    def column(target: int) -> FloatArray:
        found = matrix[:, target].copy()  # in one piece, which is quicker to read again and again
        found.flags.writeable = False
        return found

    return Rows(len(matrix), lambda a, b: float(matrix[a, b]), matrix.__getitem__, column)


def _patched(rows: Rows, pair: Pairwise, ways: set[tuple[int, int]]) -> Rows:
    """The same rows but for some ways, whose values are `pair`'s."""
    targets: dict[int, list[int]] = defaultdict(list)
    sources: dict[int, list[int]] = defaultdict(list)
    for source, target in ways:
        targets[source].append(target)
        sources[target].append(source)

    def row(source: int) -> FloatArray:
        found = rows.out_of(source)
        if source in targets:
            found = found.copy()
            found[targets[source]] = [pair(source, target) for target in targets[source]]
        return found

    def column(target: int) -> FloatArray:
        found = rows.into(target)
        if target in sources:
            found = found.copy()
            found[sources[target]] = [pair(source, target) for source in sources[target]]
        return found

    def value(source: int, target: int) -> float:
        return pair(source, target) if (source, target) in ways else rows.between(source, target)

    return Rows(rows.n_devices, value, row, column)


class Rehearsed(NamedTuple):
    """What the beginning of the run would come to. `latency_s` is the time per token of a sequence, prompt included."""

    latency_s: float
    throughput_tok_s: float  # of all sequences together


@dataclass(frozen=True, slots=True)
class DeviceView:
    """`compute` is what the device has left for us now, and `memory_bytes` what our blocks may hold there in all.

    `idle_w` is what it draws when it waits, `busy_w` when it computes for us; None: not known.
    """

    name: str
    compute: Compute
    memory_bytes: int
    idle_w: float | None = None
    busy_w: float | None = None

    @classmethod
    def of(cls, device: Device, compute: Compute, memory_bytes: int) -> "DeviceView":
        """A device of the cluster, whose compute and memory are known to be these."""
        return cls(device.name, compute, memory_bytes, device.idle_w, device.busy_w)


def _no_energy(_source: int, _target: int) -> float | None:
    return None


@dataclass(frozen=True)
class ClusterView:
    """Devices, links, and the sequence to place for: its prompt, how far it is, and its length when it ends."""

    costs: Costs
    devices: tuple[DeviceView, ...]
    bandwidth_bps: Pairwise
    delay_s: Pairwise
    prompt_tokens: int
    total_tokens: int
    length: int = 0  # positions that are cached now; 0 before the prompt has run
    interval_tokens: int = 1  # tokens until the next decision
    weights_on_flash: bool = False  # every device can read every block's weights from its own storage
    flash_bytes_per_s: float = 100e6
    source: int = 0  # the device where prompts come from
    beside: tuple[int, ...] = ()  # how long the others become that run at the same time, at most
    cached: int = 0  # positions that are cached now, of all sequences together; 0: only `length`
    divide: bool = True  # whether a policy that may divide projections and feed-forwards shall
    star: bool = False  # how results of shards are joined: by one device, or in a ring
    rehearse: Callable[[Placement], Rehearsed | None] | None = None  # at the first decision; None: too large to play
    observed: Mapping[tuple[int, int], tuple[float, float]] = field(default_factory=dict)
    """By link that was observed, by what its delay, and its time per bit, are more than the data sheet's."""
    links: Links | None = None  # rows kept from earlier views; made from the callables above where there are none
    objective: "Objective" = "latency"
    energy_budget_j: float | None = None  # for a token, of all devices; `edgeemu.energy` reckons what one needs
    j_per_bit: EnergyPerBit = _no_energy  # from one device to another, of all on the way; None: not known

    @property
    def past(self) -> int:
        """Positions that the next decode step finds cached."""
        return max(self.length, self.prompt_tokens)

    @property
    def sequences(self) -> int:
        """How many run at the same time, at most: a pipeline needs several."""
        return 1 + len(self.beside)

    @property
    def remaining_tokens(self) -> int:
        """Decode steps that are still to come, at most."""
        return max(1, self.total_tokens - self.past)

    @cached_property
    def rows(self) -> Links:
        """`links`, or the same from the callables."""
        return self.links or Links(len(self.devices), self.bandwidth_bps, self.delay_s)

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
    def memory_bytes(self) -> NDArray[np.int64]:
        return np.array([device.memory_bytes for device in self.devices], np.int64)  # [n_devices]

    def bandwidth_from(self, source: int) -> FloatArray:
        """Bit/s from `source` to every device, infinite to itself: [n_devices]."""
        with np.errstate(divide="ignore"):
            return 1.0 / self.rows.s_per_bit.out_of(source)

    def delay_from(self, source: int) -> FloatArray:
        """Seconds from `source` to every device, 0 to itself: [n_devices]."""
        return self.rows.delay_s.out_of(source)

    def work(self, block: Block) -> Work:
        """What one decode step asks of the block at the sequence's full length."""
        return self.costs.work(block.kind, 1, 1, self.total_tokens - 1)

    def time_s(self, block: Block, device: int) -> float:
        """One decode step of the block on the device, alone."""
        return roofline_s(self.devices[device].compute, self.work(block))

    def layer_time_s(self, device: int) -> float:
        """One decode step of a whole layer on the device, alone: its heads are fused, and run as one."""
        past = self.total_tokens - 1
        heads = self.costs.work(Kind.HEAD, self.costs.shape.n_groups, 1, past)
        heads_s = roofline_s(self.devices[device].compute, heads)
        return heads_s + self.time_s(proj(0), device) + self.time_s(ffn(0), device)

    def model_time_s(self, device: int) -> float:
        """One decode step of the whole model on the device, alone."""
        layers_s = self.costs.shape.n_layers * self.layer_time_s(device)
        return self.time_s(EMBED, device) + layers_s + self.time_s(LM_HEAD, device)

    def empty_usages(self) -> list[Usage]:
        return [self.empty_usage() for _ in self.devices]

    def empty_usage(self) -> Usage:
        """That of one device, to which blocks can be added."""
        return Usage(self.costs, self.prompt_tokens, self.total_tokens, self.beside, star=self.star)

    def usages(self, placement: Placement) -> list[Usage]:
        """What each device holds under a placement, with all sequences at their ends."""
        n_devices, beside = len(self.devices), self.beside
        return usages(placement, self.costs, n_devices, self.prompt_tokens, self.total_tokens, beside, star=self.star)

    def fits(self, usage: Usage, block: Block, device: int) -> bool:
        """Whether the device still fits its memory with the block added."""
        return usage.page_with(block).total_bytes <= self.devices[device].memory_bytes

    def holds(self, placement: Placement) -> bool:
        """Whether every device has the memory that a placement asks of it, to the sequence's end."""
        held = self.usages(placement)
        return all(u.page().total_bytes <= d.memory_bytes for u, d in zip(held, self.devices, strict=True))

    def infeasible(self, block: Block, held: Sequence[Usage] | Sequence[int]) -> InfeasibleError:
        """No device has room for `block`: says what each holds, as usages or in bytes, and has."""
        show = SIZE.format_human
        need_bytes = self.costs.weight_bytes(block)
        taken = [usage if isinstance(usage, int) else usage.page().total_bytes for usage in held]
        rows = [
            f"  {device.name}: {show(size)} of {show(device.memory_bytes)} taken"
            for device, size in zip(self.devices, taken, strict=True)
        ]
        if len(rows) > MANY:
            rows[MANY:] = [f"  and {len(rows) - MANY} more devices"]
        return InfeasibleError(
            f"no device has room for {block} ({show(need_bytes)} of weights) of {self.costs.shape.name}:\n"
            + "\n".join(rows)
            + "\nGive the devices more memory, add devices, lower max_tokens, or take a smaller model."
        )


def largest_change(before: ClusterView, after: ClusterView) -> float:
    """The largest share by which any device's speed or memory, or an observed link's delay or rate, has changed."""
    pairs = (
        (before.flops_per_s, after.flops_per_s),
        (before.mem_bytes_per_s, after.mem_bytes_per_s),
        (np.maximum(before.memory_bytes, 1), np.maximum(after.memory_bytes, 1)),
    )
    largest = max(float(np.abs(np.log(new / old)).max()) for old, new in pairs)
    same = (1.0, 1.0)
    for way in before.observed.keys() | after.observed.keys():
        for old, new in zip(before.observed.get(way, same), after.observed.get(way, same), strict=True):
            largest = max(largest, abs(log(new / old)))
    return expm1(largest)


def whole_devices(cluster: Cluster, host: Compute | None) -> tuple[Compute, ...]:
    """Every device's data sheet, when nothing slows it. Relative devices are their fraction of `host`."""
    computes = []
    for device in cluster.devices:
        compute = device.compute
        if compute is None:
            if host is None or device.host_fraction is None:
                raise ValueError(f"{device.name} is relative to a host whose speed was not given")
            fraction = device.host_fraction
            compute = Compute(host.flops_per_s * fraction, host.mem_bytes_per_s * fraction, device.overhead_s)
        computes.append(compute)
    return tuple(computes)


def oracle_view(
    cluster: Cluster,
    costs: Costs,
    host: Compute | None,
    prompt_tokens: int,
    total_tokens: int,
    at_s: float = 0.0,
    links: Links | None = None,
) -> ClusterView:
    """The cluster as it truly is at an instant, by the scenario. Relative devices are their fraction of `host`.

    `links` are the cluster's by themselves, if somebody has them already.
    """
    devices = tuple(
        DeviceView.of(device, slowed(compute, device.slowdown_at(at_s)), device.memory_at(at_s))
        for device, compute in zip(cluster.devices, whole_devices(cluster, host), strict=True)
    )
    view = ClusterView(
        costs,
        devices,
        cluster.bandwidth_bps,
        cluster.delay_s,
        prompt_tokens,
        total_tokens,
        j_per_bit=cluster.j_per_bit,
    )
    return view_at(view, cluster, links or Links.of(cluster), at_s)


def view_at(view: ClusterView, cluster: Cluster, links: Links, at_s: float) -> ClusterView:
    """The view with the cluster's links as they are at an instant; `links` are those by themselves."""
    if not cluster.links_vary:
        return replace(view, links=links)
    bandwidth_bps, delay_s = _at(cluster, at_s)
    return replace(view, bandwidth_bps=bandwidth_bps, delay_s=delay_s, links=links.at(cluster, at_s))


def slowed(compute: Compute, slowdown: float) -> Compute:
    """A device on which everything takes `slowdown` times as long."""
    if slowdown == 1.0:
        return compute
    return Compute(compute.flops_per_s / slowdown, compute.mem_bytes_per_s / slowdown, compute.overhead_s * slowdown)
