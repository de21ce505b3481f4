"""Code of the compiled float32 kernels. Knows arrays as pointers and counts; no model."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from edgeemu_kernels.compiled_sizes import COMPILED_BLOCK as BLOCK
from edgeemu_kernels.compiled_sizes import COMPILED_LANES as LANES
from edgeemu_kernels.vector_code import COUNT, FLOAT, VECTOR, Code, Value, Variable

AHEAD = 2048  # values that attention asks for before they are needed, 8 KiB; found by measuring, as the next is
AHEAD_EACH = 512  # likewise, of each of the four streams of a matrix


def every_kernel() -> Any:
    """Module with all kernels."""
    module = ir.Module("edgeemu_kernels")
    for write in (_few_rows, _place, _attend, _causal_softmax, _swiglu, _read):
        write(module)
    return module


# -- products of few rows -------------------------------------------------------------------------------------------


def _few_rows(module: Any) -> None:
    """few_rows(x, weight, y, t, in, out): x [t, in] @ weight [out, in].T -> y [t, out].

    Reads four quarters of the matrix at the same time: more of the memory's bandwidth than one stream gets. Each of
    their rows is multiplied by all rows of x before the next is read.
    """
    code = Code(module, "few_rows", 3, 3)
    _, _, _, t, _, out = code.arguments
    quarter = code.builder.sdiv(out, code.count(4))
    by_four = code.whole(t, 4)
    with code.loop(code.count(0), quarter) as row:
        rows = [code.add(row, code.times(quarter, code.count(i))) for i in range(4)]
        with code.loop(code.count(0), by_four, 4) as k:
            _tile(code, k, 4, rows)
        with code.loop(by_four, code.whole(t, 2), 2) as k:
            _tile(code, k, 2, rows)
        with code.loop(code.whole(t, 2), t) as k:
            _tile(code, k, 1, rows)
    with code.loop(code.whole(out, 4), out) as row, code.loop(code.count(0), t) as k:
        _tile(code, k, 1, [row])
    code.finish()


def _tile(code: Code, first: Value, n: int, rows: list[Value]) -> None:
    """Products of `n` rows of x from `first` with these rows of the matrix."""
    x, weight, y, _, width, out = code.arguments
    xs = [code.times(code.add(first, code.count(k)), width) for k in range(n)]
    starts = [code.times(row, width) for row in rows]
    sums = [[Variable(code, VECTOR, code.constant(0.0)) for _ in rows] for _ in xs]
    with code.loop(code.count(0), code.whole(width, LANES), LANES) as i:
        vectors = [code.load(x, at, i) for at in xs]
        for j, start in enumerate(starts):
            code.prefetch(weight, start, i, code.count(AHEAD_EACH))
            values = code.load(weight, start, i)
            for k, vector in enumerate(vectors):
                sums[k][j].set(code.fma(values, vector, sums[k][j].get()))
    totals = [[Variable(code, FLOAT, code.sum(vector.get())) for vector in line] for line in sums]
    with code.loop(code.whole(width, LANES), width) as i:
        for k, at in enumerate(xs):
            for j, start in enumerate(starts):
                product = code.builder.fmul(code.load(x, at, i, kind=FLOAT), code.load(weight, start, i, kind=FLOAT))
                totals[k][j].set(code.builder.fadd(totals[k][j].get(), product))
    for k, line in enumerate(totals):
        for j, total in enumerate(line):
            code.store(total.get(), y, code.times(code.add(first, code.count(k)), out), rows[j])


# -- attention of one position --------------------------------------------------------------------------------------


def _place(module: Any) -> None:
    """place(qkv, turns, keys, values, n, S, hd, room, at, pairs, step, scale): all that comes before `attend`.

    In qkv [n*S + n + n, hd] queries and keys are rotated by turns [pairs, 2], and queries scaled; then its keys and
    values are copied to the rows `at` of keys and values [n, room, hd]. The two numbers of a pair are side by side if
    `step` is 2, and `pairs` apart if it is 1. hd: a multiple of 16. Rounded as where NumPy multiplies complex numbers.
    """
    code = Code(module, "place", 4, 7, 1)
    qkv, turns, keys, values, n, s, width, room, at, pairs, step, scale = code.arguments
    builder, queries = code.builder, code.times(n, s)
    apart = builder.select(builder.icmp_signed("==", step, code.count(1)), pairs, code.count(1))
    with code.loop(code.count(0), code.add(queries, n)) as row, code.loop(code.count(0), pairs) as pair:
        first = code.add(code.times(row, width), code.times(pair, step))
        a, b = (code.load(qkv, place, kind=FLOAT) for place in (first, code.add(first, apart)))
        turn = code.times(pair, code.count(2))
        cos, sin = (code.load(turns, turn, code.count(i), kind=FLOAT) for i in (0, 1))
        code.store(builder.fma(a, cos, builder.fneg(builder.fmul(b, sin))), qkv, first)
        code.store(builder.fma(a, sin, builder.fmul(b, cos)), qkv, first, apart)
    with code.loop(code.count(0), code.times(queries, width), LANES) as i:
        code.store(builder.fmul(code.load(qkv, i), code.splat(scale)), qkv, i)
    for first, rows in ((queries, keys), (code.add(queries, n), values)):
        with code.loop(code.count(0), n) as group, code.loop(code.count(0), width, LANES) as i:
            number = code.load(qkv, code.times(code.add(first, group), width), i)
            code.store(number, rows, code.times(code.add(code.times(group, room), at), width), i)
    code.finish()


def _attend(module: Any) -> None:
    """attend(q, keys, values, mixed, scratch, n, S, hd, room, length): softmax(q @ keys.T) @ values of n groups.

    q and mixed [n, S, hd], keys and values [n, room, hd], of which `length` positions count. hd: a multiple of 16.
    scratch: `attention_scratch` values.
    """
    group = _attend_group(module)
    code = Code(module, "attend", 5, 5)
    q, keys, values, mixed, scratch, n, s, width, room, length = code.arguments
    pairs = code.whole(code.add(s, code.count(1)), 2)  # queries go by two: the last one may be zeros
    size = code.times(pairs, width)
    sums, rest = code.at(scratch, size), code.at(scratch, size, size)
    with code.loop(code.count(0), n) as g:
        first, cache = code.times(g, code.times(s, width)), code.times(g, code.times(room, width))
        with code.loop(code.times(s, width), size, LANES) as i:
            code.store(code.constant(0.0), scratch, i)
        with code.loop(code.count(0), code.times(s, width), LANES) as i:
            code.store(code.load(q, first, i), scratch, i)
        pointers = [scratch, code.at(keys, cache), code.at(values, cache), sums, rest]
        code.builder.call(group, [*pointers, pairs, width, length])
        with code.loop(code.count(0), code.times(s, width), LANES) as i:
            code.store(code.load(sums, i), mixed, first, i)
    code.finish()


def _attend_group(module: Any) -> Value:
    """attend_group(q, keys, values, mixed, scratch, S, hd, length): one group of an even number of queries.

    q [S, hd], keys and values [length, hd], mixed [S, hd]. Online softmax (Milakov & Gimelshein 2018) over blocks of
    positions, so that keys and values are read once from memory.
    scratch: scores [S, BLOCK], then for each query its highest score, and the sum of its exponentials.
    """
    code = Code(module, "attend_group", 5, 3)
    _, _, _, mixed, scratch, s, width, length = code.arguments
    highest, sums = code.times(s, code.count(BLOCK)), code.times(s, code.count(BLOCK + 1))
    with code.loop(code.count(0), s) as query:
        code.store(FLOAT(float("-inf")), scratch, highest, query)
        code.store(FLOAT(0.0), scratch, sums, query)
    with code.loop(code.count(0), code.times(s, width), LANES) as i:
        code.store(code.constant(0.0), mixed, i)
    with code.loop(code.count(0), length, BLOCK) as start:
        left = code.builder.sub(length, start)
        rows = code.builder.select(code.builder.icmp_signed("<", left, COUNT(BLOCK)), left, COUNT(BLOCK))
        for step in (_score, _mix):
            with code.loop(code.count(0), code.whole(rows, 4), 4) as row:
                step(code, start, row, 4)
            with code.loop(code.whole(rows, 4), rows) as row:
                step(code, start, row, 1)
            if step is _score:
                with code.loop(code.count(0), s) as query:
                    _softmax(code, query, rows, code.add(highest, query), code.add(sums, query))
    with code.loop(code.count(0), s) as query:
        total = code.splat(code.load(scratch, sums, query, kind=FLOAT))
        with code.loop(code.count(0), width, LANES) as i:
            place = code.add(code.times(query, width), i)
            code.store(code.builder.fdiv(code.load(mixed, place), total), mixed, place)
    return code.finish()


def _ask_ahead(code: Code, pointer: Value, start: Value, n: int) -> None:
    """Prefetch what is read after these `n` rows."""
    width = code.arguments[6]
    with code.loop(code.count(0), code.times(width, code.count(n)), LANES) as i:
        code.prefetch(pointer, start, i, code.count(AHEAD))


def _score(code: Code, start: Value, row: Value, n: int) -> None:
    """Scores of `n` positions for all queries, two queries at a time, so that a key is loaded once for both."""
    q, keys, _, _, scratch, s, width, _ = code.arguments
    first = code.times(code.add(start, row), width)
    _ask_ahead(code, keys, first, n)
    with code.loop(code.count(0), s, 2) as query:
        pair = [code.times(query, width), code.times(code.add(query, code.count(1)), width)]
        sums = [[Variable(code, VECTOR, code.constant(0.0)) for _ in range(n)] for _ in pair]
        with code.loop(code.count(0), width, LANES) as i:
            vectors = [code.load(q, at, i) for at in pair]
            for j in range(n):
                key = code.load(keys, first, code.times(width, code.count(j)), i)
                for line, vector in zip(sums, vectors, strict=True):
                    line[j].set(code.fma(key, vector, line[j].get()))
        for k, line in enumerate(sums):
            place = code.add(code.times(code.add(query, code.count(k)), code.count(BLOCK)), row)
            found = [each.get() for each in line]
            code.store(code.sums(*found) if n == 4 else code.sum(found[0]), scratch, place)


def _softmax(code: Code, query: Value, rows: Value, highest_at: Value, sum_at: Value) -> None:
    """One query's scores of a block become weights; what was summed before is scaled to them."""
    mixed, scratch, width = code.arguments[3], code.arguments[4], code.arguments[6]
    first = code.times(query, code.count(BLOCK))
    stop = code.whole(code.add(rows, code.count(LANES - 1)), LANES)
    with code.loop(rows, stop) as i:
        code.store(FLOAT(float("-inf")), scratch, first, i)
    before = code.splat(code.load(scratch, highest_at, kind=FLOAT))
    top = _highest(code, scratch, first, stop)
    high = code.splat(code.largest(code.larger(top, before)))
    factor = code.exp(code.builder.fsub(before, high))
    total = _exponentials(code, scratch, first, stop, high)
    scaled = code.fma(code.splat(code.load(scratch, sum_at, kind=FLOAT)), factor, code.splat(total))
    code.store(code.builder.extract_element(scaled, ir.IntType(32)(0)), scratch, sum_at)
    code.store(code.builder.extract_element(high, ir.IntType(32)(0)), scratch, highest_at)
    with code.loop(code.count(0), width, LANES) as i:
        place = code.add(code.times(query, width), i)
        code.store(code.builder.fmul(code.load(mixed, place), factor), mixed, place)


