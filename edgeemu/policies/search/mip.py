"""A mixed-integer program that is built row by row, and solved by HiGHS. Knows numbers only.

HiGHS (through SciPy) is loaded at the first solve: it takes a tenth of a second, and most runs never need it.
"""

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeemu.errors import EdgeemuError

OPTIMAL, INFEASIBLE = 0, 2  # statuses of SciPy's milp

Columns = np.ndarray[Any, np.dtype[np.int64]]
Values = np.ndarray[Any, np.dtype[np.float64]]
Terms = Sequence[tuple[float, int]]


class UnprovenError(EdgeemuError):
    """No optimum was proven within the time limit."""


@dataclass(slots=True)
class MixedIntegerProgram:
    """Minimise a linear cost of variables ≥ 0, some of them integers, under linear constraints."""

    cost: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, *dims: int, cost: float = 0.0, upper: float = np.inf, integer: bool = False) -> Columns:
        """Add variables from 0 to `upper`; their numbers, in an array of these dimensions."""
        start, count = len(self.cost), int(np.prod(dims))
        self.cost += [cost] * count
        self.upper += [upper] * count
        self.integer += [int(integer)] * count
        return np.arange(start, start + count).reshape(dims)

    def row(self, terms: Terms, low: float = -np.inf, high: float = np.inf) -> None:
        """Add the constraint low <= sum of factor x variable <= high."""
        for factor, column in terms:
            self.values.append(factor)
            self.rows.append(len(self.low))
            self.columns.append(int(column))
        self.low.append(low)
        self.high.append(high)

    def equal(self, terms: Terms, value: float = 0.0) -> None:
        """Add the constraint sum of factor x variable = value."""
        self.row(terms, value, value)

    def solve(self, time_limit_s: float) -> Values | None:
        """Find the values of the optimum, to a millionth of its cost; None: it is proven that there is no solution.

        Raises:
            UnprovenError: neither is known after `time_limit_s`, or HiGHS failed.
        """
        result = self._solved(time_limit=time_limit_s)
        if result.status == INFEASIBLE:
            return None
        if result.status != OPTIMAL:
            raise UnprovenError(f"HiGHS has no proven optimum after {time_limit_s:.0f} s: {result.message}")
        values: Values = result.x
        return values

    def bound(self, nodes: int) -> float:
        """A proven lower bound of the cost, after a search of at most so many nodes; infinite: there is no solution."""
        result = self._solved(node_limit=nodes)
        if result.status == INFEASIBLE:
            return np.inf
        return max(0.0, float(result.mip_dual_bound)) if result.mip_dual_bound is not None else 0.0

    def _solved(self, **limits: float) -> Any:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        matrix = csr_array((self.values, (self.rows, self.columns)), shape=(len(self.low), len(self.cost)))
        with _stdout_kept_clean():
            return milp(
                np.array(self.cost),
                integrality=np.array(self.integer),
                bounds=Bounds(0, np.array(self.upper)),
                constraints=LinearConstraint(matrix, np.array(self.low), np.array(self.high)),
                options={"mip_rel_gap": 1e-6, **limits},
            )


@contextmanager
def _stdout_kept_clean() -> Iterator[None]:
    """Send what C code prints to standard error.

    HiGHS 1.12 leaves a debugging line on standard output now and then, whatever its options say; there it would break
    the one JSON document of `--json`.
    """
    c = ctypes.CDLL(None)
    c.fflush(None)
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        c.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
