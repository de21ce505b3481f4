"""MDI-LLM's partition (arXiv 2505.18164): a ring of nodes with the ends of the model on the starter. Pure.

The starter has the embedding, the first layers, the final norm, the output matrix and the sampling, so that every hop
carries one activation; secondary nodes have layers only. Recurrent pipeline parallelism is how several sequences run on
the ring (`workload: {concurrency: …}`), not part of the placement.
"""

from itertools import pairwise

import numpy as np

from edgeemu.placement.blocks import EMBED, LM_HEAD
from edgeemu.placement.placement import Placement
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.search.pipeline_stages import Stage, StageCosts
from edgeemu.policies.view.cluster_view import ClusterView

# Layers of the starter and of each secondary, by the model's layers and the number of nodes. Source: the authors'
# public code (MDI-LLM), for equal nodes.
TABLE = {
    (12, 2): (5, 7),
    (12, 3): (2, 5),
    (22, 2): (10, 12),
    (22, 3): (6, 8),
    (22, 4): (4, 6),
    (22, 5): (2, 5),
    (32, 2): (14, 18),
    (32, 3): (8, 12),
    (32, 4): (5, 9),
    (32, 5): (4, 7),
    (36, 2): (16, 20),
    (36, 3): (10, 13),
    (48, 2): (22, 26),
    (48, 3): (14, 17),
}


@planned_once
def place(view: ClusterView) -> Placement:
    """Partition as the authors' table does, where it has the model and the nodes are equal; else balanced [D].

    All devices are nodes, in the order of the scenario from the source device on; a model with fewer layers than
    devices takes as many nodes as it has layers. The partition is static: it is kept while it fits.
    """
    costs = StageCosts(view)
    nodes = view.nodes[: costs.n_layers]
    shares = _published(costs, nodes)
    if shares is None:
        shares = balanced(costs, nodes)
    if shares is None:
        raise costs.too_small("MDI-LLM's ring", nodes)
    stages, first = [], 0
    for node, share in zip(nodes, shares, strict=True):
        end = first + share + (first == 0)
        stages.append(Stage(node, first, end))
        first = end
    owner = dict(costs.placement(stages).owner)
    return Placement({**owner, EMBED: nodes[0], LM_HEAD: nodes[0]})


def _published(costs: StageCosts, nodes: list[int]) -> list[int] | None:
    """The layers of each node by the authors' table, if it has them and they fit."""
    alike = len({costs.view.devices[node].compute for node in nodes}) == 1
    entry = TABLE.get((costs.n_layers, len(nodes)))
    if entry is None or not alike:
        return None
    shares = [entry[0]] + [entry[1]] * (len(nodes) - 1)
    rooms = [costs.room(nodes[0], embed=True, lm_head=True), *map(costs.room, nodes[1:])]
    return shares if all(share <= room for share, room in zip(shares, rooms, strict=True)) else None


def balanced(costs: StageCosts, nodes: list[int]) -> list[int] | None:
    """The layers of each node, one at least, with the least time per token of the busiest node or link.

    A dynamic program over the nodes in the order of the ring, exact for that order: best(node, layers done) = min over
    the node's layers of max(best(node before, layers done before), the node's own time). None: nothing fits.
    """
    layers = np.arange(costs.n_layers + 1)
    starter = nodes[0]
    ends_s = costs.view.time_s(EMBED, starter) + costs.view.time_s(LM_HEAD, starter)
    best_s = ends_s + layers * costs.layer_s[starter]  # [n_layers + 1], by layers done
    best_s[(layers < 1) | (layers > costs.room(starter, embed=True, lm_head=True))] = np.inf
    came_from = []
    for before, node in pairwise(nodes):
        share = layers[None, :] - layers[:, None]  # [done before, done after]
        own_s = np.maximum(share * costs.layer_s[node], costs.occupied_s(before, node))
        own_s[(share < 1) | (share > costs.room(node))] = np.inf
        through_s = np.maximum(best_s[:, None], own_s)
        came_from.append(through_s.argmin(axis=0))
        best_s = through_s.min(axis=0)
    if not np.isfinite(best_s[-1]):
        return None
    shares, done = [], costs.n_layers
    for origins in reversed(came_from):
        shares.append(done - int(origins[done]))
        done = int(origins[done])
    return [done, *reversed(shares)]
