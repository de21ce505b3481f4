"""LLVM assembly of products with, and decoding of, each number format. Knows blocks; compiles nothing.

Every format is written as vectors of 16 float32 that a block decodes to; `product` and `decode` are loops around that.
Products may fuse a multiplication with an addition; decoding may not, so that it equals NumPy's bit for bit.
"""

from __future__ import annotations

from edgeemu_kernels.codecs.block_assembly import BLOCKS, LANES, Text, block_of
from edgeemu_kernels.precision import NumberFormat

_ACCUMULATORS = 2


def assembly(form: NumberFormat) -> str:
    """Module with `product`, `totals`, `mix` and `decode` for a format.

    product(raw, rows, blocks, x, n, y, stride): y[k * stride + r] = row r, of so many blocks, times x[k] of n rows.
    totals(raw, rows, blocks, x, n, y, stride, part, steps): to y, of float64, is added what `product` gives for every
        `part` blocks, times `steps` and rounded to a whole number.
    mix(raw, rows, blocks, p, n, out): out[k] += the sum of p[k, r] times row r, for n rows of p and of `out`.
    decode(raw, blocks, out): `out` has the numbers of so many blocks.
    """
    declared = """
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
declare double @llvm.rint.f64(double)
declare float @llvm.vector.reduce.fadd.v16f32(float, <16 x float>)
"""
    return _product(form) + _totals(form) + _mix(form) + _decode(form) + declared


def _product(form: NumberFormat) -> str:
    add = """%dot = call reassoc float @llvm.vector.reduce.fadd.v16f32(float 0.0, <16 x float> %both)
  %to = getelementptr float, ptr %y, i64 %y_at
  store float %dot, ptr %to, align 1"""
    return _products(form, "product", "", add, part=("0", "%blocks"), after="br label %column_end")


def _totals(form: NumberFormat) -> str:
    add = f"""{_folded("%both")}
  %wide = fpext <1 x float> %folded1 to <1 x double>
  %dot = extractelement <1 x double> %wide, i32 0
  %in_steps = fmul double %dot, %steps
  %whole = call double @llvm.rint.f64(double %in_steps)
  %to = getelementptr double, ptr %y, i64 %y_at
  %before = load double, ptr %to, align 1
  %after = fadd double %before, %whole
  store double %after, ptr %to, align 1"""
    return _products(
        form,
        "totals",
        ", i64 %in_part, double %steps",
        add,
        part=("%first", "%end"),
        before="""%first = phi i64 [0, %column], [%end, %part_end]
  %end = add i64 %first, %in_part""",
        after="""%more_parts = icmp ult i64 %end, %blocks
  br i1 %more_parts, label %part, label %column_end""",
    )


def _folded(lanes: str) -> str:
    """Instructions that add the upper half of 16 lanes to the lower one, four times, to `%folded1`.

    In `product` this order, which LLVM chooses there by itself, makes it miss how to compile the rest.
    """
    text = Text(fused=False, prefix="%f")
    width = LANES
    while width > 1:
        width //= 2
        low, high = (
            text.put(
                f"shufflevector <{2 * width} x float> {lanes}, <{2 * width} x float> poison, "
                f"<{width} x i32> <{', '.join(f'i32 {lane}' for lane in range(first, first + width))}>"
            )
            for first in (0, width)
        )
        text.lines.append(f"  %folded{width} = fadd <{width} x float> {low}, {high}")
        lanes = f"%folded{width}"
    return "\n".join(text.lines).strip()


def _products(
    form: NumberFormat, name: str, arguments: str, add: str, *, part: tuple[str, str], before: str = "", after: str
) -> str:
    """Function whose lanes `%both` have the sum of a part's blocks, or of all: `add` takes them to y's place `%y_at`.

    `before` and `after` are the loop over the parts, if there is one.
    """
    size, size_bytes = block_of(form)
    body, sums = _multiplied(form)
    phis = (f"%sum{i} = phi <16 x float> [zeroinitializer, %part], [{last}, %each]" for i, last in enumerate(sums))
    carried = "\n  ".join(phis)
    return f"""
define void @{name}(ptr %raw, i64 %rows, i64 %blocks, ptr %x, i64 %n, ptr %y, i64 %stride{arguments}) {{
entry:
  %row_bytes = mul i64 %blocks, {size_bytes}
  %width = mul i64 %blocks, {size}
  br label %row
row:
  %r = phi i64 [0, %entry], [%r_next, %row_end]
  %row_at = mul i64 %r, %row_bytes
  %row_raw = getelementptr i8, ptr %raw, i64 %row_at
  br label %column
column:
  %k = phi i64 [0, %row], [%k_next, %column_end]
  %x_at = mul i64 %k, %width
  %x_row = getelementptr float, ptr %x, i64 %x_at
  %y_row = mul i64 %k, %stride
  %y_at = add i64 %y_row, %r
  br label %part
part:
  {before}
  br label %each
each:
  %b = phi i64 [{part[0]}, %part], [%b_next, %each]
  {carried}
  %block_at = mul i64 %b, {size_bytes}
  %block = getelementptr i8, ptr %row_raw, i64 %block_at
  %xs_at = mul i64 %b, {size}
  %xs = getelementptr float, ptr %x_row, i64 %xs_at
{body}
  %b_next = add i64 %b, 1
  %more_blocks = icmp ult i64 %b_next, {part[1]}
  br i1 %more_blocks, label %each, label %part_end
part_end:
  %both = fadd <16 x float> {sums[0]}, {sums[1]}
  {add}
  {after}
column_end:
  %k_next = add i64 %k, 1
  %more_columns = icmp ult i64 %k_next, %n
  br i1 %more_columns, label %column, label %row_end
row_end:
  %r_next = add i64 %r, 1
  %more_rows = icmp ult i64 %r_next, %rows
  br i1 %more_rows, label %row, label %done
done:
  ret void
}}
"""


