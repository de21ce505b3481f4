"""Whether another placement of one undivided layer could pay, by bounds of what it gains and of what its moves take.

`search.undivided_moves` looks at these placements; nothing that it would find is missed. Bounds are those of
`search.local_moves`, `search.head_moves` and `search.one_layer`, without what devices have room for.
"""

from typing import NamedTuple

import numpy as np

from edgeemu.policies.compiled.device_speeds import (
    EMBED_FLOPS,
    FFN_FLOPS,
    FIRST_BYTES,
    FIRST_FLOPS,
    GROUP_BYTES,
    GROUP_FLOPS,
    LM_HEAD_FLOPS,
    PROJ_FLOPS,
    AllDevices,
    LayerWorks,
    block_s,
    work,
)
from edgeemu.policies.compiled.tables import MoveSizes
from edgeemu.policies.view.step_time import ROUNDING
from edgeemu_kernels.arrays import Floats, Ints

EMBED, PROJ, FFN, LM_HEAD = range(4)  # in the order in which x comes to them
FEW = 6  # devices with memory for a single block, up to which all can have some
CARRIERS = 4  # of more devices, the fastest
MOST_ALIKE = 8  # carriers, of which some are as fast: with more, nothing is ruled out


class OneLayer(NamedTuple):
    """A model of one layer on n devices: placements, links, messages, and what a move must gain.

    Links are those that are expected, as all times are; moves are made over the present ones.
    """

    n: int
    past: int  # positions cached
    number: int  # of placements: the one in force, and others that it could give way to
    singles: Ints  # [number, 4] devices
    counts: Ints  # [number, n] groups
    memory_bytes: Ints  # [n]
    least_alone: int  # bytes of a device with a single block
    s_per_bit: Floats  # [n, n]
    delay_s: Floats  # [n, n]
    present_s_per_bit: Floats  # [n, n]
    present_delay_s: Floats  # [n, n]
    x_bits: float
    token_bits: float
    outputs_bits: float  # of heads, besides those of each group
    group_bits: float
    tokens: float  # in which a move must pay back
    far_tokens: float  # the same of a large gain
    large: float  # share of a step
    worth: float  # share of a step that moves must gain to be made


class LayerTimes(NamedTuple):
    """Places to write in: times of heads, affine in the number of groups, and of single blocks, on each device."""

    computed_s: Floats  # [n]
    computed_each_s: Floats  # [n]
    read_s: Floats  # [n]
    read_each_s: Floats  # [n]
    singles_s: Floats  # [4, n]
    moves_s: Floats  # [4, n] that the move of each single block adds to a step
    serial_s: Floats  # [n]
    carriers: Ints  # [n]


def others_could_pay(m: OneLayer, y: MoveSizes, v: AllDevices, w: LayerWorks, t: LayerTimes) -> int:
    """1 if a change of the placement in force could pay, else 0. `v`: devices as they are expected."""
    fill(m, v, w, t)
    before_s = step_s(m, t, 0)
    for which in range(1, m.number):
        if (1.0 - ROUNDING) * step_s(m, t, which) < before_s:
            return 1
    if layer_could_pay(m, y, w, t, before_s) or ends_could_pay(m, y, t, before_s):
        return 1
    if joining_could_pay(m, y, t, before_s):
        return 1
    limit_s = stage_s(m, t, 0) - m.worth * before_s
    if within(m, w, t, m.singles[EMBED], m.singles[PROJ], limit_s):
        return 1
    return 1 if ring_could_pay(m, y, w, t, (1.0 - m.worth) * before_s) else 0


