"""Chooses the links of a run, from what the scenario asks for, what the run can use, and what the host can do.

Probes the host only if kernel links are asked for.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.faults import FaultKind
from edgeemu.cluster.link_variation import LinkVariation
from edgeemu.cluster.links import Hop
from edgeemu.links.netns.capabilities import Capabilities
from edgeemu.links.netns.layout import network_layout, unsupported
from edgeemu.scenario.scenario import Scenario

Kind = Literal["stamped", "kernel", "hybrid"]
Shaped = Literal["kernel", "hybrid"]  # those that the kernel shapes, altogether or in part


class LinkChoice(NamedTuple):
    """The kind of links, and how they are made.

    `why_not_kernel` is set if `auto` fell back to stamped links. `rootless`: as root of a user namespace. `netem`:
    with the kernel's delay, jitter and loss; kernel links that have none of them do without.
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
    """Choose what carries the messages of a run.

    Raises:
        RequestError: kernel or hybrid links are asked for, and are not available to this run or on this host.
    """
    asked = scenario.network.backend
    if asked == "stamped":
        return STAMPED
    kind: Shaped = "kernel" if asked == "auto" else asked
    netem = kind == "kernel" and has_more_than_rates(cluster)
    why, rootless = _why_not_in_run(scenario, simulate), False
    if not why:
        why = "; ".join(unsupported(cluster))
    if not why:
        host, channel = probe(), network_layout(cluster, delays=netem).shared_channel
        fail = any(fault.links for fault in cluster.faults.faults)
        why = host.why_not("kernel" if netem else "hybrid", shared_channel=channel is not None, link_faults=fail)
        rootless = host.rootless
    if not why:
        return LinkChoice(kind, rootless=rootless, netem=netem)
    if asked == "auto":
        return LinkChoice("stamped", why)
    other = "; hybrid links need no netem" if "no netem" in why else ""
    message = f"{kind} links are not available: {why}{other}; backend: auto would use stamped links"
    raise scenario.error("network.backend", message)


def has_more_than_rates(cluster: Cluster) -> bool:
    """Return whether any link has, or will have, delay, jitter, loss, reordering or duplication."""
    if any(event.change.delay_s for event in cluster.events):
        return True
    if any(fault.kind is FaultKind.LOSS for fault in cluster.faults.faults):
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


def _why_not_in_run(scenario: Scenario, simulate: bool) -> str:
    if simulate:
        return "a simulation has no links"
    return "they need the wall clock, but time.mode is virtual" if scenario.time.mode == "virtual" else ""
