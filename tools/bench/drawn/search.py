"""A long search for the best placement of an instance: many descents from many starts, judged by the simulator.

Starts are what policies place, random and disturbed placements, and annealed ones (by the estimate of a step alone).

Its moves change one part of one layer, or of all layers alike: a part goes to one device, some of it from a device to
another, is divided by speed, or has its shares in common with another part. Both ends move, layers become equal to
others, devices change places. Every candidate is checked by the real rule of memory before it is simulated.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations, permutations
from math import exp, inf

from drawn.candidate import Candidate, Counts, Layer, candidate_of
from drawn.estimate import StepEstimate
from drawn.instance import NEW_TOKENS, Instance
from edgeemu.placement.placement import Placement
from edgeemu.policies.search.apportion import largest_remainders

PARTS = ("heads", "proj", "ffn")
STEPS = (1, 2, 4, 8, 16, 32)
KICKS = (2, 3, 4, 6)  # random moves between two descents
ANNEALED = 2_000  # steps of one annealing
PENALTY = 20.0  # for what does not fit, as a share of all that is held
CHECK = 0.1  # of a simulation, that a check of memory costs
DOES_NOT_FIT_S = 1e6  # more than any latency
SLACK = 0.95  # what estimates may be wrong by
ENOUGH = 1 - 1e-6  # factor below which a candidate is better


@dataclass
class LongSearch:
    """The best candidate so far, and what is known of all that were tried. `budget` simulations are left."""

    made: Instance
    chance: random.Random
    budget: float
    best: Placement | None = None
    best_s: float = inf
    _known: dict[Candidate, float] = field(default_factory=dict)
    _least_ratio: float = inf  # of the first token's time to that of a later one

    def __post_init__(self) -> None:
        self.estimate = lru_cache(maxsize=None)(StepEstimate(self.made.view).step_s)
        self.shape = self.made.view.costs.shape
        self.n_devices = len(self.made.view.devices)
        self.speeds = [1 / self.made.view.layer_time_s(device) for device in range(self.n_devices)]
        self.totals = {"heads": self.shape.n_groups, "proj": self.shape.n_groups, "ffn": self.shape.ffn_units}

    def offer(self, placement: Placement) -> None:
        """Take a placement that somebody else found, if it fits and is better."""
        if self.made.view.holds(placement):
            self._note(placement, self.made.latency_s(placement))

    def run(self, starts: Iterable[Placement]) -> None:
        """Descend from every start, then from random ones and from disturbed good ones, until the budget is spent."""
        ends = [self._descend(candidate_of(each, self.shape, self.n_devices)) for each in starts]
        while self.budget > 0:
            self.budget -= 1  # even if everything on the way is known already
            dice = self.chance.random()
            if not ends or dice < 0.2:
                ends.append(self._descend(self.anything()))
                continue
            if dice < 0.6:
                begin = self.chance.choice(ends) if dice < 0.4 else self.anything()
                ends.append(self._descend(self._annealed(begin)))
                continue
            ends = sorted(set(ends), key=self.latency_s)[:8]
            begin = ends[min(int(self.chance.expovariate(0.8)), len(ends) - 1)]
            for _ in range(self.chance.choice(KICKS)):
                begin = self.chance.choice(list(self._moves(begin)))
            ends.append(self._descend(begin))

    def latency_s(self, candidate: Candidate) -> float:
        """Latency of a candidate; above any of those that fit, and more the more is missing, where it does not fit."""
        found = self._known.get(candidate)
        if found is None:
            found = self._known[candidate] = self._judged(candidate)
        return found

    def _judged(self, candidate: Candidate) -> float:
        view, placement = self.made.view, candidate.placement()
        pages = [usage.page().total_bytes for usage in view.usages(placement)]
        over = sum(max(0, page - d.memory_bytes) for page, d in zip(pages, view.devices, strict=True))
        if over:
            self.budget -= CHECK
            return DOES_NOT_FIT_S + over
        self.budget -= 1
        ttft_s, tpot_s = self.made.first_tokens_s(placement)
        self._least_ratio = min(self._least_ratio, ttft_s / tpot_s)
        latency_s = (ttft_s + (NEW_TOKENS - 1) * tpot_s) / NEW_TOKENS
        if latency_s < self.best_s * 1.001:
            latency_s = self.made.latency_s(placement)
            self._note(placement, latency_s)
        return latency_s

    def _note(self, placement: Placement, latency_s: float) -> None:
        if latency_s < self.best_s * ENOUGH:
            self.best, self.best_s = placement, latency_s

    def _descend(self, at: Candidate) -> Candidate:
        """Take the first better move, in a random order, until no move is better."""
        at_s, better = self.latency_s(at), True
        while better and self.budget > 0:
            better = False
            moves = list(self._moves(at))
            self.chance.shuffle(moves)
            for move in moves:
                if self.budget <= 0:
                    break
                if move not in self._known and self._hopeless(move, at_s):
                    continue
                if (found_s := self.latency_s(move)) < at_s * ENOUGH:
                    at, at_s, better = move, found_s, True
                    break
        return at

    def _annealed(self, at: Candidate) -> Candidate:
        """Anneal the estimate, with a penalty for what does not fit: ways lead through what does not (Kirkpatrick)."""
        at_s = begin_s = best_s = self._penalised_s(at)
        best = at
        for step in range(ANNEALED):
            self.budget -= CHECK / 4
            move = self._any_move(at)
            if move == at:
                continue
            move_s = self._penalised_s(move)
            warmth_s = 0.05 * begin_s * (1 - step / ANNEALED) ** 2 + 1e-12
            if move_s < at_s or self.chance.random() < exp((at_s - move_s) / warmth_s):
                at, at_s = move, move_s
            if at_s < best_s:
                best, best_s = at, at_s
        return best

    def _penalised_s(self, candidate: Candidate) -> float:
        view = self.made.view
        pages = [usage.page().total_bytes for usage in view.usages(candidate.placement())]
        over = sum(max(0, page - d.memory_bytes) for page, d in zip(pages, view.devices, strict=True))
        return self.estimate(candidate) * (1 + PENALTY * over / sum(pages))

    def _any_move(self, at: Candidate) -> Candidate:
        """A random change of a part of a layer or of two, or of the ends."""
        chance, layers = self.chance, self.shape.n_layers
        source, target = chance.sample(range(self.n_devices), 2)
        parts = chance.choice((("heads",), ("proj",), ("ffn",), ("ffn",), ("heads", "proj"), PARTS))
        one, step = chance.randrange(layers), chance.choice(STEPS)
        match chance.randrange(6):
            case 0:
                return at._replace(**{chance.choice(("embed", "lm_head")): target})
            case 1 if layers > 1:
                other = chance.choice([layer for layer in range(layers) if layer != one])
                there = _shifted(at.layers[one], parts, source, target, step)
                back = _shifted(at.layers[other], parts, target, source, step)
                return at._replace(layers=_with(at.layers, (one, other), [there, back]))
            case 2:
                share = {part: self._some_share(part) for part in parts}
                return at._replace(layers=_with(at.layers, (one,), [at.layers[one]._replace(**share)]))
        return at._replace(layers=_with(at.layers, (one,), [_shifted(at.layers[one], parts, source, target, step)]))

    def _hopeless(self, candidate: Candidate, at_s: float) -> bool:
        """Whether the estimate says that a candidate is slower; not asked where memory is still missing."""
        if at_s > DOES_NOT_FIT_S:
            return False
        steps = NEW_TOKENS - 1 + SLACK * self._least_ratio
        return SLACK * self.estimate(candidate) * steps / NEW_TOKENS > at_s

    def anything(self) -> Candidate:
        """A random candidate: all layers alike or each for itself."""
        alike = self.chance.random() < 0.5
        first = self._any_layer()
        layers = [first if alike else self._any_layer() for _ in range(self.shape.n_layers)]
        ends = self.chance.randrange(self.n_devices), self.chance.randrange(self.n_devices)
        return Candidate(*ends, tuple(layers))

    def _any_layer(self) -> Layer:
        heads, ffn = (self._some_share(part) for part in ("heads", "ffn"))
        return Layer(heads, heads if self.chance.random() < 0.5 else self._some_share("proj"), ffn)

    def _some_share(self, part: str) -> Counts:
        devices = self.chance.sample(range(self.n_devices), self.chance.randint(1, self.n_devices))
        return self._by_speed(part, tuple(devices))

    def _by_speed(self, part: str, devices: tuple[int, ...]) -> Counts:
        speeds = [self.speeds[d] if d in devices else 1e-12 for d in range(self.n_devices)]
        rooms = [self.totals[part] if d in devices else 0 for d in range(self.n_devices)]
        return tuple(largest_remainders(speeds, self.totals[part], rooms))

    def _moves(self, at: Candidate) -> Iterator[Candidate]:
        everyone = range(self.n_devices)
        for device in everyone:
            yield at._replace(embed=device)
            yield at._replace(lm_head=device)
            yield at._replace(embed=device, lm_head=device)
        for one, other in combinations(everyone, 2):
            yield _swapped(at, one, other)
        n_layers = self.shape.n_layers
        wheres = [(layer,) for layer in range(n_layers)] + ([tuple(range(n_layers))] if n_layers > 1 else [])
        for where in wheres:
            for layers in self._changed(at.layers, where):
                yield at._replace(layers=layers)
        for one, other in permutations(range(n_layers), 2):
            yield at._replace(layers=_with(at.layers, (one,), [at.layers[other]]))
            yield from self._traded(at, one, other)

    def _traded(self, at: Candidate, one: int, other: int) -> Iterator[Candidate]:
        """Some of a part goes from a device to another in one layer, and as much comes back in another layer."""
        for source, target in permutations(range(self.n_devices), 2):
            for parts in (("heads",), ("ffn",), ("heads", "proj")):
                for step in STEPS:
                    there = _shifted(at.layers[one], parts, source, target, step)
                    back = _shifted(at.layers[other], parts, target, source, step)
                    if there != at.layers[one] and back != at.layers[other]:
                        yield at._replace(layers=_with(at.layers, (one, other), [there, back]))

    def _changed(self, layers: tuple[Layer, ...], where: tuple[int, ...]) -> Iterator[tuple[Layer, ...]]:
        """The layers with some of them changed alike."""
        for device in range(self.n_devices):
            whole = Layer(*(self._by_speed(part, (device,)) for part in PARTS))
            yield _with(layers, where, [whole] * len(where))
        for parts in (("heads",), ("proj",), ("ffn",), ("heads", "proj"), PARTS):
            for size in range(1, self.n_devices + 1):
                for devices in combinations(range(self.n_devices), size):
                    shares = {part: self._by_speed(part, devices) for part in parts}
                    yield _with(layers, where, [layers[at]._replace(**shares) for at in where])
        yield _with(layers, where, [layers[at]._replace(proj=layers[at].heads) for at in where])
        for parts in (("heads",), ("proj",), ("ffn",), ("heads", "proj")):
            for source in range(self.n_devices):
                for target in range(self.n_devices):
                    for step in STEPS if source != target else ():
                        moved = [_shifted(layers[at], parts, source, target, step) for at in where]
                        if any(new != layers[at] for new, at in zip(moved, where, strict=True)):
                            yield _with(layers, where, moved)


def _with(layers: tuple[Layer, ...], where: tuple[int, ...], new: list[Layer]) -> tuple[Layer, ...]:
    found = list(layers)
    for layer, made in zip(where, new, strict=True):
        found[layer] = made
    return tuple(found)


def _shifted(layer: Layer, parts: tuple[str, ...], source: int, target: int, step: int) -> Layer:
    """The layer with `step` of each part, or all that is there, moved from a device to another."""
    shares = {}
    for part in parts:
        counts = list(getattr(layer, part))
        moved = min(step, counts[source])
        counts[source] -= moved
        counts[target] += moved
        shares[part] = tuple(counts)
    return layer._replace(**shares)


def _swapped(at: Candidate, one: int, other: int) -> Candidate:
    """The candidate with two devices in each other's place."""
    order = list(range(len(at.layers[0].heads)))
    order[one], order[other] = other, one
    layers = [Layer(*(tuple(counts[d] for d in order) for counts in layer)) for layer in at.layers]
    return Candidate(order[at.embed], order[at.lm_head], tuple(layers))
