"""Simulated runs with replicas: what they cost, when there is no room for them, and what they are good for."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from support.several import make
from support.watching import RecordedRun

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.faults import Fault, FaultEvent, FaultKind, FaultPlan
from edgeemu.errors import InfeasibleError
from edgeemu.placement.placement import Placement
from edgeemu.placement.replicas import Replica
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend

ONE = "workload.prompts=[{tokens: 7}]"
LONG = "workload.max_tokens=20"
REPLICATE = "recovery={caches: replicate, heartbeat: {interval: 100 ms}}"
SPEEDS = "gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s"


def plan_of(*changes: str) -> Plan:
    return make(ONE, LONG, REPLICATE, *changes)


def devices_of(*memory_bytes: int) -> str:
    rooms = ", ".join(f"{{name: {'abcd'[n]}, {SPEEDS}, memory: {size} B}}" for n, size in enumerate(memory_bytes))
    return f"devices=[{rooms}]"


def crashing(plan: Plan, *devices_at: tuple[int, int]) -> Plan:
    """The plan with devices that crash at tokens."""
    events = [FaultEvent(Fault(FaultKind.CRASH, (device,)), at_token=token) for device, token in devices_at]
    was = plan.cluster
    return replace(
        plan, cluster=Cluster(was.name, was.seed, was.devices, was.topology, was.events, FaultPlan((*events,)))
    )


class Telling(RecordedRun):
    """A run whose lines are kept."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, SimulatedBackend(plan))
        self.lines: list[str] = []
        self._observer.moved = self.lines.append  # type: ignore[method-assign]  # the run makes its observer itself


def run(plan: Plan) -> Telling:
    made = Telling(plan)
    asyncio.run(made.run())
    assert len(made.tokens) == sum(request.max_tokens for request in plan.requests)
    return made


def test_a_plan_counts_the_memory_of_replicas_and_ends_where_they_have_no_room() -> None:
    plan, alone = plan_of(), plan_of("recovery=reprefill")
    extra = [page.total_bytes - own.total_bytes for page, own in zip(plan.pages, alone.pages, strict=True)]
    assert sum(extra) > 0
    tight = [own.total_bytes + 2000 for own in alone.pages]
    with pytest.raises(InfeasibleError, match="no room for replicas of"):
        plan_of(devices_of(*tight))
    made = run(plan)
    assert made.devices.measured.peak_bytes == {
        device.name: page.total_bytes for device, page in zip(plan.cluster.devices, plan.pages, strict=True)
    }


def test_rows_cost_links_what_their_bytes_are() -> None:
    """Every row of every cache once, with a header for each shipment, beside what steps send."""
    plan = plan_of()
    with_, without = run(plan), run(plan_of("recovery=none"))
    sent = [sum((made.devices.measured.sent_bytes or {}).values()) for made in (with_, without)]
    shape, costs = plan.model.shape, plan.costs
    rows = 7 + 20 - 2  # the last two tokens: of one nothing is written, of the other the run has ended
    heads = shape.n_layers * shape.n_groups
    assert sent[0] - sent[1] >= heads * costs.kv_bytes(rows)
    assert sent[0] - sent[1] <= heads * (costs.kv_bytes(rows + 1) + costs.header_bytes * 20)


@pytest.mark.parametrize("network", ["{bandwidth: 1 Gbit/s, delay: 0 ms}", "{bandwidth: 50 kbit/s, delay: 200 ms}"])
@pytest.mark.parametrize("at_token", [1, 12])
@pytest.mark.parametrize("device", [0, 1, 2])
def test_a_loss_costs_two_token_times_at_most(network: str, at_token: int, device: int) -> None:
    """Whatever a token takes: 0.8 ms, of which several pass until rows are on their way, or 2.5 s."""
    plan = plan_of(f"network.default={network}")
    token_s = max(row.latency_s for row in run(plan).tokens if row.step)
    (recovery,) = run(crashing(plan, (device, at_token))).recorded.rows["recoveries"]
    assert recovery.restored_s - recovery.noticed_s <= token_s, "and the step that was given up takes another"
    assert recovery.bytes == 0


def holder_of(plan: Plan, owner: int) -> int:
    """The first device with replicas of what another owns."""
    return min(holder for block, holder in plan.replicas if plan.placement.owner[block] == owner)


def test_of_two_that_are_lost_at_once_the_second_is_as_if_there_were_no_replicas() -> None:
    plan = plan_of(devices_of(*[1 << 23] * 4))
    holder = holder_of(plan, 1)
    (recovery,) = run(crashing(plan, (1, 8), (holder, 8))).recorded.rows["recoveries"]
    assert recovery.rows >= 7 + 7
    first, second = run(crashing(plan, (1, 6), (holder, 14))).recorded.rows["recoveries"]
    assert max(first.rows, second.rows) <= 2, "the replicas are there again"


def test_a_second_replica_is_good_for_the_second_loss() -> None:
    plan = plan_of(devices_of(*[1 << 23] * 4), "recovery={caches: replicate, replicas: 2}")
    (recovery,) = run(crashing(plan, (1, 8), (holder_of(plan, 1), 8))).recorded.rows["recoveries"]
    assert recovery.rows <= 2


def test_a_run_goes_on_without_replicas_that_have_no_room_any_more() -> None:
    roomy = plan_of()
    sizes = [page.total_bytes for page in roomy.pages]
    plan = crashing(plan_of(devices_of(*[size + 50_000 for size in sizes])), (1, 8), (2, 16))
    made = Telling(plan)
    try:
        asyncio.run(made.run())
    except InfeasibleError:
        assert len(made.recorded.rows["recoveries"]) == 2, "one device cannot hold the model"
    assert made.recorded.rows["recoveries"][0].rows <= 2
    assert any("no replicas from" in line for line in made.lines)


def half_of(source: int, target: int) -> Callable[[ClusterView, Placement | None], Placement]:
    def place(_: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        there = [block for block, device in sorted(current.owner.items()) if device == source]
        return current.moved(there[: len(there) // 2], target)

    return place


class Dropping(SimulatedBackend):
    """Notes how many replicas there are to be."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.counts: list[int] = []

    async def hold_replicas(self, epoch: int, replicas: frozenset[Replica], *, load: bool) -> None:
        self.counts.append(len(replicas))
        await super().hold_replicas(epoch, replicas, load=load)


def test_replicas_give_way_to_blocks_that_move() -> None:
    sizes, more = [page.total_bytes for page in plan_of().pages], 0
    plan = None
    while plan is None:  # as little memory as there can be
        more += 2000
        with suppress(InfeasibleError):
            plan = plan_of(devices_of(*(size + more for size in sizes)), "decisions.interval=6")
    devices = Dropping(replace(plan, decide=half_of(0, 1)))
    made = RecordedRun(devices.plan, devices)
    asyncio.run(made.run())
    assert "committed" in {row.outcome for row in made.migrations}
    assert 0 in devices.counts
    assert len(made.tokens) == 20
