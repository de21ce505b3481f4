"""Loads that a decode step puts on devices and links, which sequences share: `view.share_passage`, in its order.

With several sequences all have their next token when the most loaded device, or link, has served each of them.
"""

from edgeemu.policies.compiled.share_busy import own_s
from edgeemu.policies.compiled.share_step import begin_batch, step_s
from edgeemu.policies.compiled.tables import Batch, Scratch, StepTables
from edgeemu_kernels.arrays import Flags, Floats, Ints


def round_s(t: StepTables, b: Batch, w: Scratch, which: int) -> float:
    """Time until every sequence has its next token, of one placement of a batch."""
    alone_s = step_s(t, b, w, which)
    if t.sequences == 1:
        return alone_s
    _add_up(t, b, w, which)
    longest_s = 0.0
    for a in range(t.n):
        longest_s = max(longest_s, w.busy_s[a])
        for other in range(t.n):
            if other != a:
                pair = a * t.n + other
                longest_s = max(longest_s, w.link_bits[pair] * t.s_per_bit[pair])
    return max(t.sequences * longest_s, alone_s)


def known_round_s(t: StepTables, b: Batch, w: Scratch, which: int) -> float:
    """Lower bound of a round of one placement, by what the device computes that was last found to be busiest.

    0 of one sequence.
    """
    return t.sequences * least_busy_s(t, b, which, w.busiest[0], 0, 0) if t.sequences > 1 else 0.0


def least_round_s(t: StepTables, b: Batch, w: Scratch, which: int) -> float:
    """Lower bound of a round of one placement, by what keeps the busiest device busy; 0 of one sequence."""
    if t.sequences == 1:
        return 0.0
    longest_s, holders, parts = 0.0, 0, 0
    if is_divided(t, b, which):
        for a in range(t.n):
            holders += b.heads[which * t.n + a] > 0
            parts += b.units[which * t.n + a] > 0
    for a in range(t.n):
        busy_s = least_busy_s(t, b, which, a, holders, parts)
        if busy_s > longest_s:
            longest_s = busy_s
            w.busiest[0] = a
    return t.sequences * longest_s


def is_divided(t: StepTables, b: Batch, which: int) -> bool:
    """Whether a placement is of one layer, all of which is divided, and each of its devices sends to all others."""
    whole = False
    for a in range(t.n):
        whole = whole or b.units[which * t.n + a] == t.units_row - 1
    return t.n_layers == 1 and not t.star and b.proj[which] < 0 and not whole


def least_busy_s(t: StepTables, b: Batch, which: int, device: int, holders: int, parts: int) -> float:
    """Time for which a step of one placement keeps a device busy at least.

    `holders`, `parts`: in a layer that is divided, how many devices have heads, and units; else 0, and only what
    devices compute counts.
    """
    busy_s = t.embed_s[device] if device == b.embed[which] else 0.0
    busy_s += t.lm_head_s[device] if device == b.lm_head[which] else 0.0
    for run in range(b.n_runs):
        at, layers = which * b.n_runs + run, b.lengths[run]
        heads, units, proj = b.heads[at * t.n + device], b.units[at * t.n + device], b.proj[at]
        busy_s += layers * t.heads_s[device * t.row + heads]
        if proj < 0:
            busy_s += layers * t.columns_s[device * t.row + heads]
        elif proj == device:
            busy_s += layers * t.proj_s[device]
        whole = units == t.units_row - 1
        busy_s += layers * (t.ffn_s[device] if whole else t.units_s[device * t.units_row + units])
    return busy_s + _joining_s(t, b, which, device, holders, parts) if parts > 0 else busy_s


def _joining_s(t: StepTables, b: Batch, which: int, device: int, holders: int, parts: int) -> float:
    """Time that sums and messages of a layer that is divided keep a device busy at least."""
    embed, lm_head, sums = b.embed[which], b.lm_head[which], t.sums_s[device * (t.n + 2) :]
    has_heads, has_units = 0 + (b.heads[which * t.n + device] > 0), 0 + (b.units[which * t.n + device] > 0)
    vectors = holders - has_heads if device == embed else has_heads
    partials, took_s = has_heads * (parts - has_units) + has_units * (holders - has_heads), 0.0
    if has_units > 0:
        took_s += sums[holders + 1]
        partials += device != lm_head
    if device == lm_head:
        took_s += sums[parts + 1]
        partials += parts - has_units
    if t.busy[0] == 1:
        took_s += vectors * own_s(t, device, t.hidden_bits) + partials * own_s(t, device, t.partial_bits)
        if embed != lm_head and (device == embed or device == lm_head):  # noqa: SIM109 - machine code has no `in`
            took_s += own_s(t, device, t.token_bits)
    return took_s


def longest_link_s(t: StepTables, b: Batch, w: Scratch, which: int, without: int) -> float:
    """Time for which the link that carries most in a step is busy at least, of one layer that is divided; notes it.

    `without`: a device whose links do not count.
    """
    n, embed, lm_head, longest_s = t.n, b.embed[which], b.lm_head[which], 0.0
    heads, units = b.heads[which * n :], b.units[which * n :]
    for a in range(n):
        for other in range(n):
            if a != other and a != without and other != without:
                bits = t.token_bits if a == lm_head and other == embed else 0.0
                bits += t.hidden_bits if a == embed and heads[other] > 0 else 0.0
                bits += t.partial_bits if heads[a] > 0 and units[other] > 0 else 0.0
                bits += t.partial_bits if units[a] > 0 and other == lm_head else 0.0
                took_s = bits * t.s_per_bit[a * n + other]
                if took_s > longest_s:
                    longest_s = took_s
                    w.link[0] = a
                    w.link[1] = other
    return longest_s