def _highest(code: Code, pointer: Value, first: Value, stop: Value) -> Value:
    """Highest values, by lane, of `stop` values from `first`."""
    top = Variable(code, VECTOR, code.load(pointer, first))
    with code.loop(code.count(LANES), stop, LANES) as i:
        top.set(code.larger(code.load(pointer, first, i), top.get()))
    return top.get()


def _exponentials(code: Code, pointer: Value, first: Value, stop: Value, high: Value) -> Value:
    """`stop` values from `first` become e**(value - high); returns their sum."""
    total = Variable(code, VECTOR, code.constant(0.0))
    with code.loop(code.count(0), stop, LANES) as i:
        p = code.exp(code.builder.fsub(code.load(pointer, first, i), high))
        code.store(p, pointer, first, i)
        total.set(code.builder.fadd(p, total.get()))
    return code.sum(total.get())


def _mix(code: Code, start: Value, row: Value, n: int) -> None:
    """Add `n` positions' values, by their weights, to the sums of all queries, two queries at a time."""
    _, _, values, mixed, scratch, s, width, _ = code.arguments
    first = code.times(code.add(start, row), width)
    _ask_ahead(code, values, first, n)
    with code.loop(code.count(0), s, 2) as query:
        pair = [query, code.add(query, code.count(1))]
        weights = [
            [
                code.splat(code.load(scratch, code.times(each, code.count(BLOCK)), row, code.count(j), kind=FLOAT))
                for j in range(n)
            ]
            for each in pair
        ]
        with code.loop(code.count(0), width, LANES) as i:
            places = [code.add(code.times(each, width), i) for each in pair]
            sums = [code.load(mixed, place) for place in places]
            for j in range(n):
                value = code.load(values, first, code.times(width, code.count(j)), i)
                sums = [code.fma(line[j], value, total) for line, total in zip(weights, sums, strict=True)]
            for place, total in zip(places, sums, strict=True):
                code.store(total, mixed, place)