def fill(m: OneLayer, v: AllDevices, w: LayerWorks, t: LayerTimes) -> None:
    """Compute the times of all blocks on each device alone."""
    for a in range(m.n):
        t.computed_s[a] = work(w, m.past, FIRST_FLOPS) / v.flops_per_s[a] + v.overhead_s[a]
        t.computed_each_s[a] = work(w, m.past, GROUP_FLOPS) / v.flops_per_s[a]
        t.read_s[a] = work(w, m.past, FIRST_BYTES) / v.mem_bytes_per_s[a] + v.overhead_s[a]
        t.read_each_s[a] = work(w, m.past, GROUP_BYTES) / v.mem_bytes_per_s[a]
        t.singles_s[EMBED * m.n + a] = block_s(v, w, m.past, EMBED_FLOPS, a)
        t.singles_s[PROJ * m.n + a] = block_s(v, w, m.past, PROJ_FLOPS, a)
        t.singles_s[FFN * m.n + a] = block_s(v, w, m.past, FFN_FLOPS, a)
        t.singles_s[LM_HEAD * m.n + a] = block_s(v, w, m.past, LM_HEAD_FLOPS, a)


def _heads_s(t: LayerTimes, a: int, groups: int) -> float:
    """Time of some groups on a device."""
    return max(t.computed_s[a] + groups * t.computed_each_s[a], t.read_s[a] + groups * t.read_each_s[a])


def _hop_s(m: OneLayer, source: int, target: int, bits: float) -> float:
    """Time of a message; 0 from a device to itself."""
    return bits * m.s_per_bit[source * m.n + target] + m.delay_s[source * m.n + target]


def stage_s(m: OneLayer, t: LayerTimes, which: int) -> float:
    """Time from x at the embedding until it and the outputs of all heads are at the projection."""
    source, gather = m.singles[4 * which + EMBED], m.singles[4 * which + PROJ]
    latest_s = _hop_s(m, source, gather, m.x_bits)
    for a in range(m.n):
        groups = m.counts[which * m.n + a]
        if groups > 0:
            done_s = _hop_s(m, source, a, m.x_bits) + _heads_s(t, a, groups)
            if a == source:  # outputs queue behind x
                done_s = max(done_s, m.x_bits * m.s_per_bit[source * m.n + gather])
            latest_s = max(latest_s, done_s + _hop_s(m, a, gather, m.outputs_bits + groups * m.group_bits))
    return latest_s


def _ends_s(m: OneLayer, t: LayerTimes, which: int) -> float:
    """Time of a step without the layer."""
    embed, last, lm_head = m.singles[4 * which], m.singles[4 * which + FFN], m.singles[4 * which + LM_HEAD]
    token_s = _hop_s(m, lm_head, embed, m.token_bits) + t.singles_s[embed]
    return token_s + _hop_s(m, last, lm_head, m.x_bits) + t.singles_s[LM_HEAD * m.n + lm_head]


def step_s(m: OneLayer, t: LayerTimes, which: int) -> float:
    """Time of a step of one of the placements."""
    proj, ffn = m.singles[4 * which + PROJ], m.singles[4 * which + FFN]
    rest_s = t.singles_s[PROJ * m.n + proj] + _hop_s(m, proj, ffn, m.x_bits) + t.singles_s[FFN * m.n + ffn]
    return _ends_s(m, t, which) + stage_s(m, t, which) + rest_s


def _gained_s(m: OneLayer, gain_s: float, before_s: float) -> float:
    """Upper bound of what a gain of each step saves until its move must have paid back."""
    gain_s = gain_s + ROUNDING * before_s
    return (m.far_tokens if gain_s >= m.large * before_s else m.tokens) * gain_s


def _weights(y: MoveSizes, kind: int) -> float:
    """Bytes of the weights of a single block."""
    if kind == EMBED:
        return y.embed
    if kind == PROJ:
        return y.proj
    return y.ffn if kind == FFN else y.lm_head


def _move_s(y: MoveSizes, weights: float, caches: float, per_bit_s: float, delay_s: float) -> float:
    """Time to move blocks with these bytes over a link: on it, or from the receiver's storage."""
    flash_s = weights / y.flash_bytes_per_s if y.on_flash else 0.0
    bits = 8.0 * (caches if y.on_flash else caches + weights)
    return max(flash_s, bits * per_bit_s + delay_s) if bits > 0.0 else flash_s


