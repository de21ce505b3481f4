"""Rows of measurements that cannot be used: left out, and told with file, row and reason."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from edgeemu.errors import RequestError

RowT = TypeVar("RowT")
MadeT = TypeVar("MadeT")


class LeftOut:
    """Collects the errors of rows that cannot be used."""

    def __init__(self) -> None:
        self.errors: list[RequestError] = []

    def usable(self, rows: Iterable[RowT], read: Callable[[RowT], MadeT]) -> Iterator[MadeT]:
        """Yield what is read of each row that can be used."""
        for row in rows:
            try:
                made = read(row)
            except RequestError as error:
                self.errors.append(error)
            else:
                yield made

    def none_left(self, files: str) -> RequestError:
        """Error of files of which no row can be used: that of the first."""
        if not self.errors:
            return RequestError("has no row", file=files)
        first, more = self.errors[0], len(self.errors) - 1
        also = f" (and {more} more cannot be used, so that none is left)" if more else ""
        return RequestError(f"{first.message}{also}", file=first.file, line=first.line, field=first.field)