# -- passes over rows of a prefill ----------------------------------------------------------------------------------


def _causal_softmax(module: Any) -> None:
    """causal_softmax(scores, sums, m, width, seen, rows): exponentials of scores [m, width] in place, sums [m].

    `rows` queries stand at the last of `seen` positions, m / rows times: later ones get 0. width: a multiple of 16.
    """
    code = Code(module, "causal_softmax", 2, 4)
    scores, sums, m, width, seen, rows = code.arguments
    with code.loop(code.count(0), m) as row:
        first = code.times(row, width)
        own = code.add(code.builder.sub(seen, rows), code.builder.srem(row, rows), code.count(1))
        stop = code.whole(code.add(own, code.count(LANES - 1)), LANES)
        with code.loop(own, stop) as i:
            code.store(FLOAT(float("-inf")), scores, first, i)
        high = code.splat(code.largest(_highest(code, scores, first, stop)))
        code.store(_exponentials(code, scores, first, stop, high), sums, row)
        with code.loop(own, width) as i:
            code.store(FLOAT(0.0), scores, first, i)
    code.finish()


def _swiglu(module: Any) -> None:
    """swiglu(x, t, F): SiLU of the first F values of each row times the second F, in place of the first: x [t, 2*F]."""
    code = Code(module, "swiglu", 1, 2)
    x, t, width = code.arguments
    with code.loop(code.count(0), t) as row, code.loop(code.count(0), width, LANES) as i:
        place = code.add(code.times(row, code.times(width, code.count(2))), i)
        gate = code.load(x, place)
        below = code.builder.fadd(code.exp(code.builder.fneg(gate)), code.constant(1.0))
        code.store(code.builder.fmul(code.builder.fdiv(gate, below), code.load(x, place, width)), x, place)
    code.finish()


def _read(module: Any) -> None:
    """read(x, total, n): sum of n values, a multiple of 256, read as four streams: what memory gives one thread."""
    code = Code(module, "read", 2, 1)
    x, total, n = code.arguments
    quarter = code.builder.sdiv(n, code.count(4))
    starts = [code.times(quarter, code.count(i)) for i in range(4)]
    sums = [Variable(code, VECTOR, code.constant(0.0)) for _ in range(16)]
    with code.loop(code.count(0), quarter, 4 * LANES) as i:
        for k, each in enumerate(sums):
            code.prefetch(x, starts[k % 4], i, code.count(k // 4 * LANES + AHEAD_EACH))
            each.set(code.builder.fadd(code.load(x, starts[k % 4], i, code.count(k // 4 * LANES)), each.get()))
    vectors = [each.get() for each in sums]
    while len(vectors) > 1:
        vectors = [code.builder.fadd(vectors.pop(), vectors.pop()) for _ in range(len(vectors) // 2)]
    code.store(code.sum(vectors[0]), total, code.count(0))
    code.finish()
