"""Everything that a policy of one's own can import: blocks, placements, views, estimates of time and energy.

Names that are here stay. All other modules of edgeemu can change from one version to the next, except
`edgeemu.policies.kit`, which tests a policy and itself imports from here only.
"""

from edgeemu.cluster.devices import Compute
from edgeemu.cluster.keyed_random import draw_lognormal, uniform
from edgeemu.errors import EdgeemuError, InfeasibleError
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, all_blocks, ffn, head, layer_blocks, proj, shards
from edgeemu.placement.costs import Costs, PhysicalCosts
from edgeemu.placement.memory import MemoryPage, Usage
from edgeemu.placement.placement import Placement
from edgeemu.policies import Policy, policy
from edgeemu.policies.view.cluster_view import ClusterView, NoBetterPlacement, Refusal, WorkloadView
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.migration_memory import refusing_devices
from edgeemu.policies.view.migration_time import migration_s
from edgeemu.policies.view.step_energy import step_energy_j, token_energy_j
from edgeemu.policies.view.step_time import step_s
from edgeemu_kernels.shape import ModelShape

__all__ = [
    "EMBED",
    "LM_HEAD",
    "Block",
    "ClusterView",
    "Compute",
    "Costs",
    "DeviceView",
    "EdgeemuError",
    "InfeasibleError",
    "Kind",
    "LinkMatrix",
    "MemoryPage",
    "ModelShape",
    "NoBetterPlacement",
    "PhysicalCosts",
    "Placement",
    "Policy",
    "Refusal",
    "Usage",
    "WorkloadView",
    "all_blocks",
    "draw_lognormal",
    "ffn",
    "head",
    "layer_blocks",
    "migration_s",
    "policy",
    "proj",
    "refusing_devices",
    "shards",
    "step_energy_j",
    "step_s",
    "token_energy_j",
    "uniform",
]