def _multiplied(form: NumberFormat) -> tuple[str, list[str]]:
    """Instructions that multiply a block with its part of x, and the names of the sums after them.

    Scales times numbers of a block are exact in float32, so that it does not matter whether what follows is fused. Sums
    have the order that `order_free_code` has for matrices of float32.
    """
    text = Text(fused=True)
    sums = [f"%sum{i}" for i in range(_ACCUMULATORS)]
    for i, (place, numbers) in enumerate(BLOCKS[form.name](text)):
        x = text.put(f"load <16 x float>, ptr {text.at(place, '%xs', 'float')}, align 1")
        sums[i % _ACCUMULATORS] = text.multiply_add(numbers, x, sums[i % _ACCUMULATORS])
    return "\n".join(text.lines), sums


def _mix(form: NumberFormat) -> str:
    size, size_bytes = block_of(form)
    text, inner = Text(fused=True), Text(fused=True, prefix="%m")
    weight = inner.spread(inner.put("load float, ptr %p_at, align 1"))
    for place, numbers in BLOCKS[form.name](text):
        at = inner.at(place, "%to", "float")
        before = inner.put(f"load <16 x float>, ptr {at}, align 1")
        after = inner.of_floats("fadd", inner.of_floats("fmul", numbers, weight), before)
        inner.lines.append(f"  store <16 x float> {after}, ptr {at}, align 1")
    body, inside = "\n".join(text.lines), "\n".join(inner.lines)
    return f"""
define void @mix(ptr noalias %raw, i64 %rows, i64 %blocks, ptr noalias %p, i64 %n, ptr noalias %out) {{
entry:
  %width = mul i64 %blocks, {size}
  %all = mul i64 %rows, %blocks
  br label %each
each:
  %i = phi i64 [0, %entry], [%i_next, %each_end]
  %r = phi i64 [0, %entry], [%r_next, %each_end]
  %b = phi i64 [0, %entry], [%b_next, %each_end]
  %block_at = mul i64 %i, {size_bytes}
  %block = getelementptr i8, ptr %raw, i64 %block_at
{body}
  %out_at = mul i64 %b, {size}
  br label %query
query:
  %k = phi i64 [0, %each], [%k_next, %query]
  %p_row = mul i64 %k, %rows
  %p_place = add i64 %p_row, %r
  %p_at = getelementptr float, ptr %p, i64 %p_place
  %out_row = mul i64 %k, %width
  %out_place = add i64 %out_row, %out_at
  %to = getelementptr float, ptr %out, i64 %out_place
{inside}
  %k_next = add i64 %k, 1
  %more_queries = icmp ult i64 %k_next, %n
  br i1 %more_queries, label %query, label %each_end
each_end:
  %i_next = add i64 %i, 1
  %b_after = add i64 %b, 1
  %row_done = icmp eq i64 %b_after, %blocks
  %b_next = select i1 %row_done, i64 0, i64 %b_after
  %r_after = add i64 %r, 1
  %r_next = select i1 %row_done, i64 %r_after, i64 %r
  %more = icmp ult i64 %i_next, %all
  br i1 %more, label %each, label %done
done:
  ret void
}}
"""


def _decode(form: NumberFormat) -> str:
    size, size_bytes = block_of(form)
    text = Text(fused=False)
    for place, numbers in BLOCKS[form.name](text):
        text.lines.append(f"  store <16 x float> {numbers}, ptr {text.at(place, '%to', 'float')}, align 1")
    body = "\n".join(text.lines)
    return f"""
define void @decode(ptr %raw, i64 %blocks, ptr %out) {{
entry:
  br label %each
each:
  %b = phi i64 [0, %entry], [%b_next, %each]
  %block_at = mul i64 %b, {size_bytes}
  %block = getelementptr i8, ptr %raw, i64 %block_at
  %to_at = mul i64 %b, {size}
  %to = getelementptr float, ptr %out, i64 %to_at
{body}
  %b_next = add i64 %b, 1
  %more = icmp ult i64 %b_next, %blocks
  br i1 %more, label %each, label %done
done:
  ret void
}}
"""
