"""What policies are told about migrations that divide and join: which devices refuse, and how long they take."""

from dataclasses import replace

import pytest
from support.builders import LLAMA, view, with_workload
from support.moving import Redivide
from support.several import make, simulated

from edgeemu.cluster.devices import Compute
from edgeemu.placement.blocks import Kind, all_blocks, ffn, head, shards
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement, moves
from edgeemu.placement.shipments import weight_bytes
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_memory import refusing_devices
from edgeemu.policies.view.migration_time import migration_s

PROMPTS = "workload.prompts=[{tokens: 7}, {tokens: 7}, {tokens: 7}, {tokens: 7}, {tokens: 7}]"


class Foretelling:
    """A policy that notes of every placement that it wants which devices would refuse it."""

    def __init__(self, seed: int) -> None:
        self._redivide = Redivide(seed, 3)
        self.refusing: list[list[str]] = []

    def __call__(self, seen: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        wanted = self._redivide(seen, current)
        if not seen.holds(wanted):
            return current
        if moves(current, wanted):
            self.refusing.append([seen.devices[at].name for at in refusing_devices(seen, current, wanted)])
        return wanted


@pytest.mark.parametrize("mode", ["pause", "precopy"])
def test_those_refuse_that_are_said_to(mode: str) -> None:
    """Devices have little more than they need: some changes go well."""
    outcomes = {True: 0, False: 0}
    for seed, room_bytes in enumerate((80_000, 100_000, 120_000)):
        rooms = ["devices[0].memory=140 kB", f"devices[1].memory={room_bytes} B"]
        decide = Foretelling(seed)
        plan = replace(make(f"migration.mode={mode}", PROMPTS, *rooms), decide=decide)
        made = simulated(plan)
        rows = {row.epoch: row.outcome for row in made.migrations}
        told = decide.refusing
        said = [[name for name in ("a", "b-1", "b-2") if f"{name} is out of memory" in each] for each in rows.values()]
        assert said == told
        for each in said:
            outcomes[bool(each)] += 1
    assert min(outcomes.values()) > 5, outcomes


def test_shards_take_their_bytes_over_the_link_or_from_storage() -> None:
    seen = with_workload(view(LLAMA, [2**40] * 3, [Compute(1e9, 1e9, 0.0)] * 3, 7, 30), length=10)
    costs, parts = PhysicalCosts(LLAMA), shards(LLAMA, Kind.FFN, 0)
    whole = Placement(dict.fromkeys(all_blocks(LLAMA), 0))
    owner = {block: device for block, device in whole.owner.items() if block != ffn(0)}
    divided = Placement(owner | {part: part.group % 2 for part in parts}).moved([head(0, 1)], 1)
    there = sum(weight_bytes(part, costs) for part in parts if part.group % 2)
    head_bytes = weight_bytes(head(0, 1), costs)
    sent = there + head_bytes + costs.kv_bytes(10)
    assert migration_s(seen, whole, divided) == pytest.approx(8 * sent / 1e8 + 1e-3)
    assert migration_s(seen, whole, whole) == 0.0
    back = sum(weight_bytes(part, costs) for part in parts if not part.group % 2)
    assert migration_s(seen, divided, divided.moved(parts, 1)) == pytest.approx(8 * back / 1e8 + 1e-3)
    flash = replace(seen, weights_on_flash=True, flash_bytes_per_s=1e3)
    assert migration_s(flash, whole, divided) == pytest.approx((there + head_bytes) / 1e3)
