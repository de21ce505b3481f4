"""The part of a trace that shows chosen steps: every operation, the messages that they waited for, critical paths."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.report.critical.breakdown import ON_DEVICES, ON_PATHS, WORDS
from edgeemu.report.critical.critical_path import TimePart, critical_paths
from edgeemu.report.critical.recorded_steps import NONE, Names, RecordedTokens
from edgeemu.report.facts import DeviceFacts
from edgeemu.report.figures import RecordTables, column_of
from edgeemu.report.rows import GIVEN_UP, NO_STEP
from edgeemu.report.statistics import Floats
from edgeemu.report.trace.events import Integers, TraceWriter, event_lines, microseconds, nanoseconds, numbers, texts
from edgeemu.report.trace.overview import joined
from edgeemu.report.trace.tracks import CRITICAL_PATH, LINKS, Tracks, lanes

if TYPE_CHECKING:
    import pyarrow as pa

_INTEGERS = ("sequence", "step", "layer", "groups", "rows", "op", "last_op", "last_bytes")
_FLOATS = ("flops", "bytes_read", "ready_s", "start_s", "end_s")
_WAITED_FOR = ("not recorded", "release of the step", "the token before", "blocks that move", "caches that are filled")


class _DetailedOperations(NamedTuple):
    """Operations in the order of their beginning: [n] each; `source` is the row of what each waited for, or NONE."""

    table: dict[str, NDArray[Any]]
    names: Names
    device: Integers
    block: Integers
    source: Integers
    departure_s: Floats  # of the result that it waited for, if a message brought it
    fed_back: NDArray[np.bool_]  # whether that is the token before it
    label: list[str]  # block and layer
    process: Integers
    thread: Integers


def write_operations(writer: TraceWriter, tracks: Tracks, records: RecordTables, tokens: RecordedTokens) -> None:
    """Write a slice for each operation, on the track of its device, and for each message that one waited for."""
    ops = _read(tracks, records, tokens)
    if ops is None:
        return
    columns, away = ops.table, _away(ops)
    begin_ns, end_ns, ready_ns = (nanoseconds(columns[name]) for name in ("start_s", "end_s", "ready_s"))
    names = ops.names.devices
    known = ops.source != NONE
    whose = np.where(columns["last_op"] == NONE, 1, np.where(ops.fed_back, 2, 0))
    sources, number = np.unique(ops.source[known], return_inverse=True)
    whose[columns["step"] == NO_STEP] = 4
    whose[columns["op"] == NONE] = 3
    whose[columns["step"] == GIVEN_UP] = 0
    whose[known] = len(_WAITED_FOR) + number
    waited = [*_WAITED_FOR, *(f"{ops.label[row]} on {names[ops.device[row]]}" for row in sources.tolist())]
    fields = {
        "ph": '"X"',
        "cat": '"operation"',
        "name": texts(ops.label),
        "pid": numbers(ops.process),
        "tid": numbers(ops.thread),
        "ts": microseconds(begin_ns),
        "dur": microseconds(end_ns - begin_ns),
    }
    args = {name: numbers(columns[name]) for name in ("sequence", "step", "groups", "rows", "flops", "bytes_read")}
    args |= {"waited_for": texts(waited, whose), "ready_us": microseconds(ready_ns)}
    args |= {"queued_us": microseconds(begin_ns - ready_ns)}
    writer.write(event_lines(fields, args))
    _write_messages(writer, tracks, ops, np.flatnonzero(away), begin_ns)


def _read(tracks: Tracks, records: RecordTables, tokens: RecordedTokens) -> _DetailedOperations | None:
    names = Names()
    pieces = [
        [names.device(table, "device"), names.block(table, "block")]
        + [column_of(table, name) for name in (*_INTEGERS, *_FLOATS)]
        for table in records.read("ops", ("device", "block", *_INTEGERS, *_FLOATS))
    ]
    if not pieces:
        return None
    device, block, *rest = (np.concatenate(column) for column in zip(*pieces, strict=True))
    columns = dict(zip((*_INTEGERS, *_FLOATS), rest, strict=True))
    order = np.lexsort((columns["end_s"], columns["start_s"]))
    device, block = device[order], block[order]
    columns = {
        name: column[order].astype(np.int64) if name in _INTEGERS else column[order] for name, column in columns.items()
    }
    kinds, layers = names.blocks, columns["layer"].tolist()
    given_up = np.where(columns["step"] == GIVEN_UP, " (given up)", "").tolist()
    label = [
        f"{kinds[b]}{end}" if at < 0 else f"{kinds[b]} {at}{end}"
        for b, at, end in zip(block.tolist(), layers, given_up, strict=True)
    ]
    ends_token = np.array([name == "lm_head" for name in kinds])[block]
    source, departure_s, fed_back = _sources(columns, device, ends_token, tokens)
    process = np.array([tracks.device(name) for name in names.devices])[device]
    thread = np.zeros(len(device), np.int64)
    begin_ns, end_ns = nanoseconds(columns["start_s"]), nanoseconds(columns["end_s"])
    for number in np.unique(device).tolist():
        mine = device == number
        thread[mine] = _threads(tracks, process[mine][0], "operations", lanes(begin_ns[mine], end_ns[mine]))
    return _DetailedOperations(columns, names, device, block, source, departure_s, fed_back, label, process, thread)


def _threads(tracks: Tracks, process: int, name: str, lane: Integers) -> Integers:
    """Threads of lanes of the same name."""
    numbered = [name, *(f"{name} ({number})" for number in range(2, int(lane.max(initial=0)) + 2))]
    return np.array([tracks.thread(int(process), each) for each in numbered])[lane]


def _sources(
    columns: dict[str, NDArray[Any]], device: Integers, ends_token: NDArray[np.bool_], tokens: RecordedTokens
) -> tuple[Integers, Floats, NDArray[np.bool_]]:
    """Row of what each operation waited for, when that left its device, and whether it is the token before.

    The first operation of a step may wait for the output matrix of the step before it: its token leaves with the
    release of the step.
    """
    step, width = columns["step"], 1 + int(columns["op"].max(initial=0))
    steps = 2 + int(step.max(initial=0))

    def key(step: Integers, number: Integers) -> Integers:
        return (columns["sequence"].astype(np.int64) * steps + step) * width + number

    keys = key(step, columns["op"])
    order = np.argsort(keys, kind="stable")

    def row_of(wanted: Integers) -> Integers:
        at = order[np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)]
        of_step = step > NO_STEP  # numbers of others are not of one attempt
        return np.where((keys[at] == wanted) & (columns["last_op"] >= 0) & of_step, at, NONE)

    source = row_of(key(step, columns["last_op"]))
    fed_back = (source != NONE) & ends_token[source]
    before = row_of(key(step - 1, columns["last_op"]))
    before[(before != NONE) & (~ends_token[before] | (device[before] != device[source]))] = NONE
    departure_s = np.where(source != NONE, columns["end_s"][source], np.nan)
    released_s = {
        (number, which): at_s
        for number, which, at_s in zip(
            tokens.sequence.tolist(), tokens.step.tolist(), tokens.released_s.tolist(), strict=True
        )
    }
    for row in np.flatnonzero(fed_back).tolist():
        departure_s[row] = released_s.get((int(columns["sequence"][row]), int(step[row])), np.nan)
    return np.where(fed_back, before, source), departure_s, fed_back


def _away(ops: _DetailedOperations) -> NDArray[np.bool_]:
    """Whether a message brought what each operation waited for, and is known."""
    away: NDArray[np.bool_] = (ops.source != NONE) & (ops.device[ops.source] != ops.device)
    return away & np.isfinite(ops.departure_s)


def _write_messages(
    writer: TraceWriter, tracks: Tracks, ops: _DetailedOperations, waiting: Integers, begin_ns: Integers
) -> None:
    """Write slices of messages and arrows: from the operation that made it, to those in rows `waiting`."""
    if not len(waiting):
        return
    sent_ns, arrived_ns = nanoseconds(ops.departure_s[waiting]), nanoseconds(ops.table["ready_s"][waiting])
    arrived_ns = np.maximum(arrived_ns, sent_ns)
    n, source = len(ops.names.devices), ops.source[waiting]
    what = np.stack([source, ops.device[waiting], sent_ns, arrived_ns])  # operations may wait for the same message
    _, first, message = np.unique(what, axis=1, return_index=True, return_inverse=True)
    order = np.lexsort((arrived_ns[first], sent_ns[first]))
    message = np.argsort(order)[message.reshape(-1)]  # [waiting] number of the message, in the order of departure
    first = first[order]
    path = ops.device[source[first]] * n + ops.device[waiting[first]]
    begin, end = sent_ns[first], arrived_ns[first]
    thread = np.zeros(len(first), np.int64)
    for number in np.unique(path).tolist():
        mine = path == number
        name = " -> ".join(ops.names.devices[index] for index in divmod(number, n))
        thread[mine] = _threads(tracks, LINKS, name, lanes(begin[mine], end[mine]))
    label = [ops.label[row] for row in source[first].tolist()]
    place = {"pid": str(LINKS), "tid": numbers(thread), "ts": microseconds(begin)}
    fields = {"ph": '"X"', "cat": '"message"', "name": texts(label), **place, "dur": microseconds(end - begin)}
    rows = waiting[first]
    args = {name: numbers(ops.table[name][rows]) for name in ("sequence", "step")}
    writer.write(event_lines(fields, args | {"bytes": numbers(ops.table["last_bytes"][rows])}))

    arrow = {"cat": '"message"', "name": '"message"'}
    which = numbers(np.arange(len(first)))
    made = source[first]
    maker = {"pid": numbers(ops.process[made]), "tid": numbers(ops.thread[made]), "ts": microseconds(begin_ns[made])}
    writer.write(event_lines({"ph": '"s"', "id": which, **arrow, **maker}))
    writer.write(event_lines({"ph": '"t"', "id": which, **arrow, **place}))
    taker = {"pid": numbers(ops.process[waiting]), "tid": numbers(ops.thread[waiting])}
    taker["ts"] = microseconds(begin_ns[waiting])
    writer.write(event_lines({"ph": '"f"', "bp": '"e"', "id": numbers(message), **arrow, **taker}))


def write_power(writer: TraceWriter, tracks: Tracks, records: RecordTables, devices: list[DeviceFacts]) -> None:
    """Write the power of devices whose power is known: that of computing while an operation runs, else idle power."""
    known = {device.name: device for device in devices if device.idle_w is not None and device.busy_w is not None}
    spans: dict[str, list[NDArray[Any]]] = {}
    for table in records.read("ops", ("device", "start_s", "end_s")) if known else ():
        names = Names()
        device = names.device(table, "device")
        instants = np.stack([column_of(table, "start_s"), column_of(table, "end_s")])  # [2, rows]
        for index, name in enumerate(names.devices):
            if name in known:
                spans.setdefault(name, []).append(instants[:, device == index])
    for name, pieces in spans.items():
        begin_ns, end_ns = nanoseconds(np.concatenate(pieces, axis=1))
        order = np.argsort(begin_ns, kind="stable")
        begin_ns, end_ns = begin_ns[order], np.maximum.accumulate(end_ns[order])
        idle_after = np.append(begin_ns[1:] > end_ns[:-1], True)
        starts = begin_ns[np.append(True, idle_after[:-1])]
        at_ns = np.stack([starts, end_ns[idle_after]], axis=1).reshape(-1)
        power_w = np.tile([known[name].busy_w, known[name].idle_w], len(starts)).astype(np.float64)
        fields = {"ph": '"C"', "name": '"power"', "pid": str(tracks.device(name)), "ts": microseconds(at_ns)}
        writer.write(event_lines(fields, {"W": numbers(power_w)}))


def write_critical_paths(writer: TraceWriter, tracks: Tracks, records: RecordTables) -> None:
    """Write the parts of each token's critical path as slices that follow each other, on a track for each sequence."""
    paths = critical_paths(records)
    begin_ns = nanoseconds(paths.begin_s)
    end_ns = nanoseconds(paths.begin_s + paths.spent_s)
    sequence = paths.sequence[paths.token]
    parts = [{**WORDS, **ON_DEVICES, **ON_PATHS}[part] for part in TimePart]
    for number in np.unique(sequence).tolist():
        mine = np.flatnonzero(sequence == number)
        mine = mine[np.lexsort((end_ns[mine], begin_ns[mine]))]
        ends_ns = joined(begin_ns[mine], end_ns[mine])
        where = []
        for device, target in zip(paths.device[mine].tolist(), paths.target[mine].tolist(), strict=True):
            ends = [paths.devices[index] for index in (device, target) if index != NONE]
            where.append(" -> ".join(ends))
        names = [
            f"{parts[part]} {place}".rstrip() for part, place in zip(paths.part[mine].tolist(), where, strict=True)
        ]
        blocks = [
            "" if block == NONE else f"{paths.blocks[block]} {layer}" if layer >= 0 else paths.blocks[block]
            for block, layer in zip(paths.block[mine].tolist(), paths.layer[mine].tolist(), strict=True)
        ]
        thread = _threads(tracks, CRITICAL_PATH, f"sequence {number}", lanes(begin_ns[mine], ends_ns))
        fields = {
            "ph": '"X"',
            "cat": '"critical path"',
            "name": texts(names),
            "pid": str(CRITICAL_PATH),
            "tid": numbers(thread),
            "ts": microseconds(begin_ns[mine]),
            "dur": microseconds(ends_ns - begin_ns[mine]),
        }
        args: dict[str, pa.Array] = {"step": numbers(paths.step[paths.token[mine]]), "block": texts(blocks)}
        writer.write(event_lines(fields, args))
