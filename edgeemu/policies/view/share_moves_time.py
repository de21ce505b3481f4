"""Terms of migrations between placements with divided layers, of which many are estimated at once. Knows bytes.

What each device receives is exact; that it all comes from the device that gives most is assumed
(`compiled.share_needs`).
"""

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.shares import ShareArrays


class ShareMigrations:
    """Migrations from one placement, on chosen devices [n], to others."""

    def __init__(self, costs: MoveCosts, devices: IntArray, begin: ShareArrays) -> None:
        view = costs.view
        links, self.handled_s_per_bit = costs.prices.links, costs.prices.processor_s_per_bit[devices]  # [n]
        self.begin, self.n_groups = begin, view.costs.shape.n_groups
        self.on_flash, self.flash_bytes_per_s = view.weights_on_flash, view.flash_bytes_per_s
        self.s_per_bit = links.s_per_bit.block(devices, devices)  # [n, n]
        self.cache, self.sizes = costs.group_cache_bytes, costs.sizes
