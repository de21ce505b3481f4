"""Encoders of ggml's K formats: super-blocks of 256 numbers with quantised scales.

They follow `quantize_row_q4_K_ref` and `quantize_row_q6_K_ref` of `ggml-quants.c`: each sub-block's scale is the best
of some that are tried. Knows numbers; no files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeemu_kernels.arrays import Array, Raw

_LARGEST = np.float32(65504)  # of float16
_TINY = np.float32(1e-35)  # what is divided by less counts as nothing
_NOTHING = np.float32(1e-15)  # GROUP_MAX_EPS: a sub-block below it is zero


def half(values: Array) -> Raw:
    """Encode float16 [n, m] -> [n, 2 m]; what it cannot hold becomes its largest number."""
    return np.clip(values, -_LARGEST, _LARGEST).astype(np.float16).view(np.uint8)


def nearest(values: Array, *, away: bool = False) -> Array:
    """Round to whole numbers, halves to even or `away` from zero, as C's `roundf` does."""
    if not away:
        return np.rint(values)
    whole = np.trunc(values)
    whole += np.trunc(np.float32(2) * (values - whole))
    return whole


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros_like(above), where=np.abs(below) > _TINY)


def _of_size_one(x: Array) -> tuple[Array, NDArray[np.int32]]:
    """Numbers [n, parts, size] as fractions below 1 times powers of two, so that no product of them overflows.

    Nothing is rounded. The exponents are [n, 1].
    """
    _, exponents = np.frexp(np.abs(x).max(axis=(1, 2)))
    return np.ldexp(x, -exponents[:, None, None]), exponents[:, None]


def _upright(parts: Array) -> Array:
    """Sub-blocks as columns, [n, parts, size] -> [size, n * parts], so that sums over them are sums of rows."""
    return np.ascontiguousarray(parts.reshape(-1, parts.shape[2]).T)


def q4_k(values: Array) -> Raw:
    """Encode 4-bit numbers with a scale and a minimum of 6 bits for each 32: [n, 256] -> [n, 144]."""
    parts = values.reshape(-1, 8, 32)
    scaled, exponents = _of_size_one(parts)
    found = _scale_and_least(_upright(scaled))  # 2 x [8 n]
    scale, least = (np.ldexp(each.reshape(-1, 8), exponents) for each in found)  # [n, 8] each
    d, d_least = scale.max(axis=1, keepdims=True), least.max(axis=1, keepdims=True)  # [n, 1]
    sixes = [
        np.minimum(np.rint(each * _ratio(np.full_like(top, 63), top)), np.float32(63)).astype(np.uint8)
        for each, top in ((scale, d), (least, d_least))
    ]  # 2 x [n, 8]
    heads = [half(top / np.float32(63)) for top in (d, d_least)]  # 2 x [n, 2]
    by, offset = (head.view(np.float16).astype(np.float32) * six for head, six in zip(heads, sixes, strict=True))
    numbers = np.clip(np.rint(_ratio(parts + offset[..., None], by[..., None] + 0 * parts)), 0, 15).astype(np.uint8)
    pairs = numbers.reshape(-1, 4, 2, 32)
    nibbles = (pairs[:, :, 0] | pairs[:, :, 1] << np.uint8(4)).reshape(-1, 128)
    return np.concatenate([*heads, _packed_scales(*sixes), nibbles], axis=1)


def _packed_scales(scale: Raw, least: Raw) -> Raw:
    """Pack eight scales and eight minima of 6 bits: 2 x [n, 8] -> [n, 12]; `decode.k_scales` is the inverse."""
    low = scale[:, :4] | scale[:, 4:] >> 4 << 6
    high = least[:, :4] | least[:, 4:] >> 4 << 6
    return np.concatenate([low, high, scale[:, 4:] & 15 | (least[:, 4:] & 15) << 4], axis=1)


