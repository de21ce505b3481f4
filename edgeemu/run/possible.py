"""The figures that no placement of a scenario can beat, whichever policy makes it. Starts nothing."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import NamedTuple

from edgeemu.cluster.at_best import at_best
from edgeemu.cluster.cluster import Cluster
from edgeemu.policies import exact
from edgeemu.policies.search.lower_bound import least_busy_s, least_first_token_s, least_step_s
from edgeemu.policies.view.cluster_view import ClusterView, WorkloadView
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.run.requests import Request


class Possible(NamedTuple):
    """Proven bounds. `ttft_s` and `tpot_s`: no sequence has less; `throughput_tok_s`: all together have no more.

    `undivided`: the scenario divides no layers, and `tpot_s` is the optimum of whole blocks.
    """

    ttft_s: float
    tpot_s: float
    throughput_tok_s: float
    undivided: bool = False

    @property
    def by_figure(self) -> dict[str, float]:
        """The bounds by the keys and in the units of a comparison."""
        return {
            "ttft_ms": 1e3 * self.ttft_s,
            "tpot_ms": 1e3 * self.tpot_s,
            "throughput_tok_s": self.throughput_tok_s,
        }


def possible(
    cluster: Cluster, view: ClusterView, requests: Sequence[Request], concurrency: int, *, thorough: bool = False
) -> Possible | None:
    """Bounds for a workload, on the cluster at its best: all that varies as fast as it ever is.

    `view` is that of the first decision. None where nothing is known: devices are given as a share of the host, whose
    kernels take what they take, there are too many of them, nothing fits, or results are gathered. `thorough`: it may
    take seconds.
    """
    if view.gather or any(device.compute is None for device in cluster.devices):
        return None
    shortest = min(len(request.ids) for request in requests)
    total = min(request.total_tokens for request in requests)
    best = oracle_view(at_best(cluster), view.exact.uniform("least"), None, shortest, total)
    best = replace(best, star=view.star, workload=WorkloadView(shortest, total))
    ttft_s, tpot_s = least_first_token_s(best), least_step_s(best, shortest, thorough=thorough)
    whole_s = _whole_blocks_s(best) if thorough and not view.divide else 0.0
    undivided, tpot_s = whole_s > tpot_s, max(whole_s, tpot_s)
    if ttft_s == inf or tpot_s == inf:  # nothing fits
        return None
    token_s = min(ttft_s, tpot_s) / concurrency
    if concurrency > 1:  # one sequence alone keeps devices busy for no longer than its step takes
        token_s = max(token_s, least_busy_s(best, shortest - 1))
    return Possible(ttft_s, tpot_s, 1 / token_s, undivided) if token_s > 0 else None


def _whole_blocks_s(view: ClusterView) -> float:
    """The optimum of a decode step without divided layers; 0 where it would not be proven in seconds."""
    return exact.least_step_s(view) if exact.answers(len(view.devices), view.costs.shape.n_layers) else 0.0
