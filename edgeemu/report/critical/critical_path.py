"""Critical path of every token: the chain of operations and messages that each waited for, from the records of a run.

A token's path is walked back from the output matrix: an operation computes, before that it waits for its device, before
that the last of its inputs is under way, sent by the operation that made it. The parts of a path follow each other
without a gap, so their sum is the token's latency.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from edgeemu.report.critical.recorded_steps import (
    NONE,
    Integers,
    Names,
    PathRates,
    RecordedOperations,
    RecordedTokens,
    read_operations,
    read_path_rates,
    read_pauses,
    read_tokens,
    token_of,
)
from edgeemu.report.figures import RecordTables, column_of
from edgeemu.report.statistics import Floats

NOISE_S = 1e-12  # of rounding


class TimePart(IntEnum):
    """Kind of a part of a token's time."""

    COMPUTE = 0
    MESSAGE_OVERHEAD = 1  # of a processor that sends or takes in a message
    TRANSMISSION = 2  # of a message at the bandwidth of its path
    LATENCY = 3  # delay of the path
    LINK_QUEUE = 4  # of a message in queues of pipes; also what jitter, loss and variation add
    DEVICE_QUEUE = 5  # of an operation that is ready, until its device is free
    ADMISSION = 6  # before the step's release: no slot was free, or other steps had to end first
    CONTROLLER = 7  # decisions, as far as the timeline is charged for them
    MIGRATION = 8  # the step was held back while blocks moved
    RECOVERY = 9  # the step was lost with a device: what it had done, and until blocks and caches were there again
    UNKNOWN = 10  # the records of a run that was killed end here, or are damaged


_OVERHEADS = ("send", "receive")


@dataclass(frozen=True, slots=True)
class CriticalPaths:
    """Parts of the critical paths of tokens, in the order of tokens, each path from its end to its beginning."""

    sequence: Integers  # [n_tokens]
    step: Integers  # [n_tokens]
    latency_s: Floats  # [n_tokens]
    devices: Sequence[str]  # names
    blocks: Sequence[str]  # names
    token: Integers  # [n_parts] index of the token
    part: Integers  # [n_parts] `TimePart`
    device: Integers  # [n_parts] index of `devices`: that computes, or sends; NONE: none
    target: Integers  # [n_parts] index of `devices`: that receives; NONE: none
    block: Integers  # [n_parts] index of `blocks`: that is computed, or whose result is sent; NONE: none
    layer: Integers  # [n_parts]
    begin_s: Floats  # [n_parts]
    spent_s: Floats  # [n_parts]


class _PathParts(NamedTuple):
    """One part of each of some tokens' paths: [n] each."""

    token: Integers
    part: Integers
    device: Integers
    target: Integers
    block: Integers
    layer: Integers
    begin_s: Floats
    spent_s: Floats


def critical_paths(records: RecordTables) -> CriticalPaths:
    """Compute the critical path of every token of a run that has ended, goes on, or was killed.

    Of a token whose operations are not all recorded, what is before the missing one is `UNKNOWN`. So is what damaged
    records do not explain.
    """
    names = Names()
    tokens = read_tokens(records)
    ops, width = read_operations(records, tokens, names)
    rates = read_path_rates(records, tokens, names)
    pieces = [_kept(parts) for parts in _before_release(records, tokens)]
    pieces += [_kept(parts) for parts in _walk(tokens, ops, width, rates, names)]
    columns = [np.concatenate(column) for column in zip(*pieces, strict=True)]
    del pieces
    order = np.lexsort((-columns[-2], columns[0]))
    token, part, device, target, block, layer, begin_s, spent_s = (column[order] for column in columns)
    return CriticalPaths(
        tokens.sequence,
        tokens.step,
        tokens.latency_s,
        names.devices,
        names.blocks,
        *(token, part, device, target, block, layer, begin_s, spent_s),
    )


def _kept(parts: _PathParts) -> _PathParts:
    """Parts that take any time."""
    takes = np.abs(parts.spent_s) > NOISE_S
    return parts if takes.all() else _PathParts._make(column[takes] for column in parts)


