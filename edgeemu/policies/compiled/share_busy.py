"""Messages of a decode step that keep processors busy: `view.share_steps.BusyPassage`, operation by operation.

Each device sends one after the other, and takes in one after the other. What it sends goes before its other work: where
`x_s` says that it has x, it has sent it, too.
"""

from edgeemu.policies.compiled.tables import Scratch, StepTables
from edgeemu_kernels.arrays import Flags, Ints


def own_s(t: StepTables, device: int, bits: float) -> float:
    """Time for which a message keeps a device busy."""
    return t.message_s[device] + t.byte_s[device] * bits / 8.0


def token_s(t: StepTables, source: int, target: int) -> float:
    """Time of the token on its way."""
    if source == target:
        return 0.0
    way, bits = source * t.n + target, t.token_bits
    return own_s(t, source, bits) + (t.wire_s_per_bit[way] * bits + t.wire_delay_s[way]) + own_s(t, target, bits)


def spread_in_turn(t: StepTables, w: Scratch, need: Flags, first: int) -> None:
    """Send x from the first device that has it to those that need it, one after the other."""
    began_s, way, each_s, sent = w.x_s[first], first * t.n, own_s(t, first, t.hidden_bits), 0
    for a in range(t.n):
        w.x_taken_s[a] = 0.0
        if need[a] and not w.has[a]:
            sent += 1
            taken_s = own_s(t, a, t.hidden_bits)
            left_s = max(began_s + sent * each_s, w.free_s[way + a]) + t.hidden_bits * t.wire_s_per_bit[way + a]
            w.free_s[way + a] = left_s
            w.x_taken_s[a] = taken_s
            w.x_s[a] = left_s + t.wire_delay_s[way + a] + taken_s
    w.x_s[first] = began_s + sent * each_s


def collected_s(t: StepTables, w: Scratch, counts: Ints, at: int) -> float:
    """When one device has x and the outputs of all groups, of which each device has so many."""
    begin_s, count = 0.0, 0
    for a in range(t.n):
        if counts[a] > 0:
            done_s = w.x_s[a] + t.heads_s[a * t.row + counts[a]]
            if a == at:
                begin_s = max(begin_s, done_s)
            else:
                way, bits = a * t.n + at, t.attention_bits[counts[a]]
                left_s = max(done_s + own_s(t, a, bits), w.free_s[way]) + bits * t.wire_s_per_bit[way]
                w.free_s[way] = left_s
                count = add_message(w, count, left_s + t.wire_delay_s[way], own_s(t, at, bits))
    return all_taken_in_s(w, count, begin_s, at)


def gathered_in_turn_s(t: StepTables, w: Scratch, counts: Ints, sums: Flags, b: int) -> float:
    """When a device has x and the partial sums of all. Those that add sums, `sums`, are asked in ascending order."""
    count, begin_s, receivers = 0, 0.0, 0
    for a in range(t.n):
        receivers += sums[a] and a != b
    for a in range(t.n):
        if counts[a] > 0:
            each_s = own_s(t, a, t.partial_bits)
            if a == b:
                begin_s = w.done_s[a] + receivers * each_s
            else:
                way = a * t.n + b
                w.sent[a] += 1
                left_s = max(w.done_s[a] + w.sent[a] * each_s, w.free_s[way]) + t.partial_bits * t.wire_s_per_bit[way]
                w.free_s[way] = left_s
                count = add_message(w, count, left_s + t.wire_delay_s[way], own_s(t, b, t.partial_bits))
    return all_taken_in_s(w, count, begin_s, b)


def all_taken_in_s(w: Scratch, count: int, begin_s: float, device: int) -> float:
    """When a device has taken in so many messages, one after the other, from when it has done its own work.

    Where it has none, `begin_s` is 0, and x is one of those messages.
    """
    if begin_s == 0.0:
        count = add_message(w, count, w.x_s[device] - w.x_taken_s[device], w.x_taken_s[device])
    rest_s, last_s = 0.0, 0.0
    for turn in range(count):
        at = count - 1 - turn
        rest_s += w.taken_s[at]
        last_s = max(last_s, w.arrived_s[at] + rest_s)
    return max(begin_s + rest_s, last_s)


def add_message(w: Scratch, count: int, arrived_s: float, taken_s: float) -> int:
    """Put a message behind those that arrive no later; the number of messages then."""
    at = count
    while at > 0 and w.arrived_s[at - 1] > arrived_s:
        w.arrived_s[at] = w.arrived_s[at - 1]
        w.taken_s[at] = w.taken_s[at - 1]
        at -= 1
    w.arrived_s[at] = arrived_s
    w.taken_s[at] = taken_s
    return count + 1