def _quickest_s(m: OneLayer, y: MoveSizes, weights: float, caches: float, source: int, delayed: bool) -> float:
    """Lower bound of the time to move blocks with these bytes from a device to another. `delayed`: with the delay."""
    per_bit_s, delay_s = np.inf, np.inf
    for a in range(m.n):
        if a != source:
            per_bit_s = min(per_bit_s, m.present_s_per_bit[source * m.n + a])
            delay_s = min(delay_s, m.present_delay_s[source * m.n + a])
    return (1.0 - ROUNDING) * _move_s(y, weights, caches, per_bit_s, delay_s if delayed else 0.0)


def layer_could_pay(m: OneLayer, y: MoveSizes, w: LayerWorks, t: LayerTimes, before_s: float) -> bool:
    """Whether the whole layer could move to another device."""
    here, come_s = m.singles[FFN], _hop_s(m, m.singles[EMBED], m.singles[FFN], m.x_bits)
    whole_s, least_s = 0.0, np.inf
    for a in range(m.n):
        alone_s = _heads_s(t, a, w.n_groups) + t.singles_s[PROJ * m.n + a] + t.singles_s[FFN * m.n + a]
        least_s = min(least_s, alone_s)
        whole_s = alone_s if a == here else whole_s
    inner_s = before_s - _ends_s(m, t, 0) - come_s
    gain_s = inner_s - inner_s / whole_s * least_s + come_s + _hop_s(m, here, m.singles[LM_HEAD], m.x_bits)
    weights = y.proj + y.ffn + w.n_groups * y.head
    return _gained_s(m, gain_s, before_s) > _quickest_s(m, y, weights, w.n_groups * y.cache[0], here, False)


def ends_could_pay(m: OneLayer, y: MoveSizes, t: LayerTimes, before_s: float) -> bool:
    """Whether the output matrix, the embedding or both could move to another device."""
    embed, lm_head, least_s = m.singles[EMBED], m.singles[LM_HEAD], np.inf
    for a in range(m.n):
        least_s = min(least_s, t.singles_s[a] + t.singles_s[LM_HEAD * m.n + a])
    gain_s = _ends_s(m, t, 0) + _hop_s(m, embed, m.singles[PROJ], m.x_bits) - least_s
    table = y.table if embed != lm_head else 0.0  # which is where the other end is
    quickest_s = _quickest_s(m, y, y.embed - table, 0.0, embed, True)
    quickest_s = min(quickest_s, _quickest_s(m, y, y.lm_head - table, 0.0, lm_head, True))
    return _gained_s(m, gain_s, before_s) > quickest_s


def joining_could_pay(m: OneLayer, y: MoveSizes, t: LayerTimes, before_s: float) -> bool:
    """Whether the projection could move to the feed-forward block, or this to it."""
    source, proj, ffn = m.singles[EMBED], m.singles[PROJ], m.singles[FFN]
    if proj == ffn:
        return False
    hops_s = _hop_s(m, proj, ffn, m.x_bits) + _hop_s(m, source, proj, m.x_bits) + _hop_s(m, source, ffn, m.x_bits)
    to_ffn_s = hops_s + t.singles_s[PROJ * m.n + proj] - t.singles_s[PROJ * m.n + ffn]
    if _gained_s(m, to_ffn_s, before_s) > _quickest_s(m, y, y.proj, 0.0, proj, True):
        return True
    to_proj_s = hops_s + t.singles_s[FFN * m.n + ffn] - t.singles_s[FFN * m.n + proj]
    return _gained_s(m, to_proj_s, before_s) > _quickest_s(m, y, y.ffn, 0.0, ffn, True)


def within(m: OneLayer, w: LayerWorks, t: LayerTimes, source: int, gather: int, limit_s: float) -> bool:
    """Whether all groups could be done by then, with x from `source` and their outputs at `gather`."""
    found, late_s = 0, (1.0 + ROUNDING) * limit_s
    for a in range(m.n):
        left_s = late_s - _hop_s(m, source, a, m.x_bits) - _hop_s(m, a, gather, m.outputs_bits)
        each_s = m.group_bits * m.s_per_bit[a * m.n + gather]
        computed = _most(left_s - t.computed_s[a], each_s + t.computed_each_s[a], w.n_groups)
        found = found + min(computed, _most(left_s - t.read_s[a], each_s + t.read_each_s[a], w.n_groups))
    return found >= w.n_groups


