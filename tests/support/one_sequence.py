"""The simulator driven for one sequence alone, for tests of what it says."""

from typing import NamedTuple

from edgeemu.cluster.cluster import Cluster
from edgeemu.placement.costs import Costs
from edgeemu.placement.program import Program
from edgeemu.timeline.simulator import Simulator
from edgeemu.timeline.steps import Duration, OperationRecord, Step


class Prediction(NamedTuple):
    """Prediction of one sequence by the timeline alone: the instant of every token, and every operation."""

    sampled_s: list[float]
    executions: list[OperationRecord]

    @property
    def ttft_s(self) -> float:
        return self.sampled_s[0]

    @property
    def tpot_s(self) -> float | None:
        """Mean time per output token after the first; None where there is only one."""
        later = len(self.sampled_s) - 1
        return (self.sampled_s[-1] - self.sampled_s[0]) / later if later else None


def predict(
    cluster: Cluster,
    costs: Costs,
    program: Program,
    duration: Duration,
    prompt_tokens: int,
    new_tokens: int,
    start_s: float = 0.0,
) -> Prediction:
    """Predict one sequence under a fixed placement, alone on the cluster, events at its tokens included."""
    simulator = Simulator(cluster, costs, duration)
    sampled: list[float] = []

    def begin(token: int, at_s: float) -> None:
        for change in cluster.events_at(token):
            simulator.change(change, at_s)
        rows, past = (1, prompt_tokens + token - 1) if token else (prompt_tokens, 0)
        simulator.start(Step(0, token, rows, past), program, at_s)

    begin(0, start_s)
    for token in simulator.tokens():
        sampled.append(token.sampled_s)
        if len(sampled) < new_tokens:
            begin(len(sampled), token.sampled_s)
    return Prediction(sampled, simulator.executions)
