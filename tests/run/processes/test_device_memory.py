"""Memory that is recorded is that of one step after the other, in whatever order devices run them."""

import random
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.device.protocol_out import Report
from edgeemu.placement.ledger import CACHE, MESSAGES, WEIGHTS, WORKSPACE, Ledger
from edgeemu.report.usage_rows import ACCOUNTS
from edgeemu.run.processes.device_memory import DeviceMemory, StepMemory

ROW_BYTES = 10  # of a device's caches
PLENTY_BYTES = 1 << 30

Operation = tuple[int, bool]  # bytes of the message that it has, and whether it adds the step's rows to a cache


class RunSteps:
    """A device that runs steps, by sequence; each operation holds a message until it has run."""

    def __init__(self, rows: list[int], operations: list[list[Operation]], *, apart: bool) -> None:
        self.ledger = Ledger("pi", PLENTY_BYTES, steps_apart=apart)
        self.ledger.charge(WEIGHTS, 100)
        self.ledger.charge(WORKSPACE, 7)
        self._rows, self._left = rows, [list(reversed(each)) for each in operations]

    def run_next(self, sequence: int) -> Report | None:
        """Run the next operation of a step; return the report after its last."""
        step, (message_bytes, attends) = (sequence, 0), self._left[sequence].pop()
        self.ledger.charge_step(step, MESSAGES, message_bytes)
        if attends:
            self.ledger.charge_step(step, CACHE, ROW_BYTES * self._rows[sequence])
        self.ledger.release(MESSAGES, message_bytes)
        if self._left[sequence]:
            return None
        grown_bytes, page = self.ledger.take_growth(step), self.ledger.page()
        held = {"held": page, "grown_bytes": grown_bytes}
        return Report("pi", *step, 0, [], sum(page.values()), self.ledger.peak_bytes, **held)


def counted(
    report: Report, memory: DeviceMemory, rows: list[int], operations: Sequence[Sequence[Operation]]
) -> StepMemory:
    """Count a step's memory, whose own most is known from its operations."""
    sequence, cached_bytes, most_bytes = report.sequence, 0, 0
    for size_bytes, attends in operations[sequence]:
        cached_bytes += ROW_BYTES * rows[sequence] if attends else 0
        most_bytes = max(most_bytes, cached_bytes + size_bytes)
    return memory.after([(0, report)], rows[sequence], np.array([most_bytes]), sum(rows[: sequence + 1]))


steps = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(0, 99), min_size=1, max_size=4), st.integers(0, 3)),
    min_size=1,
    max_size=4,
)


@QUICK
@given(steps, st.randoms(use_true_random=False))
def test_steps_at_the_same_time_are_recorded_as_one_after_the_other(
    drawn: list[tuple[int, list[int], int]], draw: random.Random
) -> None:
    rows = [each[0] for each in drawn]
    operations = [[(size, n == at % len(sizes)) for n, size in enumerate(sizes)] for _, sizes, at in drawn]
    serial, expected = RunSteps(rows, operations, apart=False), []
    for sequence, each in enumerate(operations):
        (report,) = filter(None, (serial.run_next(sequence) for _ in each))
        expected.append(([report.held.get(account, 0) for account in ACCOUNTS], report.peak_bytes))

    order = [sequence for sequence, each in enumerate(operations) for _ in each]
    draw.shuffle(order)
    mixed, memory = RunSteps(rows, operations, apart=True), DeviceMemory(1)
    reports = sorted(filter(None, map(mixed.run_next, order)), key=lambda report: report.sequence)
    found = [counted(report, memory, rows, operations) for report in reports]
    assert [(each.held_bytes[:, 0].tolist(), int(each.peak_bytes[0])) for each in found] == expected
    assert mixed.ledger.page() == serial.ledger.page()
    assert mixed.ledger.peak_bytes == 107


def test_another_process_begins_with_a_peak_of_its_own() -> None:
    memory = DeviceMemory(1)
    high, low = (Report("pi", 0, n, 0, [], 0, 0, held={WEIGHTS: size}) for n, size in ((0, 50), (1, 20)))
    nothing = np.zeros(1, np.int64)
    assert [int(memory.after([(0, each)], 1, nothing, None).peak_bytes[0]) for each in (high, low)] == [50, 50]
    memory.restarted(0)
    assert memory.after([(0, low)], 1, nothing, None).peak_bytes.tolist() == [20]


def test_steps_that_are_given_up_leave_nothing_behind() -> None:
    ledger = Ledger("pi", PLENTY_BYTES, steps_apart=True)
    ledger.charge_step((0, 3), MESSAGES, 5)
    ledger.charge_step((1, 2), MESSAGES, 6)
    ledger.charge_step((1, 2), CACHE, 6)
    assert (ledger.used_bytes, ledger.peak_bytes) == (17, 0)
    ledger.give_up_steps(11)
    assert ledger.page() == {CACHE: 6}
    assert ledger.take_growth((0, 3)) == ledger.take_growth((1, 2)) == 0