def _before_release(records: RecordTables, tokens: RecordedTokens) -> Iterator[_PathParts]:
    """Parts before the release of each step: the decision before it, blocks that moved, and the rest."""
    since_s = tokens.sampled_s - tokens.latency_s  # [n]
    held_s = tokens.released_s - since_s
    n = len(held_s)
    charged_s, moving_s = np.zeros(n), np.zeros(n)
    for table in records.read("decisions", ("sequence", "step", "charged_s")):
        at = token_of(tokens, *(column_of(table, name) for name in ("sequence", "step")))
        known = np.nan_to_num(column_of(table, "charged_s").astype(np.float64))
        np.add.at(charged_s, at[at != NONE], known[at != NONE])
    charged_s = np.minimum(charged_s, np.maximum(held_s, 0.0))
    decided_s = since_s + charged_s
    recovering_s = _recovering_s(records, tokens, since_s, decided_s)
    recovered_s = decided_s + recovering_s
    for pause_s, end_s in sorted(read_pauses(records)):
        within_s = np.minimum(tokens.released_s, end_s) - np.maximum(recovered_s, end_s - pause_s)
        moving_s += np.maximum(within_s, 0.0)
    every, none = np.arange(n), np.full(n, NONE)
    parts = (
        (TimePart.CONTROLLER, charged_s, since_s),
        (TimePart.RECOVERY, recovering_s, decided_s),
        (TimePart.MIGRATION, moving_s, recovered_s),
        (TimePart.ADMISSION, held_s - charged_s - recovering_s - moving_s, recovered_s + moving_s),
    )
    for part, spent_s, begin_s in parts:
        yield _PathParts(every, np.full(n, part), none, none, none, none, begin_s, spent_s)


def _recovering_s(records: RecordTables, tokens: RecordedTokens, since_s: Floats, decided_s: Floats) -> Floats:
    """Time before the release of each step that was lost to faults, [n_tokens]: until steps went on.

    Of a first step only from the fault on: it may have waited for a slot before.
    """
    lost_s = np.zeros(len(since_s))
    for table in records.read("recoveries", ("began_s", "restored_s")):
        for began_s, restored_s in zip(*(column_of(table, name) for name in ("began_s", "restored_s")), strict=True):
            begin_s = np.where(tokens.step > 0, since_s, np.maximum(since_s, began_s))  # [n_tokens]
            held = (since_s < restored_s) & (tokens.released_s > restored_s - NOISE_S)
            within_s = np.minimum(restored_s, tokens.released_s) - np.maximum(begin_s, decided_s)
            lost_s = np.where(held, np.maximum(lost_s, within_s), lost_s)
    return lost_s


def _walk(
    tokens: RecordedTokens, ops: RecordedOperations, width: int, rates: PathRates, names: Names
) -> Iterator[_PathParts]:
    """Parts from the end of each token back to its release, one operation of all tokens at a time."""
    ends = {name: code for code, name in enumerate(names.blocks)}
    overheads = [ends[name] for name in _OVERHEADS if name in ends]
    last_block = ends.get("lm_head", NONE)
    at = _last_operations(tokens, ops, width, last_block)  # [n] row of `ops` of each token; NONE: not recorded
    token, until_s = np.arange(len(at)), tokens.sampled_s.copy()
    seen = np.zeros(len(ops.key), np.bool_)  # in damaged records, operations may wait for each other
    while len(token):
        known = at != NONE
        yield _unknown(token[~known], tokens, until_s[~known])
        token, at, until_s = token[known], at[known], until_s[known]
        seen[at] = True
        device, block, layer = ops.device[at], ops.block[at], ops.layer[at]
        none, start_s, ready_s = np.full(len(at), NONE), ops.start_s[at], ops.ready_s[at]
        part = np.where(np.isin(block, overheads), TimePart.MESSAGE_OVERHEAD, TimePart.COMPUTE)
        yield _PathParts(token, part, device, none, block, layer, start_s, until_s - start_s)
        queue = np.full(len(at), TimePart.DEVICE_QUEUE)
        yield _PathParts(token, queue, device, none, block, layer, ready_s, start_s - ready_s)
        before = _rows_of(ops, token * width + ops.last[at])
        released = ops.last[at] < 0
        from_release = released | ((before != NONE) & (ops.block[before] == last_block))
        sent_s = np.where(from_release, tokens.released_s[token], ops.end_s[before])
        lost = ~from_release & ((before == NONE) | seen[before])
        yield _unknown(token[lost], tokens, ready_s[lost])
        going = ~lost
        yield from _messages(ops, rates, len(names.devices), *(x[going] for x in (token, at, before, sent_s, ready_s)))
        on = going & ~from_release
        token, at, until_s = token[on], before[on], ops.end_s[before[on]]


