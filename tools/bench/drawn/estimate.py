"""A quick estimate of a decode step, divided layers included: the dataflow of `placement.compile`, without events.

It is the simulator's time but for the order of messages in a pipe, so a search can drop most candidates by it.
"""

from collections.abc import Callable
from functools import lru_cache

from drawn.candidate import Candidate, Counts, near, owners
from edgeemu.placement.blocks import Kind
from edgeemu.placement.work import Work, roofline_s
from edgeemu.policies.view.cluster_view import ClusterView

Send = Callable[[int, int, float, float], float]  # source, target, begin, bits -> arrival


class StepEstimate:
    """Decode steps of one cluster, by candidate."""

    def __init__(self, view: ClusterView) -> None:
        self.costs, self.past = view.costs, view.past
        self.computes = [device.compute for device in view.devices]
        n = range(len(view.devices))
        self.s_per_bit = [[view.links.s_per_bit.pair(a, b) for b in n] for a in n]
        self.delay_s = [[view.links.delay_s.pair(a, b) for b in n] for a in n]
        self.x_bits = 8.0 * self.costs.activation_bytes(1)
        self.op_s = lru_cache(maxsize=None)(self._op_s)
        self.sum_s = lru_cache(maxsize=None)(self._sum_s)

    def _op_s(self, device: int, kind: Kind, number: int) -> float:
        """One block, a number of groups, or a number of shards (0: undivided)."""
        costs, past = self.costs, self.past
        if number and kind in (Kind.PROJ, Kind.FFN):
            return roofline_s(self.computes[device], costs.shard_work(kind, 0, range(1, number + 1), 1, past))
        return roofline_s(self.computes[device], costs.work(kind, max(1, number), 1, past))

    def _sum_s(self, device: int, terms: int) -> float:
        work: Work = self.costs.rows_work(terms + 1, 1, terms - 1)
        return roofline_s(self.computes[device], work)

    def step_s(self, at: Candidate) -> float:
        free: dict[tuple[int, int], float] = {}

        def send(source: int, target: int, begin_s: float, bits: float) -> float:
            if source == target:
                return begin_s
            end_s = max(begin_s, free.get((source, target), 0.0)) + bits * self.s_per_bit[source][target]
            free[source, target] = end_s
            return end_s + self.delay_s[source][target]

        token_s = send(at.lm_head, at.embed, 0.0, 8.0 * self.costs.token_bytes())
        x = {at.embed: token_s + self.op_s(at.embed, Kind.EMBED, 0)}  # by device: when it has x

        def whole(device: int) -> float:
            if device not in x:
                source = next(iter(x))
                arrived[device] = arrived.get(device) or send(source, device, x[source], self.x_bits)
                return arrived[device]
            return x[device]

        last = len(at.layers) - 1
        for number, layer in enumerate(at.layers):
            held = _devices(layer.heads)
            divided_proj, divided_ffn = len(_devices(layer.proj)) > 1, len(_devices(layer.ffn)) > 1
            ring = sorted(
                {*(held + _devices(layer.proj) if divided_proj else ()), *(_devices(layer.ffn) if divided_ffn else ())}
            )
            arrived: dict[int, float] = {}
            for device in sorted({*held, *(_devices(layer.proj) if not divided_proj else ring)}):
                whole(device)
            done = {d: whole(d) + self.op_s(d, Kind.HEAD, layer.heads[d]) for d in held}
            if not divided_proj:
                (p,) = _devices(layer.proj)
                outputs = [send(d, p, done[d], self._attention_bits(layer.heads[d])) for d in held]
                x = {p: max(whole(p), *outputs) + self.op_s(p, Kind.PROJ, 0)}
            else:
                parts = self._projected(layer.heads, layer.proj, done, send)
                x = self._summed({d: whole(d) for d in ring}, parts, ring, send)
            arrived = {}
            if not divided_ffn:
                (f,) = _devices(layer.ffn)
                x = {f: whole(f) + self.op_s(f, Kind.FFN, 0)}
                continue
            parts = {d: whole(d) + self.op_s(d, Kind.FFN, layer.ffn[d]) for d in _devices(layer.ffn)}
            if number == last:
                x = self._summed({at.lm_head: whole(at.lm_head)}, parts, [at.lm_head], send)
            else:
                following = at.layers[number + 1]
                needs = [d for d in ring if following.heads[d] or following.proj[d] or following.ffn[d]]
                x = self._summed({d: whole(d) for d in ring}, parts, needs or ring[:1], send)
        arrived = {}
        return whole(at.lm_head) + self.op_s(at.lm_head, Kind.LM_HEAD, 0)

    def _attention_bits(self, groups: int) -> float:
        return 8.0 * self.costs.attention_bytes(groups, 1)

    def _projected(self, heads: Counts, proj: Counts, done: dict[int, float], send: Send) -> dict[int, float]:
        """When each device of a divided projection has its partial sum."""
        at = owners(heads)
        needs: dict[int, set[int]] = {}
        for source, target in zip(at, near(proj, at), strict=True):
            needs.setdefault(target, set()).add(source)
        found = {}
        for target, sources in sorted(needs.items()):
            outputs = [send(d, target, done[d], self._attention_bits(heads[d])) for d in sorted(sources)]
            found[target] = max(outputs) + self.op_s(target, Kind.PROJ, proj[target])
        return found

    def _summed(self, x: dict[int, float], parts: dict[int, float], takers: list[int], send: Send) -> dict[int, float]:
        """When each taker has the sum of x and all partial sums."""
        found = {}
        for taker in takers:
            terms = [send(source, taker, ready_s, self.x_bits) for source, ready_s in parts.items()]
            found[taker] = max(x[taker], *terms) + self.sum_s(taker, len(parts) + 1)
        return found


def _devices(counts: Counts) -> list[int]:
    return [device for device, count in enumerate(counts) if count]
