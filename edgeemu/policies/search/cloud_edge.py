"""The two devices of EdgeShard's cloud-edge baselines: the source and one strong device. Pure."""

from edgeemu.errors import InfeasibleError
from edgeemu.policies.search.pipeline_stages import StageCosts


def cloud(costs: StageCosts, source: int) -> int:
    """The device that stands for the paper's cloud (one RTX 3090). [D] Of all but the source, the fastest at a layer.

    Raises:
        InfeasibleError: there is no other device.
    """
    others = [device for device in range(costs.view.n_devices) if device != source]
    if not others:
        raise InfeasibleError("there is only one device: cloud and edge are two")
    return min(others, key=lambda device: float(costs.layer_s[device]))
