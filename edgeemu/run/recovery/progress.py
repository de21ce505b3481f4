"""Progress of a recovery: what it has cost so far, and how far it has come. Pure."""

from dataclasses import dataclass, field

from edgeemu.placement.blocks import Block
from edgeemu.placement.valid_rows import ValidRows
from edgeemu.run.recovery.fault_clock import Occurrence


@dataclass(slots=True)
class RecoveryProgress:
    """Progress of a recovery, on the timeline."""

    began_s: float  # the fault
    noticed_s: float
    cause: Occurrence | None = None  # of the first loss; None: a resumed run has lost nothing yet
    decided_s: float | None = None  # when the first placement was
    placed_s: float = 0.0
    lost: set[int] = field(default_factory=set)
    cleared: set[int] = field(default_factory=set)  # survivors that gave up what they held
    blocks: set[Block] = field(default_factory=set)  # that lost devices had
    moves: int = 0
    sent_bytes: int = 0
    rows: int = 0  # that were computed again
    sequences: int = 0  # that waited
    attempts: int = 0
    in_vain: int = 0  # attempts in a row that began with no fewer rows to compute than the one before
    valid: ValidRows | None = None  # rows of caches, from the first attempt on
    lacking: int | None = None  # rows that the last attempt had to compute when it began
    done: bool = False
    none_filled: bool = False  # no cache has any rows, when it begins

    def begin(self, cause: Occurrence, noticed_s: float) -> None:
        """Note the first loss."""
        self.cause, self.began_s, self.noticed_s = cause, cause.began_s, noticed_s

    def note_lacking(self, rows: int) -> None:
        """Note how many rows an attempt has to compute: if fewer than the one before, that was not in vain."""
        if self.lacking is None or rows < self.lacking:
            self.in_vain = 0
        self.in_vain += 1
        self.lacking = rows
