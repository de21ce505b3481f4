"""Annealed first placements: changes keep every share; what is found fits, repeats, and uses short memory well."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builders import QUICK, shapes, view, with_links

from edgeemu.cluster.devices import Compute
from edgeemu.policies.search.share_annealing import annealed, changed
from edgeemu.policies.search.share_proposals import ShareProposer, simple_seeds
from edgeemu.policies.search.share_search import MISSING, ShareJudge, ShareSearch
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.share_needs import ShareNeeds
from edgeemu.policies.view.shares import WITH_HEADS, ShareArrays
from edgeemu_kernels.shape import ModelShape

MIB = 2**20
WIDE = ModelShape("wide", 2, 256, 8, 4, 32, 2048, 2048, 512)
COMPUTES = (Compute(4e9, 2e9, 0.0), Compute(1e9, 5e8, 1e-5), Compute(2e9, 5e8, 1e-4))
EVERYONE = np.arange(3)


def tight() -> ClusterView:
    """Three devices of which none has room for a whole layer and its ends."""
    seen = view(WIDE, [int(mib * MIB) for mib in (12, 6, 6)], COMPUTES, 8, 40)
    return with_links(seen, 1e8, 5e-3)


@settings(QUICK, max_examples=30)
@given(st.data())
def test_a_change_keeps_all_shares(data: st.DataObject) -> None:
    shape, divide = data.draw(shapes(max_layers=6)), data.draw(st.booleans())
    seen = replace(view(shape, [MIB] * 3, COMPUTES, 8, 40), divide=divide)
    chance = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    made = simple_seeds(seen, EVERYONE)
    for _ in range(8):
        before = made.keys()
        after = changed(made, shape, chance, divide=divide)
        assert made.keys() == before  # in place is only the copy
        made = after
    assert (made.heads.sum(-1) == shape.n_groups).all()
    assert (made.units.sum(-1) == shape.ffn_units).all()
    assert min(made.heads.min(), made.units.min()) >= 0
    assert divide or (made.whole_ffn & made.whole_proj).all()
    for number in range(len(made)):
        made.placement(number, shape, EVERYONE).check(shape, 3)


def test_annealed_placements_fit_and_are_better_than_where_descents_end() -> None:
    judge = ShareJudge(tight(), EVERYONE, 30)
    search = ShareSearch(judge, 3e5, ShareNeeds(judge.memory))
    seeds = simple_seeds(search.judge.view, EVERYONE)
    descended, _ = search.all_from(seeds)[0]
    found = annealed(search.judge, seeds)
    costs = search.judge.costs(found)
    assert costs.max() < MISSING
    assert costs.min() < descended * 0.9
    assert annealed(search.judge, seeds).keys() == found.keys()


def test_the_search_goes_on_from_many_annealed_placements() -> None:
    """The best that is annealed need not lead to the best end: here the 8 best led to one that is 2.8 % slower."""
    shape = ModelShape("one", 1, 1792, 28, 4, 64, 4864, 3904, 128)
    computes = Compute(6.695e9, 7.618e9, 1e-4), Compute(3.81e9, 1.009e9, 1e-4), Compute(28.23e9, 9.398e9, 0.0)
    rates, delays = {1: 32.397e6, 2: 83.046e6, 3: 111.225e6}, {1: 296e-6, 2: 193e-6, 3: 8.486e-3}  # by sum of numbers
    links = LinkMatrix.of_pairs(3, lambda a, b: rates[a + b], lambda a, b: delays[a + b])
    seen = replace(view(shape, [60_137_000, 112_407_000, 80_381_000], computes, 38, 62), links=links, tile_rows=8)
    heads = np.array([[[1, 0, 3]], [[2, 0, 2]]])
    units = np.array([[[13, 35, 16]], [[0, 64, 0]]])
    proposed = ShareArrays(np.zeros(2, np.int64), np.array([2, 2]), heads, np.array([[WITH_HEADS], [0]]), units)
    proposer = ShareProposer(seen, [proposed.placement(number, shape, EVERYONE) for number in range(2)], 24)
    best = ShareArrays.of(next(proposer.placements()), shape, EVERYONE)
    assert best is not None
    assert best.heads.tolist() == [[[2, 2, 0]]]


def test_a_model_of_many_layers_is_not_annealed() -> None:
    deep = view(replace(WIDE, n_layers=40), [MIB] * 3, COMPUTES, 8, 40)
    assert len(annealed(ShareJudge(deep, EVERYONE, 30), simple_seeds(deep, EVERYONE))) == 0


@pytest.mark.parametrize("n_layers", [1, 9])
def test_many_layers_change_in_runs(n_layers: int) -> None:
    shape = replace(WIDE, n_layers=n_layers)
    seen = view(shape, [MIB] * 3, COMPUTES, 8, 40)
    chance = np.random.default_rng(1)
    made = simple_seeds(seen, EVERYONE)
    for _ in range(50):
        made = changed(made, shape, chance, divide=True)
    runs = (np.abs(np.diff(made.units, axis=1)).sum(-1) > 0).sum(1) + 1
    assert runs.max() <= min(n_layers, 4)
