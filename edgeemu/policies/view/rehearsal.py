"""What a placement would come to in the run that is planned: its beginning, on the timeline. Pure; knows no devices.

Made from data sheets: the cluster as it is at the start, without what will happen to it, because no controller knows
that. Unlike `makespan` it sees all that the simulator does: several sequences at once, interfaces and access points
that links share, jitter and loss, prompts.
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
OPERATIONS = 30_000  # of a rehearsal, about half a second: with more in its decode steps, fewer tokens are played
LEAST_TOKENS = 3


@dataclass(frozen=True, slots=True)
class Length:
    """A sequence to play: it is there from the beginning."""

    prompt_tokens: int
    new_tokens: int
    arrival_s: None = None


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Plays placements on a cluster that nothing happens to. `concurrency` of the sequences run at once."""

    cluster: Cluster
    costs: Costs
    duration: Duration
    compiled: Callable[[Placement], Program]
    lengths: Sequence[Length]
    concurrency: int
    bubbles: bool = False

    def __call__(self, placement: Placement) -> Rehearsed | None:
        """Latency and throughput; None: the program is too large to be played in a moment."""
        program = self.compiled(placement)
        played = self.lengths[: self.concurrency]
        tokens = min(TOKENS, OPERATIONS // (len(played) * sum(op.steps.has(1) for op in program.ops)))
        if tokens < LEAST_TOKENS:
            return None
        schedule = Scheduler(played, self.concurrency, bubbles=self.bubbles)
        cut = [min(tokens, length.new_tokens) for length in played]
        made = predict_workload(self.cluster, self.costs, program, self.duration, schedule, cut)
        per_token_s = [
            (times.sampled_s[0] - times.start_s + (length.new_tokens - 1) * (times.tpot_s or 0.0)) / length.new_tokens
            for length, times in zip(played, made, strict=True)
        ]
        latency_s = fsum(per_token_s) / len(per_token_s)
        return Rehearsed(latency_s, self.concurrency / latency_s)  # a slot that becomes free is taken at once
