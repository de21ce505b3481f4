"""Memory of every process of a run whose blocks move at every token: at the end as at the beginning."""

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest
import uvloop
from support.moving import make

from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.report.record_buffer import RecordBuffer
from edgeemu.report.record_files import RecordWriter
from edgeemu.run.buffered_records import buffered
from edgeemu.run.controller import Controller
from edgeemu.run.observer import Silent
from edgeemu.run.processes.backend import ProcessBackend

SEQUENCES, TOKENS = 15, 24
SETTINGS = (
    f"workload.prompts=[{{tokens: 4, repeat: {SEQUENCES}}}]",
    f"workload.max_tokens={TOKENS}",
    "decisions.threshold=0",
)
TRACED_BYTES = 100  # of each token, at most: a step's rows take thousands


def restless(view: ClusterView, current: Placement | None) -> Placement:
    """Move the block that has been longest where it is; all of them have their turn."""
    assert current is not None
    block = next(iter(current.owner))
    others = {kept: device for kept, device in current.owner.items() if kept != block}
    return Placement({**others, block: (current.owner[block] + 1) % len(view.devices)})


class Held(NamedTuple):
    """Memory and files of the processes when a sequence has ended."""

    traced_bytes: int
    resident_pages: list[int]
    files: list[int]


class Looking(Silent):
    """Looks at the processes after every sequence."""

    def __init__(self) -> None:
        self.backend: ProcessBackend
        self.records: RecordBuffer
        self.seen: list[Held] = []

    def sequence_ended(self, index: int) -> None:
        del index
        self.records.flush()  # what waits differs from sequence to sequence
        processes = [Path("/proc/self"), *(Path(f"/proc/{pid}") for pid in self.backend.process_ids.values())]
        gc.collect()
        pages = [int((process / "statm").read_text().split()[1]) for process in processes]
        files = [len(list((process / "fd").iterdir())) for process in processes]
        self.seen.append(Held(tracemalloc.get_traced_memory()[0], pages, files))


@contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


@pytest.mark.alone  # memory of processes that others' caches and pauses would blur
def test_nothing_grows_while_blocks_move(tmp_path: Path) -> None:
    plan = make(*SETTINGS, decide=restless)
    looking = Looking()
    looking.backend = ProcessBackend(plan, looking.phase)

    async def run() -> None:
        async with buffered(RecordWriter(tmp_path)) as looking.records:
            records = looking.records
            await Controller(plan, looking.backend, looking, records).run()

    with traced():
        uvloop.run(run())
    assert len(looking.seen) == SEQUENCES
    settled = looking.seen[2 * SEQUENCES // 3 :]  # NumPy keeps small arrays of every size for the next of that size
    early, late = settled[0], settled[-1]
    assert late.files == early.files
    # The median of the sequences: a list that was just enlarged, or a message in flight, is in one or two of them.
    growths_bytes = [after.traced_bytes - before.traced_bytes for before, after in pairwise(settled)]
    assert median(growths_bytes) < TRACED_BYTES * TOKENS
    for before, after in zip(early.resident_pages[1:], late.resident_pages[1:], strict=True):
        assert after < 1.02 * before
