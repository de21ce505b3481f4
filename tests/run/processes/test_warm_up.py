"""The dilation is the least, in tenths, at which the host has headroom."""

from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.run.processes.warm_up import HEADROOM, TRANSPORT_FACTOR, WarmUpSpeed, smallest_dilation

tempos = st.builds(WarmUpSpeed, st.floats(1e-3, 10), st.floats(1e-4, 100))


@QUICK
@given(tempos, st.lists(tempos, max_size=7))
def test_it_is_enough_and_not_a_tenth_more(prefill: WarmUpSpeed, decode: list[WarmUpSpeed]) -> None:
    dilation = smallest_dilation(prefill, decode)
    assert dilation == round(dilation, 1) >= 1.0
    behind = sorted(step.wall_s / step.emulated_s for step in decode)
    middle = (behind[(len(behind) - 1) // 2] + behind[len(behind) // 2]) / 2 if behind else 0.0
    needed = HEADROOM * max(prefill.wall_s / prefill.emulated_s, middle)
    assert dilation >= needed - 1e-9
    assert dilation == 1.0 or dilation - 0.1 < needed + 1e-9


def test_a_host_that_is_fast_enough_is_not_slowed() -> None:
    assert smallest_dilation(WarmUpSpeed(1.0, 0.1), [WarmUpSpeed(0.1, 0.99 * 0.1 / HEADROOM)] * 4) == 1.0
    assert smallest_dilation(WarmUpSpeed(1.0, 0.1), []) == 1.0


def test_prefill_and_decode_each_have_to_keep_up() -> None:
    quick, slow = WarmUpSpeed(1.0, 0.1), WarmUpSpeed(1.0, 2.99 / HEADROOM)
    assert smallest_dilation(slow, [quick]) == smallest_dilation(quick, [slow]) == 3.0


def test_one_slow_token_does_not_slow_the_run() -> None:
    usual, hiccup = WarmUpSpeed(0.1, 0.01), WarmUpSpeed(0.1, 5.0)
    assert smallest_dilation(WarmUpSpeed(1.0, 0.5), [usual, hiccup, usual]) == 1.0


def test_on_real_links_the_clock_runs_slower_still() -> None:
    slow, quick = WarmUpSpeed(1.0, 1.9 / HEADROOM), WarmUpSpeed(1.0, 0.1)
    assert smallest_dilation(slow, [quick], real_links=True) == TRANSPORT_FACTOR * smallest_dilation(slow, [quick])
    assert smallest_dilation(quick, [quick], real_links=True) == TRANSPORT_FACTOR
