"""The source device and one strong device beside it: what EdgeShard's cloud-edge baselines share. Pure."""

from edgeemu.errors import InfeasibleError
from edgeemu.policies.search.pipeline_stages import StageCosts


def cloud(costs: StageCosts, source: int) -> int:
    """[D] The device, other than the source, that runs a layer fastest: the paper has one RTX 3090 in its "cloud".

    Raises:
        InfeasibleError: there is no other device.
    """
    others = [device for device in range(len(costs.view.devices)) if device != source]
    if not others:
        raise InfeasibleError("there is no device beside the source; cloud and edge are two")
    return min(others, key=lambda device: float(costs.layer_s[device]))
