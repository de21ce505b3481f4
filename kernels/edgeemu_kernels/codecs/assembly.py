"""LLVM assembly of products with, and decoding of, each number format. Knows blocks; compiles nothing.

Every format is written as vectors of 16 float32 that a block decodes to; `product` and `decode` are loops around that.
Products may fuse a multiplication with an addition; decoding may not, so that it equals NumPy's bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edgeemu_kernels.precision import NumberFormat

LANES = 16  # numbers of a vector: a register of AVX-512, two of AVX2, four of NEON
PLAIN_BLOCK = 32  # numbers that are a block of a format without blocks
_ACCUMULATORS = 2


@dataclass(slots=True)
class _Text:
    """Instructions as they are written, one value after the other."""

    fused: bool
    prefix: str = "%v"
    lines: list[str] = field(default_factory=list)

    def put(self, instruction: str) -> str:
        """Write an instruction with a result; returns its name."""
        name = f"{self.prefix}{len(self.lines)}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def at(self, offset: int, base: str = "%block", kind: str = "i8") -> str:
        return self.put(f"getelementptr {kind}, ptr {base}, i64 {offset}")

    def load(self, kind: str, offset: int) -> str:
        return self.put(f"load {kind}, ptr {self.at(offset)}, align 1")

    def half(self, offset: int) -> str:
        return self.put(f"fpext half {self.load('half', offset)} to float")

    def spread(self, scalar: str, kind: str = "float") -> str:
        """Vector of 16 equal numbers."""
        one = self.put(f"insertelement <16 x {kind}> poison, {kind} {scalar}, i32 0")
        return self.put(f"shufflevector <16 x {kind}> {one}, <16 x {kind}> poison, <16 x i32> zeroinitializer")

    def floats(self, numbers: str, signed: bool = False) -> str:
        """Convert 16 bytes to float32."""
        return self.put(f"{'sitofp' if signed else 'uitofp'} <16 x i8> {numbers} to <16 x float>")

    def of_bytes(self, operation: str, numbers: str, by: int) -> str:
        return self.put(f"{operation} <16 x i8> {numbers}, {same('i8', by)}")

    def of_floats(self, operation: str, one: str, other: str) -> str:
        return self.put(f"{operation}{' contract' if self.fused else ''} <16 x float> {one}, {other}")


def same(kind: str, value: int) -> str:
    """Constant vector of 16 equal whole numbers, without its type."""
    return f"<{', '.join([f'{kind} {value}'] * LANES)}>"


Vectors = Iterator[tuple[int, str]]  # first number's place in the block, and the vector of 16 from there


def _f16(text: _Text) -> Vectors:
    for place in range(0, PLAIN_BLOCK, LANES):
        yield place, text.put(f"fpext <16 x half> {text.load('<16 x half>', 2 * place)} to <16 x float>")


def _bf16(text: _Text) -> Vectors:
    for place in range(0, PLAIN_BLOCK, LANES):
        wide = text.put(f"zext <16 x i16> {text.load('<16 x i16>', 2 * place)} to <16 x i32>")
        bits = text.put(f"shl <16 x i32> {wide}, {same('i32', 16)}")
        yield place, text.put(f"bitcast <16 x i32> {bits} to <16 x float>")


def _q8_0(text: _Text) -> Vectors:
    scale = text.spread(text.half(0))
    for place in (0, 16):
        yield place, text.of_floats("fmul", text.floats(text.load("<16 x i8>", 2 + place), signed=True), scale)


def _nibbles(text: _Text, packed: str) -> tuple[str, str]:
    return text.of_bytes("and", packed, 15), text.of_bytes("lshr", packed, 4)


def _q4_0(text: _Text) -> Vectors:
    scale = text.spread(text.half(0))
    for place, nibble in zip((0, 16), _nibbles(text, text.load("<16 x i8>", 2)), strict=True):
        yield place, text.of_floats("fmul", text.floats(text.of_bytes("sub", nibble, 8), signed=True), scale)


def _q4_1(text: _Text) -> Vectors:
    scale, least = text.spread(text.half(0)), text.spread(text.half(2))
    for place, nibble in zip((0, 16), _nibbles(text, text.load("<16 x i8>", 4)), strict=True):
        yield place, text.of_floats("fadd", text.of_floats("fmul", text.floats(nibble), scale), least)


def _six_bits(text: _Text, index: int, first: int) -> str:
    """Scale (`first` 4) or minimum (`first` 8) of a sub-block of q4_k as float; see `decode.k_scales`."""
    byte = text.load("i8", first + index % 4)
    if index < 4:
        bits = text.put(f"and i8 {byte}, 63")
    else:
        rest = text.load("i8", 12 + index % 4)
        low = text.put(f"and i8 {rest}, 15") if first == 4 else text.put(f"lshr i8 {rest}, 4")
        high = text.put(f"and i8 {text.put(f'lshr i8 {byte}, 2')}, 48")
        bits = text.put(f"or i8 {low}, {high}")
    return text.put(f"uitofp i8 {bits} to float")


def _q4_k(text: _Text) -> Vectors:
    scale, least = text.half(0), text.half(2)
    for index in range(8):
        by = text.spread(text.put(f"fmul float {scale}, {_six_bits(text, index, 4)}"))
        offset = text.spread(text.put(f"fmul float {least}, {_six_bits(text, index, 8)}"))
        for place in (0, 16):
            packed = text.load("<16 x i8>", 16 + index // 2 * 32 + place)
            nibble = _nibbles(text, packed)[index % 2]
            product = text.of_floats("fmul", text.floats(nibble), by)
            yield 32 * index + place, text.of_floats("fsub", product, offset)


def _q6_k(text: _Text) -> Vectors:
    scale = text.half(208)
    for index in range(16):
        half, quarter, place = index // 8, index // 2 % 4, index % 2 * 16
        sub = text.put(f"sitofp i8 {text.load('i8', 192 + index)} to float")
        by = text.spread(text.put(f"fmul float {scale}, {sub}"))
        low = _nibbles(text, text.load("<16 x i8>", 64 * half + 32 * (quarter % 2) + place))[quarter // 2]
        high = text.of_bytes("lshr", text.load("<16 x i8>", 128 + 32 * half + place), 2 * quarter)
        high = text.of_bytes("shl", text.of_bytes("and", high, 3), 4)
        bits = text.of_bytes("sub", text.put(f"or <16 x i8> {low}, {high}"), 32)
        yield 16 * index, text.of_floats("fmul", text.floats(bits, signed=True), by)


_BLOCKS: dict[str, Callable[[_Text], Vectors]] = {
    "f16": _f16,
    "bf16": _bf16,
    "q8_0": _q8_0,
    "q4_0": _q4_0,
    "q4_1": _q4_1,
    "q4_k": _q4_k,
    "q6_k": _q6_k,
}


def block_of(form: NumberFormat) -> tuple[int, int]:
    """Numbers and bytes of a block as the assembly takes it: of a format without blocks, 32 numbers."""
    plain = PLAIN_BLOCK if form.block_size == 1 else 1
    return form.block_size * plain, form.block_bytes * plain


def assembly(form: NumberFormat) -> str:
    """Module with `product`, `mix` and `decode` for a format.

    product(raw, rows, blocks, x, n, y, stride): y[k * stride + r] = row r, of so many blocks, times x[k] of n rows.
    mix(raw, rows, blocks, p, n, out): out[k] += the sum of p[k, r] times row r, for n rows of p and of `out`.
    decode(raw, blocks, out): `out` has the numbers of so many blocks.
    """
    return (
        _product(form)
        + _mix(form)
        + _decode(form)
        + "declare float @llvm.vector.reduce.fadd.v16f32(float, <16 x float>)\n"
    )


def _product(form: NumberFormat) -> str:
    size, size_bytes = block_of(form)
    text = _Text(fused=True)
    sums = [f"%sum{i}" for i in range(_ACCUMULATORS)]
    for i, (place, numbers) in enumerate(_BLOCKS[form.name](text)):
        x = text.put(f"load <16 x float>, ptr {text.at(place, '%xs', 'float')}, align 1")
        product = text.of_floats("fmul", numbers, x)
        sums[i % _ACCUMULATORS] = text.of_floats("fadd", product, sums[i % _ACCUMULATORS])
    carried = "\n".join(
        f"  %sum{i} = phi <16 x float> [zeroinitializer, %column], [{last}, %each]" for i, last in enumerate(sums)
    )
    body = "\n".join(text.lines)
    return f"""
