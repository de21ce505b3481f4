"""Prediction of a workload by the timeline alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgeemu.cluster.cluster import Cluster
from edgeemu.placement.costs import Costs
from edgeemu.placement.program import Program
from edgeemu.timeline.lone_steps import LoneSteps
from edgeemu.timeline.scheduler import Due, Scheduler
from edgeemu.timeline.simulator import Simulator
from edgeemu.timeline.steps import Duration


@dataclass(slots=True)
class SequenceTimes:
    """Instants of a sequence: its arrival, the release of its first step, and the sampling of each token."""

    arrival_s: float = 0.0
    start_s: float = 0.0
    sampled_s: list[float] = field(default_factory=list)

    @property
    def ttft_s(self) -> float:
        """Time to first token, from the arrival: queueing for a slot included."""
        return self.sampled_s[0] - self.arrival_s

    @property
    def tpot_s(self) -> float | None:
        """Mean time per output token after the first; None where there is only one."""
        later = len(self.sampled_s) - 1
        return (self.sampled_s[-1] - self.sampled_s[0]) / later if later else None


def predict_workload(
    cluster: Cluster,
    costs: Costs,
    program: Program,
    duration: Duration,
    schedule: Scheduler,
    max_tokens: Sequence[int],
) -> list[SequenceTimes]:
    """Predict every sequence at its full length, as the scheduler runs them, events at tokens included."""
    simulator: Simulator | LoneSteps
    if schedule.concurrency == 1:
        simulator = LoneSteps(cluster, costs, duration)
    else:
        simulator = Simulator(cluster, costs, duration, records=False)
    made = [SequenceTimes() for _ in max_tokens]
    happen = _events(cluster, simulator)
    while schedule.unfinished:
        for due in schedule.admit():
            made[due.step.sequence] = SequenceTimes(due.since_s, due.at_s)
            happen(due)
        for due in schedule.release():
            simulator.start(due.step, program, due.at_s)
        by_s = schedule.next_arrival_s
        token = simulator.next_token(by_s)
        if token is None:
            assert by_s is not None, "a step that was started ends with a token"
            schedule.advance_to(by_s)
            continue
        sequence, number = token.step.sequence, token.step.step
        made[sequence].sampled_s.append(token.sampled_s)
        following = schedule.complete(token.step, token.sampled_s, ended=number + 1 == max_tokens[sequence])
        if following is not None:
            happen(following)
    return made


def _events(cluster: Cluster, simulator: Simulator | LoneSteps) -> Callable[[Due], None]:
    def happen(due: Due) -> None:
        for change in cluster.events_at(due.step.step) if due.step.sequence == 0 else ():
            simulator.change(change, due.at_s)

    return happen
