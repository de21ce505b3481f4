"""Views made from the true cluster, without measurement."""

from dataclasses import replace

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.placement.costs import Costs
from edgeemu.policies.view.cluster_view import ClusterView, WorkloadView
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.links_at import links_at


def nominal_computes(cluster: Cluster, host: Compute | None) -> tuple[Compute, ...]:
    """Nominal speeds of all devices, without load. Relative devices have their fraction of `host`.

    Raises:
        ValueError: a device is relative, and `host` is None.
    """
    computes = []
    for device in cluster.devices:
        compute = device.compute
        if compute is None:
            if host is None or device.host_fraction is None:
                raise ValueError(f"{device.name} is relative to a host whose speed was not given")
            fraction = device.host_fraction
            speeds = host.flops_per_s * fraction, host.mem_bytes_per_s * fraction
            compute = Compute(*speeds, device.overhead_s, device.message_overhead_s, device.byte_overhead_s)
        computes.append(compute)
    return tuple(computes)


def oracle_view(
    cluster: Cluster,
    costs: Costs,
    host: Compute | None,
    prompt_tokens: int,
    total_tokens: int,
    at_s: float = 0.0,
    links: LinkMatrix | None = None,
) -> ClusterView:
    """The true cluster at an instant. Relative devices have their fraction of `host`.

    `links`: the nominal links of the cluster, if they were made already.
    """
    devices = tuple(
        DeviceView.of(device, compute.slowed(device.slowdown_at(at_s)), device.memory_at(at_s))
        for device, compute in zip(cluster.devices, nominal_computes(cluster, host), strict=True)
    )
    nominal = links or LinkMatrix.of(cluster)
    workload = WorkloadView(prompt_tokens, total_tokens)
    view = ClusterView(costs, devices, nominal, workload, j_per_bit=cluster.j_per_bit)
    return view_at(view, cluster, nominal, at_s)


def view_at(view: ClusterView, cluster: Cluster, links: LinkMatrix, at_s: float) -> ClusterView:
    """The view with the links of the cluster at an instant; `links` are the nominal ones."""
    return replace(view, links=links_at(links, cluster, at_s) if cluster.links_vary else links)
