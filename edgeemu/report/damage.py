"""Guard where records are read: what a damaged file does to Arrow becomes one error, which names the file."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeemu.errors import RequestError
from edgeemu.report.rows import GIVEN_UP, NO_STEP

if TYPE_CHECKING:
    import pyarrow as pa

_LIMIT = 1e18
_MAX = 1_000_000
# Least value of columns of integers, and what none reaches: ten times as many sequences as a scenario may ask for.
_BOUNDS = {
    "sequence": (0, _MAX),
    "step": (0, 10 * _MAX),
    "op": (0, 100 * _MAX),
    "last_op": (-1, 100 * _MAX),
    "messages": (1, 1 << 31),
}
_OF_NO_STEP = {"sequence": NO_STEP, "step": GIVEN_UP, "op": NO_STEP}  # least values there


def checked(tables: Iterator["pa.Table"], file: Path, *, may_be_of_no_step: bool = False) -> Iterator["pa.Table"]:
    """Yield tables that were read from a file, each checked as a whole; rows of no step have negative numbers for it.

    Raises:
        RequestError: the file is damaged.
        OSError: the disk cannot be read.
    """
    import pyarrow as pa

    while True:
        try:
            table = next(tables, None)
            if table is None:
                return
            table.validate(full=True)
            _check_numbers(table, may_be_of_no_step=may_be_of_no_step)
        except (pa.ArrowException, ValueError, KeyError) as error:
            raise _damaged(file, str(error)) from error
        except MemoryError as error:
            raise _damaged(file, "it says that it needs more memory than there is") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise _damaged(file, str(error)) from error  # Arrow's own, of which some have no number
        yield table


def _check_numbers(table: "pa.Table", *, may_be_of_no_step: bool) -> None:
    """Raise ValueError for a number that no run has: seconds and joules are finite, and can be added up."""
    import pyarrow as pa

    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_floating(column.type):
            values = column.to_numpy()  # null: NaN, which is not less than any number (drop_null() takes 50 ms to load)
            if np.count_nonzero(np.abs(values) < _LIMIT) < len(values) - column.null_count:
                raise ValueError(f"{name} has a value that is not a finite number")
        if name in _BOUNDS and len(column):
            numbers, (least, bound) = column.to_numpy(), _BOUNDS[name]
            least = _OF_NO_STEP.get(name, least) if may_be_of_no_step else least
            if numbers.min() < least or numbers.max() >= bound:
                raise ValueError(f"{name} has the values {numbers.min()} to {numbers.max()}")


def _damaged(file: Path, why: str) -> RequestError:
    said = why.strip().partition("\n")[0]
    return RequestError(f"is not a table of a run, or damaged: {said[:200]}", file=str(file))
