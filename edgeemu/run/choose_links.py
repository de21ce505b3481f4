"""Which links a run has: what the scenario asks for, what the run can use, and what the host can do.

Tries the host only where kernel links are asked for.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Hop
from edgeemu.cluster.variation import LinkVariation
from edgeemu.links.netns.capabilities import Capabilities
from edgeemu.links.netns.layout import network_layout, unsupported
from edgeemu.scenario.scenario import Scenario

Kind = Literal["stamped", "kernel", "hybrid"]
Shaped = Literal["kernel", "hybrid"]  # those for which the kernel does something


class LinkChoice(NamedTuple):
    """`why_not_kernel`, where that was left to the host and it cannot; `rootless`: as root of a user namespace.

    `netem` does delay, jitter and loss; kernel links that have none of them do without.
    """

    kind: Kind
    why_not_kernel: str = ""
    rootless: bool = False
    netem: bool = False

    def __str__(self) -> str:
        return f"{self.kind}, not kernel: {self.why_not_kernel}" if self.why_not_kernel else self.kind


STAMPED = LinkChoice("stamped")


def choose_links(
    scenario: Scenario, cluster: Cluster, *, simulate: bool, probe: Callable[[], Capabilities]
) -> LinkChoice:
    """What carries the messages of a run.

    Raises:
        RequestError: kernel or hybrid links are asked for, and this run or this host cannot have them.
    """
    asked = scenario.network.backend
    if asked == "stamped":
        return STAMPED
    kind: Shaped = "kernel" if asked == "auto" else asked
    netem = kind == "kernel" and has_more_than_rates(cluster)
    why, rootless = _why_no_clock(scenario, simulate), False
    if not why:
        why = "; ".join(unsupported(cluster))
    if not why:
        host, channel = probe(), network_layout(cluster, delays=netem).shared_channel
        why = host.why_not("kernel" if netem else "hybrid", shared_channel=channel is not None)
        rootless = host.rootless
    if not why:
        return LinkChoice(kind, rootless=rootless, netem=netem)
    if asked == "auto":
        return LinkChoice("stamped", why)
    other = "; hybrid links need no netem" if "no netem" in why else ""
    message = f"{kind} links cannot be had: {why}{other}; with auto, links are stamped then"
    raise scenario.error("network.backend", message)


def has_more_than_rates(cluster: Cluster) -> bool:
    """Whether a link has a delay, jitter or loss, or will have, or packets out of order or doubled."""
    if any(event.change.delay_s for event in cluster.events):
        return True
    everyone = range(len(cluster.devices))
    return any(
        path.jitter_s or path.loss or any(_has_delay(hop) for hop in path.hops)
        for source in everyone
        for target in everyone
        if source != target
        for path in [cluster.path(source, target)]
    ) or any(link.reorder or link.duplicate for link in cluster.links())


def _has_delay(hop: Hop) -> bool:
    varies = hop.varies or LinkVariation()
    return bool(hop.delay_s) or varies.delay_s is not None or varies.added_delay_s is not None


def _why_no_clock(scenario: Scenario, simulate: bool) -> str:
    if simulate:
        return "a simulation has no links"
    return "they need the wall clock, and time.mode is virtual" if scenario.time.mode == "virtual" else ""
