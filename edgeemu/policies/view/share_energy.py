"""Energy of tokens of placements with divided layers, many at once: as `step_energy` has it for undivided ones."""

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.share_passage import ShareStep


class ShareEnergy:
    """Energy on chosen devices [n]; all others of the cluster are idle. Figures that are not known count nothing."""

    def __init__(self, view: ClusterView, devices: IntArray) -> None:
        some = devices.tolist()
        self.idle_w = sum(device.idle_w or 0.0 for device in view.devices)
        self._dynamic_w = np.array([(view.devices[d].busy_w or 0.0) - (view.devices[d].idle_w or 0.0) for d in some])
        j_per_bit = [[0.0 if a == b else view.j_per_bit(a, b) or 0.0 for b in some] for a in some]
        self._j_per_bit = np.array(j_per_bit)  # [n, n]

    def token_j(self, step: ShareStep, sequences: int) -> FloatArray:
        """Energy of a token with several sequences in flight, which share the idle energy at best: [k]."""
        between_s = np.maximum(step.step_s / sequences, step.busy_s.max(1))  # [k]
        sent_j = (step.bits * self._j_per_bit).sum((1, 2))  # [k]
        token_j: FloatArray = self.idle_w * between_s + step.busy_s @ self._dynamic_w + sent_j
        return token_j
