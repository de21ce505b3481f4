"""LLVM assembly of the numbers in a block of each format, as vectors of 16 float32. Compiles nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edgeemu_kernels.precision import NumberFormat

LANES = 16  # numbers of a vector: a register of AVX-512, two of AVX2, four of NEON
PLAIN_BLOCK = 32  # numbers that are a block of a format without blocks


@dataclass(slots=True)
class Text:
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

    def multiply_add(self, one: str, other: str, to: str) -> str:
        """Multiply, and add without rounding the product."""
        vectors = f"<16 x float> {one}, <16 x float> {other}, <16 x float> {to}"
        return self.put(f"call <16 x float> @llvm.fma.v16f32({vectors})")

    def of_floats(self, operation: str, one: str, other: str) -> str:
        return self.put(f"{operation}{' contract' if self.fused else ''} <16 x float> {one}, {other}")


def same(kind: str, value: int) -> str:
    """Constant vector of 16 equal whole numbers, without its type."""
    return f"<{', '.join([f'{kind} {value}'] * LANES)}>"


Vectors = Iterator[tuple[int, str]]  # first number's place in the block, and the vector of 16 from there


def _f32(text: Text) -> Vectors:
    for place in range(0, PLAIN_BLOCK, LANES):
        yield place, text.load("<16 x float>", 4 * place)


def _f16(text: Text) -> Vectors:
    for place in range(0, PLAIN_BLOCK, LANES):
        yield place, text.put(f"fpext <16 x half> {text.load('<16 x half>', 2 * place)} to <16 x float>")


def _bf16(text: Text) -> Vectors:
    for place in range(0, PLAIN_BLOCK, LANES):
        wide = text.put(f"zext <16 x i16> {text.load('<16 x i16>', 2 * place)} to <16 x i32>")
        bits = text.put(f"shl <16 x i32> {wide}, {same('i32', 16)}")
        yield place, text.put(f"bitcast <16 x i32> {bits} to <16 x float>")


def _q8_0(text: Text) -> Vectors:
    scale = text.spread(text.half(0))
    for place in (0, 16):
        yield place, text.of_floats("fmul", text.floats(text.load("<16 x i8>", 2 + place), signed=True), scale)


def _nibbles(text: Text, packed: str) -> tuple[str, str]:
    return text.of_bytes("and", packed, 15), text.of_bytes("lshr", packed, 4)


def _q4_0(text: Text) -> Vectors:
    scale = text.spread(text.half(0))
    for place, nibble in zip((0, 16), _nibbles(text, text.load("<16 x i8>", 2)), strict=True):
        yield place, text.of_floats("fmul", text.floats(text.of_bytes("sub", nibble, 8), signed=True), scale)


def _q4_1(text: Text) -> Vectors:
    scale, least = text.spread(text.half(0)), text.spread(text.half(2))
    for place, nibble in zip((0, 16), _nibbles(text, text.load("<16 x i8>", 4)), strict=True):
        yield place, text.of_floats("fadd", text.of_floats("fmul", text.floats(nibble), scale), least)


def _six_bits(text: Text, index: int, first: int) -> str:
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


def _q4_k(text: Text) -> Vectors:
    scale, least = text.half(0), text.half(2)
    for index in range(8):
        by = text.spread(text.put(f"fmul float {scale}, {_six_bits(text, index, 4)}"))
        offset = text.spread(text.put(f"fmul float {least}, {_six_bits(text, index, 8)}"))
        for place in (0, 16):
            packed = text.load("<16 x i8>", 16 + index // 2 * 32 + place)
            nibble = _nibbles(text, packed)[index % 2]
            product = text.of_floats("fmul", text.floats(nibble), by)
            yield 32 * index + place, text.of_floats("fsub", product, offset)


def _q6_k(text: Text) -> Vectors:
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


BLOCKS: dict[str, Callable[[Text], Vectors]] = {
    "f32": _f32,
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
