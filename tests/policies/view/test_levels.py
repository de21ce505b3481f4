"""Levels of noisy measurements: what noise alone sets apart is drawn together, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.placement.arrays import FloatArray
from edgeemu.policies.view.levels import STEADY, TURN, believed, followed, weights

LEVELS = st.lists(st.floats(0.5, 5.0), min_size=1, max_size=30).map(np.array)


def test_an_observation_counts_less_the_longer_a_level_lasts() -> None:
    level, near = np.ones(1), np.zeros(1)
    found = []
    for _ in range(20):
        near = followed(near, level, np.array([1.2]))
        found.append(float(weights(0.5, near)[0]))
    assert found[:3] == [1 / 3, 1 / 4, 1 / 5]
    assert found[-1] == 1 / (2 + STEADY)
    assert followed(near, level, np.array([1.01 * TURN])).tolist() == [0.0]
    assert followed(near, level, np.array([0.99 / TURN])).tolist() == [0.0]
    assert weights(0.5, np.zeros(1)).tolist() == [0.5]


@QUICK
@given(LEVELS, st.floats(0.0, 1.0), st.floats(0.01, 1.0))
def test_levels_never_change_places_nor_leave_those_that_there_are(
    levels: FloatArray, variance: float, smoothing: float
) -> None:
    found = believed(levels, np.full(len(levels), STEADY), variance, smoothing)
    order = levels.argsort(kind="stable")
    assert (np.diff(found[order]) >= -1e-12).all()
    assert levels.min() - 1e-12 <= found.min()
    assert found.max() <= levels.max() + 1e-12


@QUICK
@given(LEVELS, st.floats(0.01, 1.0))
def test_what_is_known_without_noise_is_believed(levels: FloatArray, smoothing: float) -> None:
    near = np.full(len(levels), STEADY)
    assert believed(levels, near, 0.0, smoothing).tolist() == levels.tolist()
    assert believed(levels, near, 1.0, 1.0).tolist() == levels.tolist()  # only the newest counts
    assert believed(levels, 0 * near, 1.0, smoothing).tolist() == levels.tolist()  # all have just left their levels


def test_who_is_far_from_others_is_believed() -> None:
    levels = np.array([1.0, 1.01, 0.99, 1.02, 0.98, 3.0])
    found = believed(levels, np.full(6, STEADY), 0.02, 0.5)
    assert found[-1] == 3.0
    assert np.ptp(found[:-1]) < 0.5 * np.ptp(levels[:-1])


@pytest.mark.parametrize(("apart", "share"), [(0.0, 0.2), (0.1, 0.9)])
def test_devices_are_drawn_together_by_as_much_as_noise_sets_them_apart(apart: float, share: float) -> None:
    """25 devices whose measurements are 10 % off, of which every other one is slower, or none."""
    random, n = np.random.default_rng(7), 25
    true = np.where(np.arange(n) % 2 == 0, 1.0, 1.0 + apart)
    levels, near, variance = true.copy(), np.zeros(n), 0.0
    kept = []
    for _ in range(400):
        newest = true * (1.0 + 0.1 * random.uniform(-1.0, 1.0, n))
        near = followed(near, levels, newest)
        variance += (float((((newest - levels) / levels) ** 2).mean()) - variance) / 8
        levels = levels + weights(0.5, near) * (newest - levels)
        kept.append(np.ptp(believed(levels, near, variance, 0.5)) / np.ptp(levels))
    assert (np.mean(kept[100:]) < share) == (apart == 0.0)
