"""Guard where records are read: what a damaged file does to Arrow becomes one error, which names the file."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeemu.errors import RequestError

if TYPE_CHECKING:
    import pyarrow as pa


def checked(tables: Iterator["pa.Table"], file: Path) -> Iterator["pa.Table"]:
    """Yield tables that were read from a file, each checked as a whole.

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
        except (pa.ArrowException, ValueError, KeyError) as error:
            raise _damaged(file, str(error)) from error
        except MemoryError as error:
            raise _damaged(file, "it says that it needs more memory than there is") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise _damaged(file, str(error)) from error  # Arrow's own, of which some have no number
        yield table


def _damaged(file: Path, why: str) -> RequestError:
    said = why.strip().partition("\n")[0]
    return RequestError(f"is not a table of a run, or damaged: {said[:200]}", file=str(file))