def rounds(t: StepTables, b: Batch, w: Scratch, count: int, times_s: Floats) -> None:
    """Compute the rounds of the first placements of a batch: [count]."""
    begin_batch(b, w)
    for which in range(count):
        times_s[which] = round_s(t, b, w, which)


def find_link_bits(t: StepTables, b: Batch, w: Scratch, found: Floats) -> None:
    """Find the bits that a step of the first placement of a batch sends over each link: [n, n]."""
    begin_batch(b, w)
    step_s(t, b, w, 0)
    _add_up(t, b, w, 0)
    for pair in range(t.n * t.n):
        found[pair] = w.link_bits[pair]


def _add_up(t: StepTables, b: Batch, w: Scratch, which: int) -> None:
    """Add up for how long a step keeps each device busy, and the bits that it sends over each link."""
    n, size, lm_head, embed = t.n, t.n_layers * t.n, b.lm_head[which], b.embed[which]
    heads, units, proj = b.heads[which * b.n_runs * n :], b.units[which * b.n_runs * n :], b.proj[which * b.n_runs :]
    for a in range(n):
        w.busy_s[a] = 0.0
        w.has[a] = a == embed
    for pair in range(n * n):
        w.link_bits[pair] = 0.0
    w.link_bits[lm_head * n + embed] += t.token_bits
    if lm_head != embed:
        w.busy_s[lm_head] += own_s(t, lm_head, t.token_bits)
        w.busy_s[embed] += own_s(t, embed, t.token_bits)
    w.busy_s[embed] += t.embed_s[embed]
    for layer in range(t.n_layers):
        of, here = w.run[layer], layer * n
        _spread(t, w, w.needs[here:])
        _attention(t, w, heads[of * n :], proj[of], w.needs[size + here :])
        _spread(t, w, w.needs[2 * size + here :])
        _feed_forward(t, w, units[of * n :], w.needs[3 * size + here :])
    for a in range(n):
        w.need[a] = a == lm_head
    _spread(t, w, w.need)
    w.busy_s[lm_head] += t.lm_head_s[lm_head]


def _spread(t: StepTables, w: Scratch, need: Flags) -> None:
    """Add what it takes to send x from the first device that has it to those that need it."""
    first, sent = 0, 0
    while not w.has[first]:
        first += 1
    for a in range(t.n):
        if need[a] and not w.has[a]:
            sent += 1
            w.link_bits[first * t.n + a] += t.hidden_bits
            w.busy_s[a] += own_s(t, a, t.hidden_bits)
    w.busy_s[first] += sent * own_s(t, first, t.hidden_bits)


def _attention(t: StepTables, w: Scratch, counts: Ints, at: int, sums: Flags) -> None:
    """Add what heads and the projection take."""
    n, taken_s = t.n, 0.0
    for a in range(n):
        w.busy_s[a] += t.heads_s[a * t.row + counts[a]]
    if at < 0:
        for a in range(n):
            if counts[a] > 0:
                w.busy_s[a] += t.columns_s[a * t.row + counts[a]]
        _join(t, w, counts, sums)
        return
    for a in range(n):
        if counts[a] > 0 and a != at:
            bits = t.attention_bits[counts[a]]
            w.link_bits[a * n + at] += bits
            w.busy_s[a] += own_s(t, a, bits)
            taken_s += own_s(t, at, bits)
    w.busy_s[at] += taken_s
    w.busy_s[at] += t.proj_s[at]
    for a in range(n):
        w.has[a] = a == at


def _feed_forward(t: StepTables, w: Scratch, counts: Ints, sums: Flags) -> None:
    """Add what the feed-forward block takes."""
    n, holders = t.n, 0
    for a in range(n):
        holders += counts[a] > 0
    for a in range(n):
        if counts[a] > 0:
            w.busy_s[a] += t.ffn_s[a] if holders == 1 else t.units_s[a * t.units_row + counts[a]]
    if holders == 1:
        for a in range(n):
            w.has[a] = counts[a] > 0
        return
    _join(t, w, counts, sums)


def _join(t: StepTables, w: Scratch, counts: Ints, sums: Flags) -> None:
    """Add what it takes to send partial sums from each to each, and to add them up where `sums` says."""
    n, terms, receivers = t.n, 0, 0
    for a in range(n):
        terms += counts[a] > 0
        receivers += sums[a]
    for a in range(n):
        messages = 0
        if counts[a] > 0:
            messages = receivers - sums[a]
            for b in range(n):
                if sums[b]:
                    w.link_bits[a * n + b] += t.partial_bits
        if sums[a]:
            messages += terms - (counts[a] > 0)
        w.busy_s[a] += messages * own_s(t, a, t.partial_bits)
        if sums[a]:
            w.busy_s[a] += t.sums_s[a * (n + 2) + terms + 1]
        w.has[a] = sums[a]
