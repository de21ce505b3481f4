"""Events of Chrome's trace event format, many at once: columns become lines of JSON in Arrow, a million in seconds.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU ("Trace Event Format"; `ph`
is the kind of an event, `ts` and `dur` are microseconds). Perfetto keeps whole nanoseconds.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Integers = NDArray[np.int64]
Json = Any  # one text of JSON for all events, or a `pa.Array` with one for each
_WRITTEN_AT_ONCE = 1 << 16  # events


def nanoseconds(times_s: NDArray[np.float64]) -> Integers:
    """Round times to nanoseconds: later ones do not become earlier than those before them."""
    return np.rint(times_s * 1e9).astype(np.int64)


def microseconds(times_ns: Integers) -> "pa.Array":
    """Write times as microseconds with three decimals."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole, rest = np.divmod(times_ns, 1000)
    decimals = pa.array([f".{value:03}" for value in range(1000)]).take(pa.array(rest))
    return pc.binary_join_element_wise(pa.array(whole).cast(pa.string()), decimals, "")


def numbers(values: NDArray[Any]) -> "pa.Array":
    """Write numbers, which are finite."""
    import pyarrow as pa

    return pa.array(values).cast(pa.string())


def texts(values: Sequence[str], which: NDArray[Any] | None = None) -> "pa.Array":
    """Write texts as strings of JSON: all in their order, or for each event the one with that index."""
    import pyarrow as pa

    known = pa.array([json.dumps(value) for value in values], pa.string())
    return known if which is None else known.take(pa.array(which))


def event_lines(fields: Mapping[str, Json], args: Mapping[str, Json] | None = None) -> "pa.Array":
    """Make events: the fields of each, and its arguments. At least one value is an array."""
    import pyarrow.compute as pc

    pieces: list[Json] = ["{"]
    _add_members(pieces, fields)
    if args:
        pieces[-1] += ',"args":{'
        _add_members(pieces, args)
        pieces[-1] += "}"
    pieces[-1] += "}"
    return pc.binary_join_element_wise(*pieces, "")


def _add_members(pieces: list[Json], members: Mapping[str, Json]) -> None:
    """Append members of an object; the last piece is a text, and stays one."""
    between = ""
    for key, value in members.items():
        pieces[-1] += f'{between}"{key}":'
        between = ","
        if isinstance(value, str):
            pieces[-1] += value
        else:
            pieces += [value, ""]


class TraceWriter:
    """Writes the events of a trace to a file, as they come; a run that was killed leaves no half of it."""

    def __init__(self, file: BinaryIO, about: Mapping[str, Any]) -> None:
        """Begin a trace; `about` is what it says of itself."""
        self._file = file
        self._separator = b""
        head = f'{{"displayTimeUnit":"ms","otherData":{json.dumps(about)},"traceEvents":[\n'
        self._file.write(head.encode())

    def write(self, events: "pa.Array | Sequence[Mapping[str, Any]]") -> None:
        """Append events: lines that `event_lines` has made, or objects."""
        if isinstance(events, Sequence):
            self._append([json.dumps(event) for event in events])
            return
        for begin in range(0, len(events), _WRITTEN_AT_ONCE):
            self._append(events.slice(begin, _WRITTEN_AT_ONCE).to_pylist())

    def _append(self, lines: Sequence[str]) -> None:
        if lines:
            self._file.write(self._separator + ",\n".join(lines).encode())
            self._separator = b",\n"

    def end(self) -> None:
        """End the trace; the file stays open."""
        self._file.write(b"\n]}\n")
