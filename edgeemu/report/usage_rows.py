"""Rows of the tables of devices and links, made from what devices or the simulator report of one step."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edgeemu.cluster.cluster import Cluster
from edgeemu.placement.ledger import CACHE, INCOMING, MESSAGES, WEIGHTS, WORKSPACE
from edgeemu.report.rows import DeviceRow, LinkRow, OperationRow, operation_row
from edgeemu.timeline.steps import OperationRecord
from edgeemu.timeline.traffic import PathTraffic


@dataclass(frozen=True, slots=True)
class StepRows:
    """Rows about steps, which grow until they are taken."""

    ops: list[OperationRow] = field(default_factory=list)
    devices: list[DeviceRow] = field(default_factory=list)
    links: list[LinkRow] = field(default_factory=list)

    def add_operations(self, cluster: Cluster, operations: Iterable[OperationRecord]) -> None:
        """Add executed operations."""
        self.ops.extend(operation_row(cluster.devices[record.op.device].name, record) for record in operations)

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