define void @product(ptr %raw, i64 %rows, i64 %blocks, ptr %x, i64 %n, ptr %y, i64 %stride) {{
entry:
  %row_bytes = mul i64 %blocks, {size_bytes}
  %width = mul i64 %blocks, {size}
  br label %row
row:
  %r = phi i64 [0, %entry], [%r_next, %row_end]
  %row_at = mul i64 %r, %row_bytes
  %row_raw = getelementptr i8, ptr %raw, i64 %row_at
  %y_row = getelementptr float, ptr %y, i64 %r
  br label %column
column:
  %k = phi i64 [0, %row], [%k_next, %column_end]
  %x_at = mul i64 %k, %width
  %x_row = getelementptr float, ptr %x, i64 %x_at
  br label %each
each:
  %b = phi i64 [0, %column], [%b_next, %each]
{carried}
  %block_at = mul i64 %b, {size_bytes}
  %block = getelementptr i8, ptr %row_raw, i64 %block_at
  %xs_at = mul i64 %b, {size}
  %xs = getelementptr float, ptr %x_row, i64 %xs_at
{body}
  %b_next = add i64 %b, 1
  %more_blocks = icmp ult i64 %b_next, %blocks
  br i1 %more_blocks, label %each, label %column_end
column_end:
  %both = fadd <16 x float> {sums[0]}, {sums[1]}
  %dot = call reassoc float @llvm.vector.reduce.fadd.v16f32(float 0.0, <16 x float> %both)
  %y_at = mul i64 %k, %stride
  %to = getelementptr float, ptr %y_row, i64 %y_at
  store float %dot, ptr %to, align 1
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


def _mix(form: NumberFormat) -> str:
    size, size_bytes = block_of(form)
    text, inner = _Text(fused=True), _Text(fused=True, prefix="%m")
    weight = inner.spread(inner.put("load float, ptr %p_at, align 1"))
    for place, numbers in _BLOCKS[form.name](text):
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
    text = _Text(fused=False)
    for place, numbers in _BLOCKS[form.name](text):
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
