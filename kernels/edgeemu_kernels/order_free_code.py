"""Code of the products whose numbers do not depend on how a matrix is divided. Knows arrays as pointers and counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir

from edgeemu_kernels.compiled_sizes import COMPILED_LANES as LANES
from edgeemu_kernels.vector_code import COUNT, VECTOR, Code, Value, Variable

DOUBLE = ir.DoubleType()
TILE_ROWS, TILE_XS = 4, 2  # rows of the matrix and of x: found by measuring
Store = Callable[[Value, Value, Value], None]  # of a sum, for a row of x, and one of the matrix


def order_free_kernels(grid_bits: int) -> Any:
    """Module with `product`, and `totals` on a grid of 2**-grid_bits."""
    module = ir.Module("order_free")
    _product(module)
    _totals(module, grid_bits)
    return module


def _product(module: Any) -> None:
    """product(x, weight, y, t, in, out, part, stride): x [t, in] @ weight [out, in].T -> y [t, out], of float32.

    Rows of y are `stride` numbers apart; part: in.
    """
    code = Code(module, "product", 3, 5)
    y, stride = code.arguments[2], code.arguments[-1]
    _tiles(code, lambda total, k, row: code.store(total, y, code.times(k, stride), row))
    code.finish()


def _totals(module: Any, grid_bits: int) -> None:
    """totals(x, weight, y, t, in, out, part, stride): adds x [t, in] @ weight [out, in].T to y [t, out], of float64.

    Of each part of so many columns the sum is rounded to a whole number of the grid's steps, then added.
    """
    code = Code(module, "totals", 3, 5)
    builder, y, stride = code.builder, code.arguments[2], code.arguments[-1]
    rint = ir.Function(module, ir.FunctionType(DOUBLE, [DOUBLE]), "llvm.rint.f64")

    def add(total: Value, k: Value, row: Value) -> None:
        place = builder.gep(y, [code.add(code.times(k, stride), row)], source_etype=DOUBLE)
        steps = builder.call(rint, [builder.fmul(builder.fpext(total, DOUBLE), DOUBLE(2.0**grid_bits))])
        builder.store(builder.fadd(builder.load(place, typ=DOUBLE, align=8), steps), place, align=8)

    _tiles(code, add)
    code.finish()


def _tiles(code: Code, store: Store) -> None:
    """Sums of each part, for all rows of x and of the matrix: tiles of both are read once for all their sums."""
    _, _, _, t, _, out, *_ = code.arguments
    whole_out, whole_t = code.whole(out, TILE_ROWS), code.whole(t, TILE_XS)
    for first_row, last_row, rows in ((code.count(0), whole_out, TILE_ROWS), (whole_out, out, 1)):
        with code.loop(first_row, last_row, rows) as row:
            for first, last, n in ((code.count(0), whole_t, TILE_XS), (whole_t, t, 1)):
                with code.loop(first, last, n) as k:
                    _tile(code, (k, n), (row, rows), store)


def _tile(code: Code, xs: tuple[Value, int], rows: tuple[Value, int], store: Store) -> None:
    """Sums of each part of `n` rows of x with so many rows of the matrix.

    Each sum is made of its two rows alone, in the same order in every tile: vectors go to two sums of lanes in turn.
    Machine code of packed matrices has this order, too (`codecs.assembly`).
    """
    _, _, _, _, width, _, part, _ = code.arguments
    builder = code.builder
    ks, js = ([code.add(first, code.count(i)) for i in range(n)] for first, n in (xs, rows))
    starts = [[code.times(each, width) for each in numbers] for numbers in (ks, js)]
    whole = code.whole(part, 2 * LANES)
    first = Variable(code, COUNT, code.count(0))
    with code.loop(code.count(0), builder.sdiv(width, part)):
        at = first.get()
        sums = [[[Variable(code, VECTOR, code.constant(0.0)) for _ in js] for _ in ks] for _ in range(2)]
        with code.loop(code.count(0), whole, 2 * LANES) as i:
            for turn, some in enumerate(sums):
                _multiply(code, starts, code.add(at, i, code.count(turn * LANES)), code.load, some)
        for turn, some in enumerate(sums):
            rest = code.add(whole, code.count(turn * LANES))
            with code.when(builder.icmp_signed("<", rest, part)):
                mask = code.first_lanes(builder.sub(part, rest))
                _multiply(code, starts, code.add(at, rest), partial(code.load_some, mask), some)
        for i, k in enumerate(ks):
            for j, row in enumerate(js):
                store(code.any_order_sum(builder.fadd(sums[0][i][j].get(), sums[1][i][j].get())), k, row)
        first.set(code.add(at, part))


def _multiply(
    code: Code, starts: list[list[Value]], place: Value, load: Callable[..., Value], sums: list[list[Variable]]
) -> None:
    """Multiply vectors at that place of all rows of x with those of the matrix, and add the products to sums."""
    x, weight, *_ = code.arguments
    vectors = [load(x, start, place) for start in starts[0]]
    for j, start in enumerate(starts[1]):
        values = load(weight, start, place)
        for vector, line in zip(vectors, sums, strict=True):
            line[j].set(code.fma(values, vector, line[j].get()))
