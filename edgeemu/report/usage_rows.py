"""Rows of the tables of operations, devices and links, made from what devices or the simulator report of one step."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan

import numpy as np
from numpy.typing import NDArray

from edgeemu.cluster.cluster import Cluster
from edgeemu.placement.arrays import IntArray
from edgeemu.placement.ledger import CACHE, INCOMING, MESSAGES, WEIGHTS, WORKSPACE
from edgeemu.report.rows import (
    GIVEN_UP,
    NO_STEP,
    DeviceRow,
    LinkRow,
    OperationRow,
    Row,
    TableName,
    operation_row,
    transfer_row,
)
from edgeemu.timeline.columns import Coded, Columns, Groups, table
from edgeemu.timeline.executed import ExecutedOps
from edgeemu.timeline.operation_sizes import OperationSizes
from edgeemu.timeline.steps import OperationRecord
from edgeemu.timeline.traffic import PathTraffic
from edgeemu.timeline.transfers import HandledTransfer

ACCOUNTS = (WEIGHTS, CACHE, WORKSPACE, MESSAGES, INCOMING)  # of the memory ledger, in the order of a device's row
OF_NO_STEP = (NO_STEP, NO_STEP)
_NOISE_S = 4e-13  # rounded to zero: half of the last digit that is kept


@dataclass(frozen=True, slots=True)
class StepRows:
    """Rows about steps, which grow until they are taken."""

    ops: list[OperationRow] = field(default_factory=list)
    devices: list[DeviceRow] = field(default_factory=list)
    links: list[LinkRow] = field(default_factory=list)
    columns: list[tuple[TableName, Columns[Row]]] = field(default_factory=list)  # more rows, many at once

    def add_operations(self, cluster: Cluster, operations: Iterable[OperationRecord], sizes: OperationSizes) -> None:
        """Add executed operations; `sizes` are those of their program."""
        self.ops.extend(operation_row(cluster.devices[record.op.device].name, record, sizes) for record in operations)

    def add_transfers(self, cluster: Cluster, transfers: Iterable[HandledTransfer]) -> None:
        """Add transfers that have kept devices busy."""
        self.ops.extend(transfer_row(cluster.devices[each.device].name, each) for each in transfers)

    def add_device(
        self,
        cluster: Cluster,
        operations: Sequence[OperationRecord],
        held: Mapping[str, int],
        *,
        peak_bytes: int,
        reordered: int,
        stalled_s: float = 0.0,
    ) -> None:
        """Add what one device did for a step: its operations, and its memory ledger, in bytes by account."""
        device = cluster.devices[operations[0].op.device]
        step = operations[0].step
        busy_s = sum(record.time.end_s - record.time.start_s for record in operations)
        known = device.idle_w is not None and device.busy_w is not None
        self.devices.append(
            DeviceRow(
                device=device.name,
                sequence=step.sequence,
                step=step.step,
                weights_bytes=held.get(WEIGHTS, 0),
                cache_bytes=held.get(CACHE, 0),
                workspace_bytes=held.get(WORKSPACE, 0),
                messages_bytes=held.get(MESSAGES, 0),
                incoming_bytes=held.get(INCOMING, 0),
                peak_bytes=peak_bytes,
                reordered=reordered,
                stalled_s=stalled_s,
                busy_s=busy_s,
                queue_s=sum(record.time.start_s - record.time.ready_s for record in operations),
                energy_j=(device.busy_w - device.idle_w) * busy_s if known else None,  # type: ignore[operator]
            )
        )

    def add_executed(
        self,
        cluster: Cluster,
        executed: ExecutedOps,
        sizes: OperationSizes,
        held: IntArray,
        peak_bytes: IntArray,
        cpu_s: NDArray[np.float64] | None = None,
        waiting: tuple[int, int] | None = None,
        given_up: NDArray[np.float64] | None = None,
    ) -> None:
        """Add what all devices did for a step, on a timeline without clock.

        `waiting`: of operations that fill caches, or of a step that was given up, the sequence and step that waits for
        them; they are of no step. `given_up`: of a step that was, the share of each operation that was computed,
        [n_executed].

        `sizes` are those of the operations that `executed` is about. `held` is the memory of devices in the order of
        `ACCOUNTS`: [n_accounts, n_devices]; `peak_bytes`: [n_devices]. `cpu_s` is what kernels took: [n_executed];
        None: there were none.
        """
        about, place, names = executed.about, executed.place, [device.name for device in cluster.devices]
        devices = about.device[place]  # [n_executed]
        sequence, number, rows, past = np.array(executed.steps)[executed.which_step].T  # [n_executed] each
        of_step = (sequence, number) if waiting is None else np.full((2, len(place)), NO_STEP)
        if given_up is not None:
            of_step[1][:] = GIVEN_UP
        block, instants = Coded(about.kind[place], about.kinds), (executed.ready_s, executed.start_s, executed.end_s)
        zero, in_time = np.zeros(len(place)), np.zeros(len(place), np.bool_)
        what = Coded(devices, names), *of_step, about.layer[place], block, about.groups[place], rows, past
        last_op, last_bytes, flops, bytes_read = sizes.columns(executed)
        if given_up is not None:
            flops, bytes_read = flops * given_up, bytes_read * given_up
        which, taken_s = (
            (about.index[place], last_op, last_bytes, flops, bytes_read),
            zero if cpu_s is None else cpu_s,
        )
        self.columns.append(("ops", Columns(OperationRow, [*what, *which, *instants, taken_s, zero, in_time])))

        groups = Groups.of(devices, len(names))
        who = devices[groups.first]  # [n_groups]
        busy_s = groups.sums(executed.end_s - executed.start_s)
        queue_s = groups.sums(executed.start_s - executed.ready_s)
        power_w = [
            nan if device.idle_w is None or device.busy_w is None else device.busy_w - device.idle_w
            for device in (cluster.devices[index] for index in who.tolist())
        ]
        energy_j = np.array(power_w) * busy_s  # NaN: not known
        step = (sequence[groups.first], number[groups.first])  # [n_groups] each
        if waiting is not None:
            step = np.full(len(who), waiting[0]), np.full(len(who), waiting[1])
        none = np.zeros(len(who), np.int64)
        memory, stalled_s = [*held[:, who], peak_bytes[who]], np.zeros(len(who))
        fields = [Coded(who, names), *step, *memory, none, stalled_s, busy_s, queue_s, energy_j]
        self.columns.append(("devices", Columns(DeviceRow, fields)))

    def add_links(self, cluster: Cluster, step: tuple[int, int], traffic: Iterable[PathTraffic], at_s: float) -> None:
        """Add the messages of a step (sequence and number); `at_s`: when its links are looked at, if they vary."""
        sequence, number = step
        names = [device.name for device in cluster.devices]
        for source, target, messages, size_bytes, transit_s in traffic:
            bandwidth_bps, path_delay_s, j_per_bit = cluster.facts(source, target, at_s)
            transfer_s, delay_s = 8.0 * size_bytes / bandwidth_bps, messages * path_delay_s
            queue_s = round(transit_s - transfer_s - delay_s, 12) + 0.0  # without the noise of rounding
            energy_j = None if j_per_bit is None else 8.0 * size_bytes * j_per_bit
            row = names[source], names[target], sequence, number, messages, size_bytes, transit_s, queue_s, transfer_s
            self.links.append(LinkRow._make((*row, delay_s, energy_j)))

    def add_traffic(self, cluster: Cluster, step: tuple[int, int], traffic: Columns[PathTraffic], at_s: float) -> None:
        """Add the messages of a step as `add_links`, of many links at once."""
        columns = table(traffic, len(PathTraffic._fields))
        sources, targets, messages, size_bytes = columns[:4].astype(np.int64)  # [n_paths] each
        if not len(sources):
            return
        facts = cluster.facts_of(list(zip(sources.tolist(), targets.tolist(), strict=True)), at_s)
        bandwidth_bps, path_delay_s, j_per_bit = zip(*facts, strict=True)
        bits, delay_s = 8.0 * size_bytes, messages * np.array(path_delay_s)
        transit_s, transfer_s = columns[4], bits / np.array(bandwidth_bps)
        queue_s = _without_noise(transit_s - transfer_s - delay_s)
        sequence, number = np.full(len(sources), step[0]), np.full(len(sources), step[1])
        names = [device.name for device in cluster.devices]
        ends = Coded(sources, names), Coded(targets, names)
        times = transit_s, queue_s, transfer_s, delay_s
        fields = [*ends, sequence, number, messages, size_bytes, *times, bits * np.array(j_per_bit, np.float64)]
        self.columns.append(("links", Columns(LinkRow, fields)))


def _without_noise(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times without the noise of rounding."""
    rounded = np.zeros_like(times_s)
    large = np.abs(times_s) > _NOISE_S
    rounded[large] = [round(time_s, 12) + 0.0 for time_s in times_s[large].tolist()]
    return rounded
