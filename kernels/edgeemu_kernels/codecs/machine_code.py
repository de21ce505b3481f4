"""Products with packed matrices and their decoding, compiled for this processor. Knows raw bytes; no model.

LLVM compiles some 0.05 s per format, in memory, when a format is first used; a process that is forked afterwards has it
already. It is imported only then: a run in float32 never loads it. NumPy's way is the reference (`codecs.decode`), and
what computes where LLVM cannot: a processor without float16, or rows that are not whole blocks for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from edgeemu_kernels.arrays import Array, Floats, Raw, address, data_of
from edgeemu_kernels.codecs import decode as numpys
from edgeemu_kernels.codecs.assembly import assembly
from edgeemu_kernels.codecs.block_assembly import block_of
from edgeemu_kernels.precision import NumberFormat


class Compiled(NamedTuple):
    """Machine code of one format; see `assembly.assembly` for the arguments."""

    product: Any
    totals: Any
    mix: Any
    decode: Any
    engine: Any  # owns the code


@cache
def compiled(form: NumberFormat) -> Compiled | None:
    """Machine code for a format; None if this processor cannot run it."""
    from edgeemu_kernels.object_code import can_convert_halves, compile_module

    if not can_convert_halves():
        return None  # LLVM would call a function of a library that is not there
    text = assembly(form)
    engine = compile_module(text, lambda: text)
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    of_products = pointer, count, count, pointer, count, pointer, count
    product = ctypes.CFUNCTYPE(None, *of_products)
    totals = ctypes.CFUNCTYPE(None, *of_products, count, ctypes.c_double)
    mix = ctypes.CFUNCTYPE(None, pointer, count, count, pointer, count, pointer)
    decode_ = ctypes.CFUNCTYPE(None, pointer, count, pointer)
    at = engine.get_function_address
    return Compiled(product(at("product")), totals(at("totals")), mix(at("mix")), decode_(at("decode")), engine)


def prepare(forms: Iterable[NumberFormat]) -> None:
    """Compile for these formats now, so that processes which are forked later need neither time nor memory for it."""
    for form in forms:
        compiled(form)


def product(raw: Raw, x: Array, form: NumberFormat) -> Array | None:
    """Product x @ decoded(raw).T: [rows, row_bytes], [t, in] -> [t, rows]; None where it is not compiled.

    Each number of the result depends on its rows only: it is the same, bit for bit, whatever else is computed with it.
    """
    usable = _usable(raw, x.shape[1], form)
    if usable is None or not x.size:
        return None
    code, blocks = usable
    x = np.ascontiguousarray(x)
    y: Array = np.empty((len(x), len(raw)), np.float32)
    code.product(address(raw), len(raw), blocks, address(x), len(x), address(y), len(raw))
    return y


def add_totals(raw: Raw, x: Array, form: NumberFormat, totals: Floats, part: int, steps: float) -> bool:
    """Add the products of every `part` columns, in whole steps, to totals [t, rows]. False: that is not compiled.

    [rows, row_bytes], [t, in]; `steps` make 1.
    """
    usable, (size, _) = _usable(raw, x.shape[1], form), block_of(form)
    if usable is None or part % size or not x.size:
        return False
    code, blocks = usable
    x = np.ascontiguousarray(x)
    code.totals(address(raw), len(raw), blocks, address(x), len(x), data_of(totals), len(raw), part // size, steps)
    return True


def mix(raw: Raw, p: Array, out: Array, form: NumberFormat) -> bool:
    """Add p @ decoded(raw) to out: [rows, row_bytes], p [n, rows], out [n, width], contiguous. False: not compiled."""
    usable = _usable(raw, out.shape[1], form)
    if usable is None or not p.size:
        return False
    if p.shape != (len(out), len(raw)):
        raise ValueError(f"{p.shape} factors of {len(raw)} rows for {len(out)} sums")
    code, blocks = usable
    code.mix(address(raw), len(raw), blocks, address(p), len(p), address(out))
    return True


def decode(raw: Raw, out: Array, form: NumberFormat) -> None:
    """Decode raw [rows, row_bytes] into out [rows, width], C-contiguous: the same bits as `codecs.decode`."""
    usable = None if form.name == "f32" else _usable(raw, out.shape[1], form)  # numbers of float32 are only copied
    if usable is None or len(out) != len(raw):  # NumPy refuses the latter
        numpys.decode(raw, out, form)
        return
    code, blocks = usable
    code.decode(address(raw), blocks * len(raw), address(out))


def _usable(raw: Raw, width: int, form: NumberFormat) -> tuple[Compiled, int] | None:
    """Machine code for rows of that width, and their number of blocks for it. Raises ValueError for rows of another."""
    if raw.shape[1] != form.row_bytes(width):
        raise ValueError(f"rows of {raw.shape[1]} bytes are not {width} numbers in {form.name}")
    code, (size, _) = compiled(form), block_of(form)
    if code is None or width % size or not raw.size or not raw.flags.c_contiguous:
        return None
    return code, width // size