def _scale_and_least(x: Array) -> tuple[Array, Array]:
    """Best scale and (sign turned) minimum of each sub-block (`make_qkx2_quants`): [32, m] -> 2 x [m].

    The error is weighted with the size of the numbers. Of 22 divisions of the range, all but the first corrected by
    least squares, the best is taken.
    """
    top, least = x.max(axis=0), np.minimum(x.min(axis=0), np.float32(0))
    span: Array = np.where(top - least < _NOTHING, np.float32(0), top - least)
    above, weight = x - least, np.abs(x)
    weight += np.sqrt(np.square(x).mean(axis=0))
    weighted = weight * x
    sum_w, sum_x = weight.sum(axis=0), weighted.sum(axis=0)
    scale = span / np.float32(15)
    numbers, work = np.empty_like(x), np.empty_like(x)
    best = _error(x, weight, _numbers(above, 15, span, numbers), scale, least, work)
    for step in range(21):
        _numbers(above, 14 + 0.1 * step, span, numbers)
        sum_l = np.multiply(weight, numbers, out=work).sum(axis=0)
        sum_l2 = np.multiply(work, numbers, out=work).sum(axis=0)
        sum_xl = np.multiply(weighted, numbers, out=work).sum(axis=0)
        divisor = sum_w * sum_l2 - sum_l * sum_l
        tried = _ratio(sum_w * sum_xl - sum_x * sum_l, divisor)
        tried_least = _ratio(sum_l2 * sum_x - sum_l * sum_xl, divisor)
        tried = np.where(tried_least > 0, _ratio(sum_xl, sum_l2), tried)
        tried_least = np.minimum(tried_least, np.float32(0))
        error = _error(x, weight, numbers, tried, tried_least, work)
        better = (divisor > 0) & (error < best)
        scale, least = np.where(better, tried, scale), np.where(better, tried_least, least)
        best = np.where(better, error, best)
    return np.where(span > 0, scale, np.float32(0)), -least


def _numbers(above: Array, steps: float, span: Array, out: Array) -> Array:
    """Whole numbers, at most 15, if `span` [m] is divided into so many steps: [32, m] -> out [32, m]."""
    np.multiply(above, _ratio(np.full_like(span, steps), span), out=out)
    np.rint(out, out=out)
    return np.minimum(out, np.float32(15), out=out)


def _error(x: Array, weight: Array, numbers: Array, scale: Array, least: Array, work: Array) -> Array:
    """Weighted sum of squares of what numbers [32, m] are off -> [m]; overwrites `work`."""
    np.multiply(numbers, scale, out=work)
    work += least
    work -= x
    work *= work
    work *= weight
    error: Array = work.sum(axis=0)
    return error


def q6_k(values: Array) -> Raw:
    """Encode 6-bit numbers with a scale of 8 bits for each 16: [n, 256] -> [n, 210]."""
    parts = values.reshape(-1, 16, 16)
    scaled, exponents = _of_size_one(parts)
    scale: Array = np.ldexp(_signed_scale(_upright(scaled)).reshape(-1, 16), exponents)  # [n, 16]
    top: Array = np.take_along_axis(scale, np.abs(scale).argmax(axis=1, keepdims=True), axis=1)  # [n, 1]
    top = np.where(np.abs(top) < _NOTHING, np.float32(0), top)
    eights = np.minimum(np.rint(scale * _ratio(np.float32(-128) + 0 * top, top)), np.float32(127))  # [n, 16]
    d = half(top / np.float32(-128))  # [n, 2]
    by = d.view(np.float16).astype(np.float32) * eights  # [n, 16]
    numbers = np.clip(np.rint(_ratio(parts, by[..., None] + 0 * parts)), -32, 31) + np.float32(32)
    quarters = numbers.astype(np.uint8).reshape(-1, 2, 4, 32)
    low = quarters & np.uint8(15)
    nibbles = (low[:, :, :2] | low[:, :, 2:] << np.uint8(4)).reshape(-1, 128)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high: Raw = np.bitwise_or.reduce((quarters >> np.uint8(4)) << shifts, axis=2).reshape(-1, 64)
    return np.concatenate([nibbles, high, eights.astype(np.int8).view(np.uint8), d], axis=1)


def _signed_scale(x: Array) -> Array:
    """Best scale of each sub-block of signed numbers (`make_qx_quants`): [16, m] -> [m].

    The error is weighted with the squares of the numbers; the best of 19 divisions of the range is taken.
    """
    largest: Array = np.take_along_axis(x, np.abs(x).argmax(axis=0)[None], axis=0)[0]  # [m]
    largest = np.where(np.abs(largest) < _NOTHING, np.float32(0), largest)
    weight = x * x
    weighted, numbers, work = weight * x, np.empty_like(x), np.empty_like(x)
    scale: Array = np.zeros_like(largest)
    best: Array = np.zeros_like(largest)
    for step in (0, *range(-9, 0), *range(1, 10)):
        np.multiply(x, _ratio(np.full_like(largest, -32 - 0.1 * step), largest), out=numbers)
        np.rint(numbers, out=numbers)
        np.clip(numbers, -32, 31, out=numbers)
        sum_xl = np.multiply(weighted, numbers, out=work).sum(axis=0)
        np.multiply(weight, numbers, out=work)
        sum_l2 = np.multiply(work, numbers, out=work).sum(axis=0)
        better = sum_xl * sum_xl > best * sum_l2
        scale = np.where(better, _ratio(sum_xl, sum_l2), scale)
        best = np.where(better, scale * sum_xl, best)
    return scale
