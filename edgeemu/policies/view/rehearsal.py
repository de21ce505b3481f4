"""Simulation of the start of a planned run with a given placement. Pure; knows no device processes.

It uses the cluster as it is at the start, without later loads and events, which no controller knows. Unlike
`step_time` it has everything that the simulator has: several sequences at once, interfaces and access points that links
share, jitter and loss, prompts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum

from edgeemu.cluster.cluster import Cluster
from edgeemu.placement.costs import Costs
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Program
from edgeemu.policies.view.cluster_view import Rehearsed
from edgeemu.timeline.prediction import predict_workload
from edgeemu.timeline.scheduler import Scheduler
from edgeemu.timeline.steps import Duration

TOKENS = 8  # of each sequence that runs at once, at most
OPERATIONS = 10_000  # of decode steps, about 0.2 s: with more, fewer tokens are simulated,
LEAST_TOKENS = 3  # but so many,
MOST_OPERATIONS = 30_000  # and none if these take more operations


@dataclass(frozen=True, slots=True)
class Length:
    """A sequence to simulate, which arrives at the beginning."""

    prompt_tokens: int
    new_tokens: int
    arrival_s: None = None


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Simulates placements on a cluster that stands still. `concurrency` of the sequences run at once."""

    cluster: Cluster
    costs: Costs
    duration: Duration
    compiled: Callable[[Placement], Program]
    lengths: Sequence[Length]
    concurrency: int
    bubbles: bool = False

    def __call__(self, placement: Placement) -> Rehearsed | None:
        """Latency and throughput of a placement; None: the program is too large to simulate in a moment."""
        program = self.compiled(placement)
        simulated = self.lengths[: self.concurrency]
        operations = len(simulated) * sum(op.steps.has(1) for op in program.ops)  # of a token of each sequence
        if operations * LEAST_TOKENS > MOST_OPERATIONS:
            return None
        tokens = max(LEAST_TOKENS, min(TOKENS, OPERATIONS // operations))
        schedule = Scheduler(simulated, self.concurrency, bubbles=self.bubbles)
        cut = [min(tokens, length.new_tokens) for length in simulated]
        made = predict_workload(self.cluster, self.costs, program, self.duration, schedule, cut)
        per_token_s = [
            (times.sampled_s[0] - times.start_s + (length.new_tokens - 1) * (times.tpot_s or 0.0)) / length.new_tokens
            for length, times in zip(simulated, made, strict=True)
        ]
        latency_s = fsum(per_token_s) / len(per_token_s)
        return Rehearsed(latency_s, self.concurrency / latency_s)  # the next sequence starts at once
