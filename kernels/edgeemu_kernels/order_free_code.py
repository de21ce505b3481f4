"""Code of the products whose numbers do not depend on how a matrix is divided. Knows arrays as pointers and counts.

Each number is made of a row of x and one of the matrix alone, in the same order wherever it is computed: vectors go to
two sums of lanes in turn, and their lanes are added. Machine code of packed matrices has this order, too
(`codecs.assembly`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir

from edgeemu_kernels.compiled_sizes import COMPILED_LANES as LANES
from edgeemu_kernels.vector_code import COUNT, VECTOR, Code, Value, Variable

DOUBLE = ir.DoubleType()
TILE_ROWS, TILE_XS = 4, 2  # rows of the matrix and of x: found by measuring, as the next is
AHEAD = 512  # values that are asked for before they are needed, of each row of a tile


def order_free_kernels(grid_bits: int) -> Any:
    """Module with `product`, and `totals` on a grid of 2**-grid_bits."""
    module = ir.Module("order_free")
    _product(module)
    _totals(module, grid_bits)
    return module


def _product(module: Any) -> None:
    """product(x, weight, y, t, in, out, stride): x [t, in] @ weight [out, in].T -> y [t, out], of float32.

    Rows of y are `stride` numbers apart.
    """
    code = Code(module, "product", 3, 4)
    _, _, y, _, width, _, stride = code.arguments

    def tile(ks: list[Value], rows: list[Value]) -> None:
        for k, line in zip(ks, _sums(code, ks, rows, code.count(0), width), strict=True):
            for row, lanes in zip(rows, line, strict=True):
                code.store(code.any_order_sum(lanes), y, code.times(k, stride), row)

    _tiles(code, tile)
    code.finish()


def _totals(module: Any, grid_bits: int) -> None:
    """totals(x, weight, y, t, in, out, stride, part): adds x [t, in] @ weight [out, in].T to y [t, out], of float64.

    Of each part of so many columns the sum is rounded to a whole number of the grid's steps, then added.
    """
    code = Code(module, "totals", 3, 5)
    builder = code.builder
    _, _, y, _, width, _, stride, part = code.arguments

    def tile(ks: list[Value], rows: list[Value]) -> None:
        kind = ir.VectorType(DOUBLE, len(rows))
        totals = [Variable(code, kind, ir.Constant(kind, [0.0] * len(rows))) for _ in ks]
        with code.loop(code.count(0), builder.sdiv(width, part)) as index:
            for total, line in zip(totals, _sums(code, ks, rows, code.times(index, part), part), strict=True):
                wide = builder.fpext(code.sums(*line), kind)
                steps = code.rint(builder.fmul(wide, ir.Constant(kind, [2.0**grid_bits] * len(rows))))
                total.set(builder.fadd(total.get(), steps))
        for k, total in zip(ks, totals, strict=True):
            for lane, row in enumerate(rows):
                place = builder.gep(y, [code.add(code.times(k, stride), row)], source_etype=DOUBLE)
                more = builder.extract_element(total.get(), COUNT(lane))
                builder.store(builder.fadd(builder.load(place, typ=DOUBLE, align=8), more), place, align=8)

    _tiles(code, tile)
    code.finish()


def _tiles(code: Code, tile: Callable[[list[Value], list[Value]], None]) -> None:
    """Write tiles for all rows of x and of the matrix, whose numbers they are given. Both are read once for all sums.

    The matrix is read in four quarters at the same time: more of the memory's bandwidth than one stream gets.
    """
    _, _, _, t, _, out, *_ = code.arguments
    quarter, whole_t = code.builder.sdiv(out, code.count(TILE_ROWS)), code.whole(t, TILE_XS)
    for first, last, rows in ((code.count(0), quarter, TILE_ROWS), (code.whole(out, TILE_ROWS), out, 1)):
        with code.loop(first, last) as row:
            numbers = [code.add(row, code.times(quarter, code.count(i))) for i in range(rows)]
            for begin, end, n in ((code.count(0), whole_t, TILE_XS), (whole_t, t, 1)):
                with code.loop(begin, end, n) as k:
                    tile([code.add(k, code.count(i)) for i in range(n)], numbers)


def _sums(code: Code, ks: list[Value], rows: list[Value], at: Value, part: Value) -> list[list[Value]]:
    """Lanes whose sum is that of `part` columns from `at` on, of each of these rows of x with each of the matrix."""
    builder, width = code.builder, code.arguments[4]
    starts = [[code.times(each, width) for each in numbers] for numbers in (ks, rows)]
    whole = code.whole(part, 2 * LANES)
    sums = [[[Variable(code, VECTOR, code.constant(0.0)) for _ in rows] for _ in ks] for _ in range(2)]
    with code.loop(code.count(0), whole, 2 * LANES) as i:
        for turn, some in enumerate(sums):
            _multiply(code, starts, code.add(at, i, code.count(turn * LANES)), code.load, some)
    for turn, some in enumerate(sums):
        rest = code.add(whole, code.count(turn * LANES))
        with code.when(builder.icmp_signed("<", rest, part)):
            mask = code.first_lanes(builder.sub(part, rest))
            _multiply(code, starts, code.add(at, rest), partial(code.load_some, mask), some)
    return [
        [builder.fadd(even.get(), odd.get()) for even, odd in zip(*lines, strict=True)]
        for lines in zip(*sums, strict=True)
    ]


def _multiply(
    code: Code, starts: list[list[Value]], place: Value, load: Callable[..., Value], sums: list[list[Variable]]
) -> None:
    """Multiply vectors at that place of all rows of x with those of the matrix, and add the products to sums."""
    x, weight, *_ = code.arguments
    vectors = [load(x, start, place) for start in starts[0]]
    for j, start in enumerate(starts[1]):
        code.prefetch(weight, start, place, code.count(AHEAD))
        values = load(weight, start, place)
        for vector, line in zip(vectors, sums, strict=True):
            line[j].set(code.fma(values, vector, line[j].get()))
