"""Duration of a decode step of one placement: `view.share_passage`, operation by operation in the same order.

Layers alike are skipped as soon as this placement takes as long for one as for the one before; there, as soon as all
of a batch do.
"""

import numpy as np

from edgeemu.policies.compiled.share_busy import collected_s, gathered_in_turn_s, spread_in_turn, token_s
from edgeemu.policies.compiled.tables import Batch, Scratch, StepTables
from edgeemu_kernels.arrays import Flags, Ints

SAME_S = 1e-12  # between times of a layer, it is rounding


def step_s(t: StepTables, b: Batch, w: Scratch, which: int) -> float:
    """Time of a step of one placement of a batch."""
    n, lm_head, embed = t.n, b.lm_head[which], b.embed[which]
    heads = b.heads[which * b.n_runs * n :]  # [n_runs, n]
    proj = b.proj[which * b.n_runs :]  # [n_runs]
    units = b.units[which * b.n_runs * n :]  # [n_runs, n]
    _find_needs(t, w, embed, lm_head, heads, proj, units)
    for a in range(n):
        w.has[a] = a == embed
        w.x_s[a] = 0.0
    for pair in range(n * n):
        w.free_s[pair] = 0.0
    came = lm_head * n + embed
    busy, sent_s = t.busy[0] == 1, t.s_per_bit[came] * t.token_bits + t.delay_s[came]
    w.x_s[embed] = (token_s(t, lm_head, embed) if busy else sent_s) + t.embed_s[embed]
    layer, known, before_s = 0, False, 0.0
    while layer < t.n_layers:
        here, of = layer * n, w.run[layer]
        _attention(t, w, heads[of * n :], proj[of], here)
        _feed_forward(t, w, units[of * n :], here)
        layer += 1
        alike = _layers_alike(t, w, layer, heads, proj, units)
        if alike == 0:
            known = False
            continue
        least_s = _least_s(w, n)
        if known and _same(w, n, least_s):
            took_s = alike * (least_s - before_s)
            for a in range(n):
                w.x_s[a] += took_s
            for pair in range(n * n):
                w.free_s[pair] += took_s
            layer += alike
            known = False
            continue
        known, before_s = True, least_s
        _note(w, n, least_s)
    for a in range(n):
        w.need[a] = a == lm_head
    _spread(t, w, w.need)
    return w.x_s[lm_head] + t.lm_head_s[lm_head]


def _least_s(w: Scratch, n: int) -> float:
    """When the first device has x."""
    least_s = np.inf
    for a in range(n):
        if w.has[a]:
            least_s = min(least_s, w.x_s[a])
    return least_s


def _note(w: Scratch, n: int, least_s: float) -> None:
    """Note the state after a layer, from when the first device has x."""
    for a in range(n):
        w.had[a] = w.has[a]
        w.before_x_s[a] = w.x_s[a] - least_s if w.has[a] else 0.0
    for pair in range(n * n):
        w.before_free_s[pair] = max(w.free_s[pair] - least_s, 0.0)


def _same(w: Scratch, n: int, least_s: float) -> bool:
    """Whether all devices have x, and pipes are free, as late after the first as after the layer before."""
    for a in range(n):
        if w.has[a] != w.had[a]:
            return False
        if w.has[a] and abs(w.x_s[a] - least_s - w.before_x_s[a]) > SAME_S:
            return False
    latest_s = 0.0
    for pair in range(n * n):
        latest_s = max(latest_s, abs(max(w.free_s[pair] - least_s, 0.0) - w.before_free_s[pair]))
    return latest_s <= SAME_S


def _layers_alike(t: StepTables, w: Scratch, layer: int, heads: Ints, proj: Ints, units: Ints) -> int:
    """Number of layers from one on that are as the one before it, and whose devices need x likewise."""
    n, number = t.n, 0
    while layer < t.n_layers:
        a, b = w.run[layer], w.run[layer - 1]
        if proj[a] != proj[b]:
            return number
        for device in range(n):
            if heads[a * n + device] != heads[b * n + device] or units[a * n + device] != units[b * n + device]:
                return number
            for need in range(4):
                here = (need * t.n_layers + layer) * n + device
                if w.needs[here] != w.needs[here - n]:
                    return number
        number += 1
        layer += 1
    return number


def _find_needs(t: StepTables, w: Scratch, embed: int, lm_head: int, heads: Ints, proj: Ints, units: Ints) -> None:
    """Find who needs x in each layer, from the last one back."""
    n, size = t.n, t.n_layers * t.n
    for a in range(n):
        w.need[a] = a == lm_head
    layer = t.n_layers - 1
    while layer >= 0:
        at, here, holders, first = w.run[layer] * n, layer * n, 0, -1
        for a in range(n):
            holders += units[at + a] > 0
        split_proj, split_ffn = proj[w.run[layer]] < 0, holders != 1
        for a in range(n):
            w.ring[a] = (split_proj and heads[at + a] > 0) or (split_ffn and units[at + a] > 0)
            if w.ring[a] and first < 0:
                first = a
        if t.star and w.ring[embed]:
            first = embed
        ffn_sums, heads_sums = w.needs[3 * size + here :], w.needs[size + here :]
        attention, ffn = w.needs[here:], w.needs[2 * size + here :]
        if layer == t.n_layers - 1 and not t.star:
            for a in range(n):
                ffn_sums[a] = w.need[a] and split_ffn
        else:
            _find_sums(t, w.need, w.ring, first, split_ffn, ffn_sums)
        for a in range(n):
            ffn[a] = units[at + a] > 0 or ffn_sums[a]
        _find_sums(t, ffn, w.ring, first, split_proj, heads_sums)
        for a in range(n):
            w.need[a] = heads[at + a] > 0 or proj[w.run[layer]] == a or heads_sums[a]
            attention[a] = w.need[a]
        layer -= 1


