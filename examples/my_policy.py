"""An example of a policy: the fastest devices first, each filled as far as its memory allows.

Run it with: edgeemu run scenarios/quickstart.yaml --policy examples/my_policy.py:FastestFirst
"""

from edgeemu.policies.api import Block, ClusterView, NoBetterPlacement, Placement, all_blocks


class FastestFirst:
    """Blocks in model order on the fastest device that has room; again when another device becomes the fastest."""

    def __call__(self, view: ClusterView, current: Placement | None) -> Placement:
        by_speed = sorted(range(len(view.devices)), key=view.layer_time_s)
        if current is not None and view.holds(current) and self._begins_with(current, by_speed[0]):
            return current  # nothing moves
        usages = view.empty_usages()
        owner: dict[Block, int] = {}
        for block in all_blocks(view.costs.shape):
            fits = [device for device in by_speed if view.fits(usages[device], block, device)]
            if not fits and current is not None:
                raise NoBetterPlacement(f"no device has room for {block}")  # the current placement stays
            if not fits:
                raise view.infeasible(block, usages)
            usages[fits[0]].add(block)
            owner[block] = fits[0]
        return Placement(owner)

    def _begins_with(self, placement: Placement, device: int) -> bool:
        return next(iter(placement.owner.values())) == device