def _last_operations(tokens: RecordedTokens, ops: RecordedOperations, width: int, last_block: int) -> Integers:
    """Row of the operation that each token was sampled by; NONE: it is not recorded."""
    found = np.full(len(tokens.step), NONE)
    rows = np.flatnonzero(ops.block == last_block)
    found[ops.key[rows] // width] = rows
    return found


def _rows_of(ops: RecordedOperations, key: Integers) -> Integers:
    """Row of each operation by its key; NONE: it is not recorded."""
    if not len(ops.key):
        return np.full(len(key), NONE)
    at = np.minimum(np.searchsorted(ops.key, key), len(ops.key) - 1)
    return np.where(ops.key[at] == key, at, NONE)


def _unknown(token: Integers, tokens: RecordedTokens, until_s: Floats) -> _PathParts:
    """The parts of tokens back to their release, where an operation is not recorded."""
    none, begin_s = np.full(len(token), NONE), tokens.released_s[token]
    return _PathParts(token, np.full(len(token), TimePart.UNKNOWN), none, none, none, none, begin_s, until_s - begin_s)


def _messages(
    ops: RecordedOperations,
    rates: PathRates,
    n_devices: int,
    token: Integers,
    at: Integers,
    before: Integers,
    sent_s: Floats,
    ready_s: Floats,
) -> Iterator[_PathParts]:
    """The parts of the messages on which operations `at` waited last, sent by operations `before`: [n] each."""
    target = ops.device[at]
    source = np.where(before != NONE, ops.device[before], target)
    transit_s = ready_s - sent_s
    away = source != target  # else there is no message: the operation is ready when the result is there
    key = (token * n_devices + source) * n_devices + target
    row = np.maximum(np.searchsorted(rates.key, key, side="right") - 1, 0)  # the last: others are of attempts before
    known = away & (rates.key[row] == key) if len(rates.key) else np.zeros(len(key), np.bool_)
    row = np.where(known, row, 0)
    zero = np.zeros(len(key))
    delay_s = np.where(known, rates.delay_s[row], zero) if len(rates.key) else zero
    transfer_s = np.where(known, rates.s_per_byte[row] * ops.last_bytes[at], zero) if len(rates.key) else zero
    delay_s = np.clip(delay_s, 0.0, np.maximum(transit_s, 0.0))
    transfer_s = np.clip(transfer_s, 0.0, np.maximum(transit_s - delay_s, 0.0))
    queue_s = transit_s - delay_s - transfer_s
    queue_s[np.abs(queue_s) < NOISE_S] = 0.0
    transfer_s = np.where(transfer_s > 0, transit_s - delay_s - queue_s, transfer_s)
    parts = ((TimePart.LINK_QUEUE, queue_s), (TimePart.TRANSMISSION, transfer_s), (TimePart.LATENCY, delay_s))
    begin_s = sent_s
    of_message = (source, target, ops.block[before], ops.layer[before])
    device, target, block, layer = (np.where(away, column, NONE) for column in of_message)
    for kind, spent_s in parts:
        part = np.where(away, kind, TimePart.UNKNOWN)
        yield _PathParts(token, part, device, target, block, layer, begin_s, spent_s)
        begin_s = begin_s + spent_s
