"""True state of devices over time, as rows where it changes. Pure: reads the cluster at instants that it is given."""

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Device
from edgeemu.cluster.variation import share_at
from edgeemu.report.rows import ConditionRow


class Conditions:
    """Notes the speed and the memory of devices when they are not as they were."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[float, int]] = {}  # by device
        self._cluster: Cluster | None = None
        self._varying: list[Device] = []  # of the cluster

    def rows(self, cluster: Cluster, step: tuple[int, int], at_s: float) -> list[ConditionRow]:
        """Return a row for each device that has changed by a token (sequence and step), which was sampled then."""
        found, looked_at = [], self._varying
        if cluster is not self._cluster:  # the first time, or after an event
            self._cluster, looked_at = cluster, list(cluster.devices)
            self._varying = [each for each in looked_at if each.availability or each.memory_availability]
        for device in looked_at:
            now = share_at(device.availability, at_s), device.memory_at(at_s)
            if self._last.get(device.index) != now:
                self._last[device.index] = now
                found.append(ConditionRow(device.name, *step, at_s, *now))
        return found
