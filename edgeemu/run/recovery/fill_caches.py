"""Steps that fill the caches that were lost, from the tokens so far. Pure."""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.timeline.steps import Step

# Rows of a step, at most: those of steps that have ended are there when another device is lost. A step of fewer rows
# would not be computed much faster than it is sent from device to device.
MOST_ROWS = 256


def most_rows(view: ClusterView, placement: Placement, rows: int) -> int:
    """Rows that a step which fills caches can have: all that are lacking, or half of them, … as devices have memory.

    No more than `MOST_ROWS`. One row needs no more than a token does.
    """
    rows = min(rows, MOST_ROWS)
    while rows > 1:
        workload = replace(view.workload, prompt_tokens=rows)
        past = view.total_tokens - rows
        pages = [usage.page(past) for usage in replace(view, workload=workload).usages(placement)]
        if all(page.total_bytes <= device.memory_bytes for page, device in zip(pages, view.devices, strict=True)):
            return rows
        rows = -(-rows // 2)
    return 1


def filling_steps(sequence: int, first_row: int, end_row: int, most_rows: int) -> deque[Step]:
    """Steps that compute the rows from `first_row` to `end_row` of a sequence's caches, at most `most_rows` each.

    They are numbered up to -1, so that each comes after the one before it.
    """
    firsts = range(first_row, end_row, most_rows)
    return deque(
        Step(sequence, number - len(firsts), min(first + most_rows, end_row) - first, first)
        for number, first in enumerate(firsts)
    )


def filling_of(rows: Mapping[int, tuple[int, int]], most_rows: int) -> dict[int, deque[Step]]:
    """Return the steps of each sequence whose caches lack rows: first and end row by sequence."""
    return {
        sequence: filling_steps(sequence, first, end, most_rows)
        for sequence, (first, end) in rows.items()
        if first < end
    }
