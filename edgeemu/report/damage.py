"""Guard where records are read: what a damaged file does to Arrow becomes one error, which names the file."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeemu.errors import RequestError

if TYPE_CHECKING:
    import pyarrow as pa

_LIMIT = 1e18
_MAX_SEQUENCES = 1_000_000  # ten times what a scenario may ask for


def checked(tables: Iterator["pa.Table"], file: Path, least_sequence: int = 0) -> Iterator["pa.Table"]:
    """Yield tables that were read from a file, each checked as a whole; sequences have numbers from a least one on.

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
            _check_numbers(table, least_sequence)
        except (pa.ArrowException, ValueError, KeyError) as error:
            raise _damaged(file, str(error)) from error
        except MemoryError as error:
            raise _damaged(file, "it says that it needs more memory than there is") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise _damaged(file, str(error)) from error  # Arrow's own, of which some have no number
        yield table


def _check_numbers(table: "pa.Table", least_sequence: int) -> None:
    """Raise ValueError for a number that no run has: seconds and joules are finite, and can be added up."""
    import pyarrow as pa

    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_floating(column.type):
            values = column.drop_null().to_numpy()
            if not (np.abs(values) < _LIMIT).all():  # NaN is not less
                raise ValueError(f"{name} has a value that is not a finite number")
        if name == "sequence" and len(column):
            numbers = column.to_numpy()
            if numbers.min() < least_sequence or numbers.max() >= _MAX_SEQUENCES:
                raise ValueError(f"sequence has the values {numbers.min()} to {numbers.max()}")


def _damaged(file: Path, why: str) -> RequestError:
    said = why.strip().partition("\n")[0]
    return RequestError(f"is not a table of a run, or damaged: {said[:200]}", file=str(file))
