"""Learning from measurements by machine code: what `view.estimator` and `view.history` compute, in one call each."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.compiled.share_code import functions
from edgeemu.policies.compiled.watch_courses import TURNS, AllDeviceTimes, CourseForecasts, CourseTables
from edgeemu.policies.compiled.watch_links import LinkSums, NominalLinks
from edgeemu.policies.compiled.watch_operations import DeviceTimes, OperationKinds
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.estimator import Estimator
from edgeemu.policies.view.history import KEPT, DecisionTime, first_values
from edgeemu.policies.view.levels import TURN
from edgeemu.policies.view.link_estimates import LinkEstimates
from edgeemu.policies.view.link_factors import MOST_DEVICES, NO_LINKS, NONE_DOUBTFUL, Doubtful, Factors, LinkFactors
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.outlook import STAYS, Forecasts, Outlook
from edgeemu.policies.view.pair_matrix import COPIED, DenseMatrix, ScaledMatrix
from edgeemu.policies.view.scaling import Scaling
from edgeemu.timeline.columns import table
from edgeemu.timeline.network import Transit
from edgeemu.timeline.steps import OperationRecord
from edgeemu_kernels.arrays import address_of
from edgeemu_kernels.packed_tuples import Packed, packed

_ROOM = 512  # links, courses and decisions for which there is room at first
_SUMS = 5  # of a link
_LASTED = 8  # rows of a course before those of how long it lasted
_COURSE_ROWS = _LASTED + KEPT


class LinksCode(LinkEstimates):
    """Estimates of all pairs of devices that were measured so far."""

    def __init__(self, nominal: LinkMatrix, smoothing: float, at_start: Factors) -> None:
        super().__init__(nominal, smoothing, at_start)
        s_per_bit, delay_s = nominal.s_per_bit, nominal.delay_s
        assert isinstance(s_per_bit, DenseMatrix)
        assert isinstance(delay_s, DenseMatrix)
        self._functions = functions()
        self._matrices = s_per_bit, delay_s
        self._links = packed(NominalLinks, delay_s.n_devices, s_per_bit.values, delay_s.values)
        self._pairs: IntArray = np.array([self._codes, self._sources, self._targets, self._seen_at])
        self._counts = np.array([len(self._codes), 0])
        self._make_room(_ROOM)

    def _make_room(self, more: int) -> None:
        """Make room for so many pairs more at least, and for as many decisions again."""
        count, room = int(self._counts[0]), 2 * len(self._codes) + more
        pairs, sums, self._fits = np.zeros((4, room), np.int64), np.zeros((_SUMS, room)), np.empty((2, room))
        pairs[:, :count], sums[:, :count] = self._pairs[:, :count], self._sums[:, :count]
        self._pairs, self._sums, self._room, self._known_until = pairs, sums, room, 2 * self._turn + _ROOM
        powers = (1.0 - self.smoothing) ** np.arange(self._known_until + 2)
        places = *np.empty((2, room), np.int64), np.empty(room)
        self._packed = packed(LinkSums, room, self._counts, *pairs, sums, powers, *self._fits, *places)
        self._functions.observe_messages(*self.tables, 0, address_of(sums))  # none: they are fitted
        self._show()

    def _show(self) -> None:
        """Have the pairs where others look for them."""
        count = int(self._counts[0])
        self._codes, self._seen_at = self._pairs[0, :count], self._pairs[3, :count]
        self._sources, self._targets = self._pairs[1:3, :count].copy()  # kept by who asked for them

    def observe(self, transits: Iterable[Transit]) -> None:
        columns = np.ascontiguousarray(table(transits, len(Transit._fields)))  # [5, n_transits]
        count = columns.shape[1]
        if self._turn > self._known_until or len(self._codes) + count > self._room:
            self._make_room(count)
        self._functions.observe_messages(*self.tables, count, address_of(columns))
        self._factors = None
        if self._counts[0] != len(self._codes):
            self._show()

    def next_turn(self) -> None:
        super().next_turn()
        self._counts[1] = self._turn

    def fitted(self, delay: FloatArray, per_bit: FloatArray) -> LinkFactors:
        """Take over the estimates that machine code has written: [n_pairs] each."""
        self._factors = LinkFactors(self._sources, self._targets, delay, per_bit)
        return self._factors

    def scaled(self, scaling: Scaling, factors: LinkFactors, values: FloatArray) -> LinkMatrix:
        """The nominal links with these factors; `values`: seconds per bit and delays, as they are then, [2, n, n]."""
        s_per_bit, delay_s = self._matrices
        scaled = ScaledMatrix(s_per_bit, scaling, factors.per_bit, values[0])
        return LinkMatrix(scaled, ScaledMatrix(delay_s, scaling, factors.delay, values[1]))

    def scaling(self, factors: LinkFactors) -> Scaling:
        """How to find the links that these are the factors of: machine code keeps pairs in order, without numbers."""
        return Scaling(self._n_devices, factors.sources, factors.targets)

    def _sheet_of(self, numbers: IntArray) -> tuple[FloatArray, FloatArray]:
        return self.nominal.pairs_in_both(self._sources[numbers], self._targets[numbers])

    def _fitted(self) -> LinkFactors:
        return self.fitted(*self._fits[:, : len(self._codes)].copy())

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def tables(self) -> tuple[bytes, bytes]:
        """Links as machine code reads them: as the scenario has them, and as they were measured."""
        return self._links.at, self._packed.at


def has_estimator_code(nominal: LinkMatrix) -> bool:
    """Whether machine code estimates such links: of clusters that are not large."""
    return nominal.delay_s.n_devices <= COPIED and nominal.delay_s.values is not None


class EstimatorCode(Estimator):
    """Estimates from all measurements of a cluster so far, where `has_estimator_code`."""

    _link_estimates = LinksCode

    def _begin(self) -> None:
        n, times = len(self._slowdown), self._times
        speeds = times.flops_per_s, times.mem_bytes_per_s, times.overhead_s
        known = self._slowdown, self._queueing_s, self._worked
        levels = self._steady, self._near, self._noise, self._level
        self._first = np.full(n, np.nan)  # slowdowns before the first decision
        room = np.empty(n, np.int64), *np.empty((3, n))
        self._functions, self._found = functions(), np.zeros(3, np.int64)
        self._began, self._seen_s, self._values, self._work_s = np.empty(2), np.empty(1), np.empty(n), np.empty(n)
        self._all_devices = packed(AllDeviceTimes, self._began, self._seen_s, self._values, self._work_s)
        self._none_is_slow: LinkFactors | None = None  # of which no link is `TURN` times as slow as nominally
        self._devices = packed(DeviceTimes, n, self._smoothing, *speeds, *known, *levels, self._first, *room)
        self._of_devices, self._of_links = _CourseRoom(n, 0), _CourseRoom(_ROOM, 2)
        self._works, self._kinds = np.empty((2, 0, 2)), Packed(b"", ())  # of the steps that were observed last

    def observe_executions(self, executions: Sequence[OperationRecord]) -> None:
        at, steps, _, *times = self._times.found(executions)
        if len(steps) == 1:
            step, known = steps[0], self._times.known.kinds
            columns = (*map(np.ascontiguousarray, (at, *times)),)
            if self._added(step.rows, step.past, *columns):
                return
            known.known.works(known.which(at), step.rows, step.past)  # so that they are known
            if self._added(step.rows, step.past, *columns):
                return
        super().observe_executions(executions)

    def _add_states(self, shares: FloatArray) -> None:
        self._functions.observe_states(self._devices.at, address_of(shares), address_of(self._idle))

    def _settle(self) -> None:
        self._functions.settle(self._devices.at, address_of(self._variance))

    def _added(self, rows: int, past: int, *columns: NDArray[Any]) -> bool:
        """Add the operations of a step if the works of all are known; whether they are.

        `columns`: places in the program, and instants, [n_operations] each.
        """
        known, kinds = self._times.known, self._times.known.kinds.known
        works = kinds.table(rows, past)
        if works is not self._works:  # there are more kinds, or other rows
            self._works = works
            self._kinds = packed(OperationKinds, works.shape[1], works, kinds.computes, kinds.starts_kernel)
        of_program = address_of(known.devices), address_of(known.kinds.by_op)
        step = float(past), len(columns[0]), *map(address_of, columns)
        return bool(self._functions.observe_operations(self._devices.at, self._kinds.at, *of_program, *step))

    def _view(self, unloaded: ClusterView, **others: Any) -> ClusterView:
        links, n = self._links, len(self._slowdown)
        assert isinstance(links, LinksCode)
        begin, end = 4 * n, 4 * n + 2 * n * n
        room = np.empty(end + 2 * len(links))
        slow = self._functions.write_view(self._devices.at, *links.tables, address_of(room))
        slowdowns, *speeds = room[:begin].reshape(4, n)
        factors = links.fitted(*room[end:].reshape(2, -1))
        self._none_is_slow = None if slow else factors
        others["links"] = self._sheet
        if factors:
            others["links"] = links.scaled(self._scaling_of(factors), factors, room[begin:end].reshape(2, n, n))
        return unloaded.slowed(slowdowns, self._memory_bytes, *speeds, observed=factors, **others)

    def doubtful(self, worse: float, others: IntArray = NO_LINKS) -> Doubtful:
        if worse >= TURN and not len(others) and self._links.factors() is self._none_is_slow:
            return NONE_DOUBTFUL
        return super().doubtful(worse, others)

    def outlook(self, now: DecisionTime, bits: float) -> Outlook:
        if first := bool(np.isnan(self._first[0])):
            self._begin_courses(now)
        links, devices = self._of_links, self._of_devices
        assert isinstance(self._links, LinksCode)
        links.make_room(len(self._links))
        tables = self._devices.at, *self._links.tables, self._all_devices.at, devices.courses.at, links.courses.at
        places = devices.forecasts.at, links.forecasts.at, address_of(self._found)
        self._functions.observe_slowdowns(*tables, float(now.token), now.at_s, now.step_s, bits, *places)
        if first:
            devices.forget_turns()
        of_devices, of_links, unsteady = self._found.tolist()
        if not of_links:
            return Outlook(*devices.first(of_devices), unsteady=bool(unsteady)) if of_devices else STAYS
        known, forecasts = links.first(of_links)
        return Outlook(*devices.first(of_devices), *np.divmod(known, MOST_DEVICES), forecasts, bool(unsteady))

    def _begin_courses(self, now: DecisionTime) -> None:
        """Note what devices were before they were observed for the first time, which is now."""
        self._values[:] = self.slowdowns()
        self._first[:] = first_values(self._values)
        self._work_s[:] = now.step_s / self._first
        self._began[:], self._seen_s[:] = (now.at_s, now.step_s), now.at_s


class _CourseRoom:
    """Courses of many times, and places to write forecasts in, with room for more."""

    def __init__(self, room: int, n_parts: int) -> None:
        self._n_parts, self._counts, self._keys = n_parts, np.zeros(2, np.int64), np.empty(0, np.int64)
        self._table = np.empty((_COURSE_ROWS + 2 * n_parts, 0))
        self.make_room(room)

    def make_room(self, most: int) -> None:
        """Make room for so many courses."""
        if most <= len(self._keys):
            return
        count, room, parts = int(self._counts[0]), 2 * most, _COURSE_ROWS + self._n_parts
        keys, table = np.zeros(room, np.int64), np.zeros((len(self._table), room))
        keys[:count], table[:, :count] = self._keys[:count], self._table[:, :count]
        rows = *table[:_LASTED], table[_LASTED:_COURSE_ROWS], table[_COURSE_ROWS:parts], table[parts:]
        self._keys, self._table = keys, table
        self.courses = packed(CourseTables, room, len(table), self._n_parts, self._counts, keys, table, *rows)
        self._written = np.empty(room, np.int64), np.empty((3 + self._n_parts, room))  # keys, and forecasts of each
        keys, numbers = self._written
        self.forecasts = packed(CourseForecasts, keys, *numbers[:3], numbers[3:])

    def forget_turns(self) -> None:
        """Forget the turns so far: what is seen first only seems to have turned."""
        self._counts[TURNS] = 0

    def first(self, count: int) -> tuple[IntArray, Forecasts]:
        """Keys and forecasts of so many that were written."""
        keys, numbers = self._written
        numbers = numbers[:, :count].copy()
        return keys[:count].copy(), Forecasts(numbers[0], numbers[1], numbers[2], numbers[3:])
