"""Where a run had come to: slots that were free, steps that wait, and the events that had happened by then."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeemu.run.resume.continuation import free_slots_s
from edgeemu.timeline.scheduler import Due, Scheduler
from edgeemu.timeline.steps import Step

TOKEN_S = 1.0


class Asked:
    """A request that arrives as soon as there is a slot for it."""

    prompt_tokens = 3
    arrival_s = None


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], [0.0, 0.0]),
        ([(0.0, None)], [0.0]),
        ([(0.0, None), (0.0, None)], []),
        ([(0.0, 4.0), (0.0, None)], [4.0]),
        ([(0.0, 4.0), (0.0, 5.0), (4.0, None)], [5.0]),
        ([(0.0, 4.0), (0.0, 5.0), (4.0, 9.0), (5.0, 7.0)], [7.0, 9.0]),
    ],
)
def test_slots_are_free_since_the_last_sequence_in_them_ended(
    spans: list[tuple[float, float | None]], expected: list[float]
) -> None:
    assert sorted(free_slots_s(2, spans)) == expected


def tokens(scheduler: Scheduler, lengths: Sequence[int], most: int) -> list[tuple[Step, float]]:
    """Steps with the instants of their tokens, as they end one after the other; at most so many."""
    flying, found = list[Due](), list[tuple[Step, float]]()
    while scheduler.unfinished and len(found) < most:
        list(scheduler.admit())
        flying += scheduler.release()
        at_s, due = min((due.at_s + TOKEN_S + due.step.sequence / 16, due) for due in flying)
        flying.remove(due)
        scheduler.complete(due.step, at_s, ended=due.step.step + 1 == lengths[due.step.sequence])
        found.append((due.step, at_s))
    return found


@given(st.integers(1, 4), st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(1, 40))
def test_a_scheduler_that_resumes_generates_what_is_missing(concurrency: int, lengths: list[int], cut: int) -> None:
    """One scheduler is cut off after some tokens; another is told of them, and generates all others, later."""
    asked = [Asked()] * len(lengths)
    before = tokens(Scheduler(asked, concurrency), lengths, cut)
    now_s = before[-1][1]
    done: dict[int, list[float]] = {}
    for step, at_s in before:
        done.setdefault(step.sequence, []).append(at_s)
    ended = {n: instants_s[-1] for n, instants_s in done.items() if len(instants_s) == lengths[n]}
    open_s = {n: instants_s for n, instants_s in done.items() if n not in ended}
    slots_s = free_slots_s(concurrency, [(of[0] - TOKEN_S - n / 16, ended.get(n)) for n, of in done.items()])
    assert len(slots_s) == concurrency - len(open_s)

    resumed = Scheduler(asked, concurrency)
    waiting = [Due(Step(n, len(of), 1, 2 + len(of)), of[-1], now_s) for n, of in open_s.items()]
    resumed.resume(waiting, ended, slots_s, now_s)
    rest = tokens(resumed, lengths, sum(lengths))
    steps = [step[:2] for step, _ in [*before, *rest]]
    assert sorted(steps) == [(n, step) for n, length in enumerate(lengths) for step in range(length)]
    assert all(at_s > now_s for _, at_s in rest)
    assert all(step.past == (2 + step.step if step.step else 0) for step, _ in rest)
