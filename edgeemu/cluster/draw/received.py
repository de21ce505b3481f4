"""Links as software sees them: what it adds to the delay of each link that ends at its device."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeemu.cluster.devices import Device
from edgeemu.cluster.draw.links import LinkDraws
from edgeemu.cluster.keyed_random import FloatArray
from edgeemu.cluster.links import Link, LinkEnds
from edgeemu.cluster.topology import Arrays, IntArray
from edgeemu.topologies import End


@dataclass(frozen=True)
class ReceivedLinks:
    """The links of a scenario, each with the message latency of the device where it ends added to its delay."""

    draws: LinkDraws
    latency_s: FloatArray  # [n_devices]

    def link(self, a: End, b: End) -> Link:
        link = self.draws.link(a, b)
        return link if b is None else replace(link, delay_s=link.delay_s + float(self.latency_s[b]))

    def arrays(self, sources: IntArray, targets: IntArray) -> Arrays:
        """Bandwidths and delays of many links at once, as `LinkDraws.arrays`: [m, k] each."""
        bps, delay_s = self.draws.arrays(sources, targets)
        return bps, delay_s + self.latency_s[None, targets]

    def varying(self) -> frozenset[LinkEnds] | None:
        return self.draws.varying()


def received(draws: LinkDraws, devices: Sequence[Device]) -> LinkDraws | ReceivedLinks:
    """Return the links as these devices' software sees them; the same links where none adds anything."""
    latency_s = np.array([device.message_latency_s for device in devices])
    return ReceivedLinks(draws, latency_s) if latency_s.any() else draws