def _find_sums(t: StepTables, wanted: Flags, ring: Flags, first: int, divided: bool, sums: Flags) -> None:
    """Find where partial sums of a ring are added: where the sum is wanted, and for others on the first."""
    outside = t.star
    for a in range(t.n):
        sums[a] = divided and not t.star and wanted[a] and ring[a]
        outside = outside or (wanted[a] and not ring[a])
    if divided and outside:
        sums[first] = True


def _spread(t: StepTables, w: Scratch, need: Flags) -> None:
    """Send x from the first device that has it to those that need it."""
    first = 0
    while not w.has[first]:
        first += 1
    if t.busy[0] == 1:
        spread_in_turn(t, w, need, first)
        return
    x_s, way = w.x_s[first], first * t.n
    for a in range(t.n):
        if need[a] and not w.has[a]:
            left_s = max(x_s, w.free_s[way + a]) + t.hidden_bits * t.s_per_bit[way + a]
            w.free_s[way + a] = left_s
            w.x_s[a] = left_s + t.delay_s[way + a]


def _only(t: StepTables, w: Scratch, device: int, x_s: float) -> None:
    """Note that one device has x, and no other."""
    for a in range(t.n):
        w.has[a] = a == device
        w.x_s[a] = 0.0
    w.x_s[device] = x_s


def _attention(t: StepTables, w: Scratch, counts: Ints, at: int, here: int) -> None:
    """Go on to x after the projection."""
    n = t.n
    _spread(t, w, w.needs[here:])
    if at < 0:
        for a in range(n):
            place = a * t.row + counts[a]
            w.done_s[a] = w.x_s[a] + t.heads_s[place] + t.columns_s[place]
        _join(t, w, counts, w.needs[t.n_layers * n + here :])
        return
    if t.busy[0] == 1:
        _only(t, w, at, collected_s(t, w, counts, at) + t.proj_s[at])
        return
    ready_s = w.x_s[at]
    for a in range(n):
        if counts[a] > 0:
            there_s = w.x_s[a] + t.heads_s[a * t.row + counts[a]]
            if a != at:
                way = a * n + at
                left_s = max(there_s, w.free_s[way]) + t.attention_bits[counts[a]] * t.s_per_bit[way]
                w.free_s[way] = left_s
                there_s = left_s + t.delay_s[way]
            ready_s = max(ready_s, there_s)
    _only(t, w, at, ready_s + t.proj_s[at])


def _feed_forward(t: StepTables, w: Scratch, counts: Ints, here: int) -> None:
    """Go on to x after the feed-forward block."""
    n, holders, last, size = t.n, 0, 0, t.n_layers * t.n
    _spread(t, w, w.needs[2 * size + here :])
    for a in range(n):
        if counts[a] > 0:
            holders += 1
            last = a
    if holders == 1:
        _only(t, w, last, w.x_s[last] + t.ffn_s[last])
        return
    for a in range(n):
        w.done_s[a] = w.x_s[a] + t.units_s[a * t.units_row + counts[a]]
    _join(t, w, counts, w.needs[3 * size + here :])


def _join(t: StepTables, w: Scratch, counts: Ints, sums: Flags) -> None:
    """Send partial sums, done on those with `counts`, from each to each, and add them up where `sums` says."""
    n, terms, busy = t.n, 1, t.busy[0] == 1
    for a in range(n):
        terms += counts[a] > 0
        w.sent[a] = 0
    for b in range(n):
        w.joined_s[b] = 0.0
        if sums[b]:
            ready_s = gathered_in_turn_s(t, w, counts, sums, b) if busy else _gathered_s(t, w, counts, b)
            w.joined_s[b] = ready_s + t.sums_s[b * (n + 2) + terms]
    for b in range(n):
        w.has[b] = sums[b]
        w.x_s[b] = w.joined_s[b]


def _gathered_s(t: StepTables, w: Scratch, counts: Ints, b: int) -> float:
    """When a device has x and the partial sums of all."""
    ready_s = w.x_s[b]
    for a in range(t.n):
        if counts[a] > 0:
            there_s = w.done_s[a]
            if a != b:
                way = a * t.n + b
                left_s = max(there_s, w.free_s[way]) + t.partial_bits * t.s_per_bit[way]
                w.free_s[way] = left_s
                there_s = left_s + t.delay_s[way]
            ready_s = max(ready_s, there_s)
    return ready_s


def begin_batch(b: Batch, w: Scratch) -> None:
    """Note the run of each layer, any way as the longest, and any device as the busiest."""
    layer = 0
    w.longest[0] = 0
    w.longest[1] = 0
    w.longest[2] = 0
    w.busiest[0] = 0
    for run in range(b.n_runs):
        for _ in range(b.lengths[run]):
            w.run[layer] = run
            layer += 1
