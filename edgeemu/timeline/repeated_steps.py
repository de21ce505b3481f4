"""Steps that find nothing else on the timeline: computed in arrays with their records, by those simulated before."""

from collections.abc import Sequence

import numpy as np

from edgeemu.cluster.cluster import Cluster
from edgeemu.placement.arrays import IntArray
from edgeemu.placement.costs import Costs
from edgeemu.placement.program import Program
from edgeemu.timeline.executed import Executed
from edgeemu.timeline.flow import Flow
from edgeemu.timeline.known_levels import KnownLevels
from edgeemu.timeline.step_records import StepRecord, StepRecords
from edgeemu.timeline.steps import Duration, Step


class RepeatedSteps:
    """Computes steps as the simulator would run them, once it has learned of the simulator how."""

    def __init__(self, cluster: Cluster, costs: Costs, duration: Duration) -> None:
        """`duration` follows from operation and step alone."""
        self._known = KnownLevels(cluster, costs, duration)
        self._records: StepRecords | None = None
        self._sent_bytes: IntArray = np.zeros(0, np.int64)  # in steps that were computed, by number of a connection

    def record(self, step: Step, program: Program, at_s: float, by_s: float) -> StepRecord | None:
        """Compute a step that is released when nothing is under way; None: it has to be simulated.

        That is so, too, if its token is sampled later than an instant: others can ask for what happens until then.
        """
        levels = self._known.of(step, program)
        if levels is None:
            return None
        if self._records is None or self._records.levels is not levels:
            self._records = StepRecords(levels)
        record = self._records.of(step, at_s)
        if record is None:
            self._known.forget()
        elif record.sampled_s <= by_s:
            self._known.spare()
            self._add_sent(record)
            return record
        return None

    def learn(self, step: Step, executed: Sequence[tuple[Flow, Executed]]) -> None:
        """Take the order in which a step has executed its operations for later ones; all that were since the last."""
        if not executed or not self._known.wants(step) or any(flow.step != step for flow, _ in executed):
            return
        wiring = executed[0][0].wiring
        if len(executed) == wiring.count(step):
            self._known.learn(step, wiring, [place for _, (place, *_) in executed])

    def give_up(self) -> None:
        """Have all later steps simulated."""
        self._known.give_up()

    def sent_bytes(self) -> dict[int, int]:
        """Return bytes that were sent in steps that were computed, by number of a connection."""
        return dict(enumerate(self._sent_bytes.tolist()))

    def _add_sent(self, record: StepRecord) -> None:
        numbers, size_bytes = record.messages[:2].astype(np.int64)
        added = np.bincount(numbers, size_bytes, minlength=len(self._sent_bytes)).astype(np.int64)
        added[: len(self._sent_bytes)] += self._sent_bytes
        self._sent_bytes = added
