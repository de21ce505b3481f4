"""The ready queue against a plain list that is searched for the next: whatever is pushed and taken, in any order."""

from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.timeline.ready_queue import ReadyQueue, Waiting

_WAITING = st.builds(
    Waiting, st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 2), st.integers(0, 1), st.integers(0, 3), st.booleans()
)


class SearchedList:
    """List that is searched: sends of the step that ran last, its others, then who waits longest."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Waiting, int]] = []
        self.last = (-1, -1)

    def pop(self) -> tuple[Waiting, int]:
        def rank(one: tuple[Waiting, int]) -> tuple[bool, bool, Waiting, int]:
            waiting, number = one
            other = waiting[1:3] != self.last
            return other, other or not waiting.sends, waiting, number

        found = min(self.waiting, key=rank)
        self.waiting.remove(found)
        self.last = found[0].sequence, found[0].step
        return found


@QUICK
@given(st.lists(st.one_of(_WAITING, st.just("pop"), st.tuples(st.integers(0, 2), st.integers(0, 1))), max_size=40))
def test_the_order_is_that_of_a_list_that_is_searched(happens: list[Waiting | str | tuple[int, int]]) -> None:
    queue, listed = ReadyQueue[int](), SearchedList()
    for number, what in enumerate([*happens, *["pop"] * len(happens)]):
        if isinstance(what, Waiting):
            queue.push(what, number)
            listed.waiting.append((what, number))
        elif isinstance(what, tuple):
            queue.bypass(*what)
            listed.last = what
        elif listed.waiting:
            assert queue.pop() == listed.pop()
        assert bool(queue) == bool(listed.waiting)
