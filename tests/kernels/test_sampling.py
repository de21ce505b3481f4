"""Sampling is a function of (logits, settings, step), and draws what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeemu_kernels.sampling import LogitsError, Sampling, probabilities, sample, uniform

LOGITS = np.log(np.array([0.05, 0.4, 0.1, 0.25, 0.2], np.float32))


def frequencies(sampling: Sampling, draws: int = 4000) -> np.ndarray:
    return np.bincount([sample(LOGITS, sampling, step) for step in range(draws)], minlength=5) / draws


def test_greedy_takes_the_lowest_id_in_a_tie() -> None:
    assert sample(np.array([1, 3, 3, 2], np.float32), Sampling(), 5) == 1


def test_draws_follow_the_distribution() -> None:
    np.testing.assert_allclose(frequencies(Sampling(temperature=1.0)), np.exp(LOGITS), atol=0.03)


def test_temperature_sharpens() -> None:
    sharp = np.exp(2 * LOGITS) / np.exp(2 * LOGITS).sum()
    np.testing.assert_allclose(frequencies(Sampling(temperature=0.5)), sharp, atol=0.03)
    assert frequencies(Sampling(temperature=1e-300), 20)[1] == 1


def test_top_k_and_top_p_cut() -> None:
    expected = np.array([0, 0.4, 0, 0.25, 0]) / 0.65
    np.testing.assert_allclose(frequencies(Sampling(1.0, top_k=2)), expected, atol=0.03)
    np.testing.assert_allclose(frequencies(Sampling(1.0, top_p=0.6)), expected, atol=0.03)
    ids, weights = probabilities(LOGITS, Sampling(1.0, top_k=4, top_p=0.85))
    assert ids.tolist() == [1, 3, 4]
    np.testing.assert_allclose(weights, np.array([0.4, 0.25, 0.2]) / 0.85, atol=1e-6)


def test_top_k_in_a_tie_keeps_the_lowest_ids() -> None:
    ids, _ = probabilities(np.array([0, 1, 1, 1], np.float32), Sampling(1.0, top_k=2))
    assert ids.tolist() == [1, 2]


def test_the_draw_depends_on_seed_and_step_alone() -> None:
    drawn = [sample(LOGITS, Sampling(1.0, seed=7), step) for step in range(50)]
    assert [sample(LOGITS, Sampling(1.0, seed=7), step) for step in reversed(range(50))] == drawn[::-1]
    assert [sample(LOGITS, Sampling(1.0, seed=8), step) for step in range(50)] != drawn
    assert [round(uniform(7, step), 12) for step in range(2)] == [0.625095466605, 0.770140951003]  # for ever


@given(st.integers(0, 10**6), st.floats(0.1, 5), st.integers(0, 300), st.floats(0.01, 1))
def test_what_is_drawn_was_allowed(seed: int, temperature: float, top_k: int, top_p: float) -> None:
    logits = np.random.default_rng(seed).standard_normal(200).astype(np.float32)
    sampling = Sampling(temperature, top_k, top_p, seed)
    ids, weights = probabilities(logits, sampling)
    assert sample(logits, sampling, 3) in ids
    assert weights.sum() == pytest.approx(1)
    assert len(ids) <= (top_k or 200)


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", -1.0), ("temperature", float("nan")), ("top_k", -1), ("top_p", 0.0)]
)
def test_settings_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Sampling(**{field: value})


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0), Sampling(0.5, top_k=2)])
@pytest.mark.parametrize("logit", [np.nan, np.inf])
def test_logits_that_are_not_finite_have_no_next_token(sampling: Sampling, logit: float) -> None:
    with pytest.raises(LogitsError, match=r"logits of token 7 \(from 0\) are not finite"):
        sample(np.array([1, logit, 2], np.float32), sampling, 7)
    with pytest.raises(LogitsError):
        sample(np.full(3, -np.inf, np.float32), sampling, 7)
