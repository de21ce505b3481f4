"""The plan of a run: model, cluster, workload, first placement, and the rules of decisions and migrations."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import ceil
from typing import TYPE_CHECKING, NamedTuple, Self

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import Costs
from edgeemu.placement.memory import MemoryPage, Usage
from edgeemu.placement.message_overheads import with_message_overheads
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Op, Program
from edgeemu.placement.replicas import Replica, place_replicas, replica_bytes
from edgeemu.placement.shipments import weight_bytes
from edgeemu.policies import COLLECTIVES, Policy
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.run.policy_process.separate_policy import SeparatePolicy
from edgeemu.run.requests import Request
from edgeemu.scenario.recovery import FLASH, LostCaches
from edgeemu.scenario.scenario import Scenario
from edgeemu.timeline.kernel_times import KernelTimes, relative_s
from edgeemu.timeline.prediction import SequenceTimes, predict_workload
from edgeemu.timeline.scheduler import Scheduler
from edgeemu.timeline.steps import Duration, Step, roofline_durations
from edgeemu_kernels.weights.open_model import Model

if TYPE_CHECKING:
    from edgeemu.run.resume.continuation import Continuation


class RecoveryRules(NamedTuple):
    """Rules of recovery: where lost weights and caches come from, and how lost devices are noticed."""

    caches: LostCaches = "none"
    interval_s: float = 1.0  # between two beats
    misses: int = 3  # beats without an answer after which a device is lost
    heartbeat_bytes: int = 64  # of a beat, and of its answer
    store: int | None = None  # device whose storage has all weights; None: every device reads from its own
    replicas: int = 0  # devices that each have a copy of a cache

    @classmethod
    def of(cls, scenario: Scenario) -> Self:
        recovery, heartbeat = scenario.recovery, scenario.recovery.heartbeat
        return cls(
            caches=recovery.caches,
            interval_s=heartbeat.interval,
            misses=heartbeat.misses,
            heartbeat_bytes=heartbeat.size,
            store=None if recovery.weights == FLASH else scenario.members(recovery.weights)[0],
            replicas=recovery.replicas if recovery.caches == "replicate" else 0,
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules of decisions and migrations: how often the policy is asked, how its time counts, and how blocks move."""

    interval_tokens: int
    threshold: float  # relative change below which the policy is not asked
    decision_s: float | None  # time of a decision on the timeline; None: as measured, times `Plan.decision_scale`
    decision_limit_s: float  # of processor time
    precopy: bool
    weights_on_flash: bool
    flash_bytes_per_s: float
    chunk_bytes: int
    recovery: RecoveryRules

    @classmethod
    def of(cls, scenario: Scenario) -> Self:
        decisions, migration = scenario.decisions, scenario.migration
        return cls(
            interval_tokens=decisions.interval,
            threshold=decisions.threshold,
            decision_s=None if decisions.time == "measured" else decisions.time,
            decision_limit_s=decisions.limit,
            precopy=migration.mode == "precopy",
            weights_on_flash=migration.weights_on_flash,
            flash_bytes_per_s=migration.flash_bandwidth,
            chunk_bytes=migration.chunk,
            recovery=RecoveryRules.of(scenario),
        )


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before a device is started. `decide` is the policy to ask during the run, if any."""

    scenario: Scenario
    policy: str
    model: Model
    cluster: Cluster
    computes: tuple[Compute, ...]  # nominal speed of each device, with no other work on it
    links: LinkMatrix  # without variation or events
    view: ClusterView
    requests: tuple[Request, ...]
    placement: Placement
    placed_in_s: float
    rules: Rules
    decide: Policy | SeparatePolicy | None = None
    decision_scale: float = 1.0  # processor time on the device that decides, over that on this host
    placer: Policy | SeparatePolicy | None = None  # the policy to ask for a placement when devices are lost, if any
    cut: str = ""  # why the placement is what the policy offered last before its limit, and not its answer
    resumed: "Continuation | None" = None  # the run that this one goes on from

    @property
    def absolute_policy(self) -> str:
        """The name of the policy, which for that of a file means the same in every directory."""
        return self.decide.absolute_name if isinstance(self.decide, SeparatePolicy) else self.policy

    def close(self) -> None:
        """End the process of a user's policy, if there is one."""
        for policy in (self.decide, self.placer):
            if isinstance(policy, SeparatePolicy):
                policy.close()

    @property
    def costs(self) -> Costs:
        return self.view.exact

    @property
    def concurrency(self) -> int:
        """Number of sequences that run at once, at most."""
        return min(self.scenario.workload.concurrency, len(self.requests))

    @cached_property
    def program(self) -> Program:
        return self.compiled(self.placement)

    def compiled(self, placement: Placement) -> Program:
        """Compile a placement to operations, with the collectives of the scenario."""
        return compiler(self.scenario, self.computes, self.costs)(placement)

    def usages(self, placement: Placement) -> list[Usage]:
        """Return what each device holds under a placement, with all concurrent sequences at their full lengths."""
        return self.view.usages(placement)

    @cached_property
    def pages(self) -> list[MemoryPage]:
        """Memory of each device at its most, with the replicas that it holds."""
        usages = self.usages(self.placement)
        pages = [usage.page() for usage in usages]
        for block, holder in self.replicas:
            page, weights_bytes = pages[holder], weight_bytes(block, self.costs)
            cache_bytes = replica_bytes(block, usages[holder]) - weights_bytes
            pages[holder] = page._replace(
                weights_bytes=page.weights_bytes + weights_bytes, cache_bytes=page.cache_bytes + cache_bytes
            )
        return pages

    @cached_property
    def replicas(self) -> frozenset[Replica]:
        """Replicas of all blocks under the first placement; none, if the rules want none.

        Raises:
            InfeasibleError: devices have no room for them.
        """
        return self.replicas_of(self.placement, [device.memory_bytes for device in self.view.devices])

    def replicas_of(
        self, placement: Placement, memory_bytes: Sequence[int], before: Collection[Replica] = ()
    ) -> frozenset[Replica]:
        """Return the replicas that the rules want of a placement, on devices with so much memory (0: of none).

        Raises:
            InfeasibleError: devices have no room for them.
        """
        wanted = min(self.rules.recovery.replicas, sum(size > 0 for size in memory_bytes) - 1)
        if wanted <= 0:
            return frozenset()
        bits = 8.0 * self.costs.kv_bytes(1)
        return place_replicas(
            placement,
            wanted,
            self.usages(placement),
            memory_bytes,
            lambda owner, holder: self.view.links.pair(owner, holder, bits),
            before,
        )

    @property
    def durations(self) -> Duration:
        """Duration of an operation by the roofline; for devices relative to the host, by its measured speed."""
        return roofline_durations(self.computes, self.costs)

    def scheduler(self) -> Scheduler:
        """Return a scheduler of all sequences, before any of them has begun."""
        bubbles = self.scenario.workload.pipeline == "bubbles"
        return Scheduler(self.requests, self.concurrency, bubbles=bubbles)

    def predictions(
        self, lengths: Sequence[int] | None = None, kernel_times: KernelTimes | None = None
    ) -> list[SequenceTimes]:
        """Simulate the complete workload under the first placement.

        `lengths` are the tokens of each sequence; without them, all run to their full lengths. `kernel_times` are what
        kernels took on devices relative to the host; without them, they run by the host's measured speed.
        """
        lengths = lengths or [request.max_tokens for request in self.requests]
        duration = self.durations if kernel_times is None else self._measured_durations(kernel_times)
        rows = frozenset({1, *(len(request.ids) for request in self.requests)})
        program = compiler(self.scenario, self.computes, self.costs, rows)(self.placement)
        return predict_workload(self.cluster, self.costs, program, duration, self.scheduler(), lengths)

    def _measured_durations(self, kernel_times: KernelTimes) -> Duration:
        by_roofline = self.durations

        def duration_s(op: Op, step: Step) -> float:
            device = self.cluster.devices[op.device]
            measured = device.compute is None and not op.moves_message
            cpu_s = kernel_times.known(op, step.rows) if measured else None
            return by_roofline(op, step) if cpu_s is None else relative_s(device, op, cpu_s)

        return duration_s


