"""Errors for failures that processes tell of."""

from edgeemu.device import protocol_out
from edgeemu.errors import EdgeemuError, InfeasibleError, RequestError, RunError
from edgeemu.links.netns import protocol

_FAILURES: dict[str, type[EdgeemuError]] = {"out of memory": InfeasibleError, "model file": RequestError}


def error_of(failure: protocol_out.Failure | protocol.Failed) -> EdgeemuError:
    """Return the error for a failure of a device, or of the network's process."""
    if isinstance(failure, protocol.Failed):
        return RunError(f"kernel links: {failure.message}")
    return _FAILURES.get(failure.kind, RunError)(f"{failure.name}: {failure.message}")
