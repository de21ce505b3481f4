"""Comparison of what a plan's devices hold together with this host's memory. Arithmetic: the memory is passed in."""

from operator import add

from edgeemu.host.available_memory import HostMemory
from edgeemu.report.formats import size
from edgeemu.run.plan import Plan

# Measured on devices that hold nothing: memory of their own beside what they share with the fork server; what the fork
# server and the controller take from a run's start on; and the address space of a device.
PROCESS_BYTES = 12 * 2**20
RUN_BYTES = 96 * 2**20
ADDRESS_BYTES = 280 * 2**20

_HELP = "Take a smaller model, shorter texts or fewer of them at once; edgeemu simulate needs none of this memory."


def needed_bytes(plan: Plan) -> int:
    """Memory that a run on device processes takes of a host at its most."""
    expanded_bytes = sum(_expanded_bytes(plan, page.weights_bytes) for page in plan.pages)
    return sum(page.total_bytes + PROCESS_BYTES for page in plan.pages) + expanded_bytes + RUN_BYTES


def why_not_here(plan: Plan, host: HostMemory) -> str:
    """Return why this host cannot hold what the devices of a plan hold at their most; "" if it can.

    A plan with literal costs is for the simulator only, and needs no memory.
    """
    if plan.scenario.cost.formulas == "literal":
        return ""
    pages = plan.pages
    expanded_bytes = [_expanded_bytes(plan, page.weights_bytes) for page in pages]
    if (run_bytes := needed_bytes(plan)) > host.available_bytes:
        return (
            f"too large for this host: a run needs {size(run_bytes)} of memory "
            f"({size(sum(page.weights_bytes for page in pages))} of weights, "
            f"{size(sum(page.cache_bytes for page in pages))} of K/V caches, the rest for activations, "
            f"messages and {len(pages)} processes), and {size(host.available_bytes)} are "
            f"{host.limited_by}. {_HELP}"
        )
    largest_bytes = max(map(add, (page.total_bytes for page in pages), expanded_bytes)) + ADDRESS_BYTES
    if host.process_bytes is not None and largest_bytes > host.process_bytes:
        return (
            f"too large for this host: the largest device needs {size(largest_bytes)} of address space, "
            f"and a process may have {size(host.process_bytes)} (ulimit -v). {_HELP}"
        )
    return ""


def _expanded_bytes(plan: Plan, weights_bytes: int) -> int:
    """Float32 copies of packed weights, at most, where the scenario asks for them."""
    return plan.model.shape.precision.held_bytes(weights_bytes) - weights_bytes