def arithmetic_rows(computes: Sequence[Compute], value_bytes: float) -> int:
    """Return the least rows of a matrix product for which arithmetic takes as long as reading weights, on any device.

    `value_bytes` are those of a weight. [D] Smaller tiles would read the weights once more each, and take longer than
    the messages that they hide.
    """
    return max(1, *(ceil(value_bytes * device.flops_per_s / (2 * device.mem_bytes_per_s)) for device in computes))


def with_collectives(scenario: Scenario, policy_name: str) -> Scenario:
    """Return the scenario with the collectives of a policy that has its own, where it says nothing itself."""
    sharding = scenario.sharding
    if sharding.collectives is not None or policy_name not in COLLECTIVES:
        return scenario
    return scenario.model_copy(
        update={"sharding": sharding.model_copy(update={"collectives": COLLECTIVES[policy_name]})}
    )


def compiler(
    scenario: Scenario, computes: Sequence[Compute], costs: Costs, rows: Collection[int] | None = None
) -> Callable[[Placement], Program]:
    """Return the compiler of placements to operations, with the collectives of the scenario. It can be pickled.

    `rows`: numbers of rows of the steps that will run; None: any.
    """
    tile_rows, collective = least_tile_rows(scenario, computes, costs), scenario.sharding.collectives or "ring"
    compiled = partial(compile_routes, shape=costs.shape, collective=collective, tile_rows=tile_rows, rows=rows)
    busy = frozenset(index for index, compute in enumerate(computes) if compute.messages_cost)
    return partial(_with_overheads, compiled, busy) if busy else compiled


def _with_overheads(compiled: Callable[[Placement], Program], busy: frozenset[int], placement: Placement) -> Program:
    return with_message_overheads(compiled(placement), busy)


def least_tile_rows(scenario: Scenario, computes: Sequence[Compute], costs: Costs) -> int | None:
    """Return the rows of a chunk from which on products are computed chunk by chunk; None: never."""
    return arithmetic_rows(computes, costs.weight_value_bytes) if scenario.sharding.tile_overlap else None
