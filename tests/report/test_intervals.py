"""Bootstrap intervals: what they hold, and where there are none."""

import numpy as np
import pytest

from edgeemu.report.intervals import LEAST, Interval, gap_interval, mean_interval


@pytest.mark.parametrize(("values", "least", "most"), [(20, 0.88, 0.96), (LEAST, 0.78, 0.92)])
def test_the_interval_of_a_mean_holds_it_about_as_often_as_the_page_says(
    values: int, least: float, most: float
) -> None:
    """`docs/sweep.md`: of 20 normal values in 92 of 100 cases, of five in 85."""
    generator = np.random.default_rng(3)
    found = [mean_interval(generator.normal(10.0, 2.0, values)) for _ in range(100)]
    assert all(each.low is not None and each.low < each.value < (each.high or 0.0) for each in found)
    assert least <= sum(bool((each.low or 0.0) <= 10.0 <= (each.high or 0.0)) for each in found) / 100 <= most


def test_pairs_show_a_difference_that_the_spread_of_the_draws_hides() -> None:
    generator = np.random.default_rng(4)
    draws = generator.normal(10.0, 3.0, 12)
    slower = 1.02 * draws + generator.normal(0.0, 0.02, 12)
    assert mean_interval(slower).low < mean_interval(draws).value  # type: ignore[operator]
    found = gap_interval(slower, draws)
    assert found.value == pytest.approx(0.02, abs=0.005)
    assert found.differs_from_zero is True
    assert gap_interval(generator.permutation(slower), draws).differs_from_zero is False, "the pairs are lost"


def test_equal_figures_have_equal_intervals() -> None:
    values = [1.0, 2.0, 4.0, 3.0, 5.0]
    assert mean_interval(values) == mean_interval(values)
    assert gap_interval(values, values) == Interval(0.0, 0.0, 0.0)
    assert mean_interval([7.0] * LEAST) == Interval(7.0, 7.0, 7.0)


def test_a_constant_ratio_has_an_interval_all_the_same() -> None:
    found = gap_interval([1.5, 3.0, 4.5, 6.0, 9.0], [1.0, 2.0, 3.0, 4.0, 6.0])
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.differs_from_zero is True


def test_few_values_have_no_interval() -> None:
    assert mean_interval([1.0, 2.0]) == Interval(1.5)
    assert gap_interval([2.0] * (LEAST - 1), [1.0] * (LEAST - 1)) == Interval(1.0)
    assert Interval(1.0).differs_from_zero is None
