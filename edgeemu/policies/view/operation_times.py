"""Nominal times of executed operations, many at once: what their devices would take for them without load. Pure."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from edgeemu.cluster.devices import Compute
from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.costs import Costs
from edgeemu.placement.program import Op
from edgeemu.timeline.columns import table
from edgeemu.timeline.executed import ExecutedOps, OpColumns
from edgeemu.timeline.operation_sizes import work_kinds
from edgeemu.timeline.steps import OperationRecord, Step


class DeviceTotals(NamedTuple):
    """Sums over the operations of each device, without those that take no time nominally: [n_devices] each."""

    number: IntArray  # of operations
    nominal_s: FloatArray
    busy_s: FloatArray
    waited_s: FloatArray  # from ready to start


class FoundOperations(NamedTuple):
    """Executed operations: their places among the known ones, their steps, and their instants."""

    at: IntArray  # [m] of the known operations
    steps: Sequence[Step]
    which_step: IntArray  # [m] index of `steps`
    ready_s: FloatArray  # [m]
    start_s: FloatArray  # [m]
    end_s: FloatArray  # [m]


class KnownOperations:
    """Operations of the last steps, by identity: the simulator has the same objects in every step of a program."""

    def __init__(self, about: OpColumns, costs: Costs) -> None:
        self.ops = about.ops  # kept: no other object has the identity of one of them
        self.devices = about.device  # [n_ops]
        self.kinds = work_kinds(about, costs)

    @cached_property
    def _index(self) -> dict[int, int]:
        return {id(op): at for at, op in enumerate(self.ops)}

    def find(self, ops: Sequence[Op]) -> IntArray | None:
        """Find operations; None: one is not known."""
        try:
            return np.fromiter(map(self._index.__getitem__, map(id, ops)), np.int64, len(ops))
        except KeyError:
            return None


class OperationTimes:
    """Sums of the times of executed operations, by device."""

    def __init__(self, nominal: Sequence[Compute], costs: Costs) -> None:
        """`nominal`: speeds without load."""
        self._costs = costs
        self.flops_per_s = np.array([each.flops_per_s for each in nominal])  # [n_devices]
        self.mem_bytes_per_s = np.array([each.mem_bytes_per_s for each in nominal])  # [n_devices]
        self.overhead_s = np.array([each.overhead_s for each in nominal])  # [n_devices]
        self.known = KnownOperations(OpColumns([]), costs)

    def totals(self, executions: Sequence[OperationRecord]) -> DeviceTotals:
        """Sum up operations of one step or of several."""
        at, steps, which_step, ready_s, start_s, end_s = self.found(executions)
        devices, which = self.known.devices[at], self.known.kinds.which(at)  # [m] each
        nominal_s = self._nominal_s(devices, which, steps, which_step)  # [m]
        busy_s, waited_s = end_s - start_s, start_s - ready_s  # [m] each
        tells = nominal_s != 0  # an operation that takes no time has no information
        if not tells.all():
            devices, nominal_s, busy_s, waited_s = (x[tells] for x in (devices, nominal_s, busy_s, waited_s))
        n = len(self.flops_per_s)

        def sums(times_s: FloatArray) -> FloatArray:
            return np.bincount(devices, times_s, minlength=n).astype(np.float64)

        return DeviceTotals(np.bincount(devices, minlength=n), sums(nominal_s), sums(busy_s), sums(waited_s))

    def found(self, executions: Sequence[OperationRecord]) -> FoundOperations:
        """Find the operations of records, and their instants."""
        if isinstance(executions, ExecutedOps):
            if executions.about.ops is not self.known.ops:
                self.known = KnownOperations(executions.about, self._costs)
            times = executions.ready_s, executions.start_s, executions.end_s
            return FoundOperations(executions.place, executions.steps, executions.which_step, *times)
        ops = [record[0] for record in executions]
        at = self.known.find(ops)  # [m]
        if at is None:
            self.known = KnownOperations(OpColumns(ops), self._costs)
            at = np.arange(len(ops))
        steps = [record[1] for record in executions]
        places = {step: place for place, step in enumerate(dict.fromkeys(steps))}
        which_step = np.array([places[step] for step in steps], np.int64)
        return FoundOperations(at, list(places), which_step, *table([record[2] for record in executions], 3))

    def _nominal_s(self, devices: IntArray, which: IntArray, steps: Sequence[Step], which_step: IntArray) -> FloatArray:
        """Duration of each operation on its device, by the roofline: [m]."""
        kinds = self.known.kinds.known
        if len(steps) == 1:
            flops, bytes_read = kinds.works(which, steps[0].rows, steps[0].past).T  # [m] each
        else:
            flops, bytes_read = np.empty((2, len(which)))
            for at, step in enumerate(steps):
                mine = which_step == at
                flops[mine], bytes_read[mine] = kinds.works(which[mine], step.rows, step.past).T
        overhead_s = self.overhead_s[devices]
        taken_s: FloatArray = np.maximum(flops / self.flops_per_s[devices], bytes_read / self.mem_bytes_per_s[devices])
        taken_s += overhead_s
        if kinds.starts_kernel[which].all():
            return taken_s
        taken_s = np.where(kinds.starts_kernel[which], taken_s, taken_s - overhead_s)
        return np.where(kinds.computes[which], taken_s, 0.0)
