"""The benchmark of random clusters: its notation, its quick estimate, and the references that count as the best."""

import random

import pytest
from drawn.candidate import candidate_of, placement_of, written
from drawn.instance import NEW_TOKENS, instance
from drawn.references import load
from drawn.search import LongSearch

from edgeemu.policies.search.lower_bound import least_first_token_s, least_step_s


@pytest.mark.parametrize("number", [1, 6, 11])
def test_a_reference_fits_is_above_the_bound_and_better_than_what_is_disturbed(number: int) -> None:
    made, shape = instance(number), instance(number).view.costs.shape
    reference = placement_of(load()[number])
    reference.check(shape, len(made.view.devices))
    assert made.view.holds(reference)
    best_s = made.latency_s(reference)
    bound_s = (least_first_token_s(made.view) + (NEW_TOKENS - 1) * least_step_s(made.view)) / NEW_TOKENS
    assert bound_s <= best_s
    search = LongSearch(made, random.Random(number), 5)
    search.run([])
    assert search.best_s >= best_s * (1 - 1e-6)


def test_placements_are_written_and_read_and_searches_change_their_numbers() -> None:
    made = instance(2)
    shape, n_devices = made.view.costs.shape, len(made.view.devices)
    search = LongSearch(made, random.Random(3), 0)
    for _ in range(20):
        candidate = search.anything()
        placement = candidate.placement()
        placement.check(shape, n_devices)
        assert placement_of(written(placement, shape, n_devices)) == placement
        assert candidate_of(placement, shape, n_devices) == candidate
        _, tpot_s = made.first_tokens_s(placement)
        assert search.estimate(candidate) == pytest.approx(tpot_s, rel=0.1)