def _most(left_s: float, each_s: float, most: int) -> int:
    """How often a time is in another, at most so often."""
    if left_s < each_s:
        return 0
    return most if left_s >= each_s * most else int(left_s / each_s)


def ring_could_pay(m: OneLayer, y: MoveSizes, w: LayerWorks, t: LayerTimes, below_s: float) -> bool:
    """Whether a placement from nothing could have a shorter step, with the migration's share."""
    count = _find_carriers(m, w, t)
    if count > MOST_ALIKE:
        return True
    for kind in range(4):
        _fill_moves(m, y, t, kind)
    for first in range(count):
        for second in range(count):
            if _end_of_ring_could_pay(m, w, t, count, t.carriers[first], t.carriers[second], below_s):
                return True
    return False


def _end_of_ring_could_pay(
    m: OneLayer, w: LayerWorks, t: LayerTimes, count: int, embed: int, proj: int, below_s: float
) -> bool:
    """Whether one with the embedding and the projection on these devices could."""
    n, least_s, hop_s = m.n, (1.0 + ROUNDING) * below_s, _hop_s(m, embed, proj, m.x_bits)
    begin_s = t.singles_s[EMBED * n + embed] + t.singles_s[PROJ * n + proj]
    moving_s = max(t.moves_s[EMBED * n + embed], t.moves_s[PROJ * n + proj])
    if begin_s + hop_s + moving_s >= least_s:
        return False
    for third in range(count):
        ffn = t.carriers[third]
        middle_s = begin_s + _hop_s(m, proj, ffn, m.x_bits) + t.singles_s[FFN * n + ffn]
        for fourth in range(count):
            lm_head = t.carriers[fourth]
            rest_s = middle_s + _hop_s(m, ffn, lm_head, m.x_bits) + t.singles_s[LM_HEAD * n + lm_head]
            rest_s = rest_s + _hop_s(m, lm_head, embed, m.token_bits)
            rest_s = rest_s + max(moving_s, max(t.moves_s[FFN * n + ffn], t.moves_s[LM_HEAD * n + lm_head]))
            if rest_s + hop_s < least_s and within(m, w, t, embed, proj, least_s - rest_s):
                return True
    return False


def _find_carriers(m: OneLayer, w: LayerWorks, t: LayerTimes) -> int:
    """Find the devices that could have single blocks, with all that are as fast as the last; how many they are."""
    able = 0
    for a in range(m.n):
        t.serial_s[a] = np.inf
        if m.memory_bytes[a] >= m.least_alone:
            able = able + 1
            t.serial_s[a] = t.singles_s[a] + t.singles_s[PROJ * m.n + a] + t.singles_s[FFN * m.n + a]
            t.serial_s[a] = t.serial_s[a] + t.singles_s[LM_HEAD * m.n + a] + 0.1 * _heads_s(t, a, w.n_groups)
    last_s, count = np.inf, 0
    if able > FEW:
        last_s = 0.0
        for _ in range(CARRIERS):  # each time the next
            next_s = np.inf
            for a in range(m.n):
                if t.serial_s[a] > last_s:
                    next_s = min(next_s, t.serial_s[a])
            last_s = next_s
    for a in range(m.n):
        if m.memory_bytes[a] >= m.least_alone and t.serial_s[a] <= (1.0 + ROUNDING) * last_s:
            t.carriers[count] = a
            count = count + 1
    return count


def _fill_moves(m: OneLayer, y: MoveSizes, t: LayerTimes, kind: int) -> None:
    """Compute what the move of a single block to each device adds to a step."""
    here, other = m.singles[kind], -1
    if kind == EMBED:
        other = m.singles[LM_HEAD]
    if kind == LM_HEAD:
        other = m.singles[EMBED]
    for a in range(m.n):
        weights, link = _weights(y, kind), here * m.n + a
        if a == other:  # where the table is
            weights = weights - y.table
        took_s = _move_s(y, weights, 0.0, m.present_s_per_bit[link], m.present_delay_s[link])
        t.moves_s[kind * m.n + a] = 0.0 if a == here else took_s / m.tokens
