"""Writing of functions on float32 vectors for LLVM. Knows machine words; no model.

A vector has 16 lanes; LLVM makes of it what the processor has: one, two or four registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from edgeemu_kernels.compiled_sizes import COMPILED_LANES as LANES

FLOAT, INT32, COUNT, POINTER = ir.FloatType(), ir.IntType(32), ir.IntType(64), ir.PointerType()
VECTOR, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT32, LANES)

Value = Any  # of LLVM; llvmlite has no types

_EXP_LIMIT = 87.0  # below minus that, e^x loses precision in float32; above it soon is no float32
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_EXP = (  # Cephes, expf.c (Moshier 1984): a polynomial for |x| <= ln(2) / 2
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)


class Variable:
    """Local variable of a function that is written; LLVM keeps it in a register."""

    def __init__(self, code: Code, kind: Any, value: Value) -> None:
        self._code, self._kind = code, kind
        with code.builder.goto_entry_block():
            self._place = code.builder.alloca(kind)
        self.set(value)

    def set(self, value: Value) -> None:
        self._code.builder.store(value, self._place)

    def get(self) -> Value:
        return self._code.builder.load(self._place, typ=self._kind)


class Code:
    """One function as it is written: its arguments, and operations on counts and on vectors."""

    def __init__(self, module: Any, name: str, pointers: int, counts: int, numbers: int = 0) -> None:
        kind = ir.FunctionType(ir.VoidType(), [POINTER] * pointers + [COUNT] * counts + [FLOAT] * numbers)
        function = ir.Function(module, kind, name)
        self.arguments: Sequence[Value] = function.args
        entry = function.append_basic_block("entry")
        body = function.append_basic_block("body")
        ir.IRBuilder(entry).branch(body)
        self.builder = ir.IRBuilder(body)
        self._module = module

    # -- counts and control ---------------------------------------------------------------------------------------

    def count(self, value: int) -> Value:
        return COUNT(value)

    def add(self, *terms: Value) -> Value:
        total = terms[0]
        for term in terms[1:]:
            total = self.builder.add(total, term)
        return total

    def times(self, a: Value, b: Value) -> Value:
        return self.builder.mul(a, b)

    def whole(self, value: Value, step: int) -> Value:
        """`value` down to a multiple of `step`, a power of two."""
        return self.builder.and_(value, COUNT(-step))

    @contextmanager
    def loop(self, start: Value, stop: Value, step: int = 1) -> Iterator[Value]:
        """Repeat what is written inside for start, start + step … below stop."""
        builder, index = self.builder, Variable(self, COUNT, start)
        head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        now = index.get()
        builder.cbranch(builder.icmp_signed("<", now, stop), body, after)
        builder.position_at_end(body)
        yield now
        index.set(builder.add(now, COUNT(step)))
        builder.branch(head)
        builder.position_at_end(after)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Do what is written inside only where the condition holds."""
        with self.builder.if_then(condition):
            yield

    def finish(self) -> Value:
        """The function, which is complete."""
        self.builder.ret_void()
        return self.builder.function

    # -- memory: places are counted in float32 --------------------------------------------------------------------

    def at(self, pointer: Value, *places: Value) -> Value:
        return self.builder.gep(pointer, [self.add(*places)], source_etype=FLOAT)

    def load(self, pointer: Value, *places: Value, kind: Any = VECTOR) -> Value:
        return self.builder.load(self.at(pointer, *places), typ=kind, align=4)

    def first_lanes(self, count: Value) -> Value:
        """Mask of so many lanes from the first on."""
        lanes = ir.Constant(INTS, list(range(LANES)))
        return self.builder.icmp_signed("<", lanes, self.splat(self.builder.trunc(count, INT32), INTS))

    def load_some(self, mask: Value, pointer: Value, *places: Value) -> Value:
        """Load the lanes of a mask, zeros elsewhere: nothing is read there."""
        kind = ir.FunctionType(VECTOR, [POINTER, INT32, mask.type, VECTOR])
        declared = self._declared(f"llvm.masked.load.v{LANES}f32.p0", kind)
        return self.builder.call(declared, [self.at(pointer, *places), INT32(4), mask, self.constant(0.0)])

    def store(self, value: Value, pointer: Value, *places: Value) -> None:
        self.builder.store(value, self.at(pointer, *places), align=4)

    def prefetch(self, pointer: Value, *places: Value) -> None:
        """Ask for a cache line, which is read once; a place outside of the array does no harm."""
        kind = ir.FunctionType(ir.VoidType(), [POINTER, INT32, INT32, INT32])
        declared = self._declared("llvm.prefetch.p0", kind)
        self.builder.call(declared, [self.at(pointer, *places), INT32(0), INT32(0), INT32(1)])  # read, once, data

    # -- vectors ----------------------------------------------------------------------------------------------------

    def constant(self, value: float) -> Value:
        return ir.Constant(VECTOR, [value] * LANES)

    def splat(self, scalar: Value, kind: Any = VECTOR) -> Value:
        undefined = ir.Constant(kind, ir.Undefined)
        return self._shuffled(self.builder.insert_element(undefined, scalar, INT32(0)), undefined, [0] * LANES)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c"""
        return self._math("fma", a, b, c)

    def larger(self, a: Value, b: Value) -> Value:
        """The larger value of each lane; a where it is not a number."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), b, a)

    def exp(self, x: Value) -> Value:
        """e**x of each lane; what is below -87 counts as -87, what is above 87 as 87."""
        builder, limit = self.builder, self.constant(-_EXP_LIMIT)
        x = builder.fneg(self.larger(builder.fneg(self.larger(x, limit)), limit))
        turns = self._math("rint", builder.fmul(x, self.constant(1.44269504088896341)))
        x = self.fma(turns, self.constant(-_LN2_LOW), self.fma(turns, self.constant(-_LN2_HIGH), x))
        p = self.constant(_EXP[0])
        for coefficient in _EXP[1:]:
            p = self.fma(p, x, self.constant(coefficient))
        p = self.fma(p, builder.fmul(x, x), builder.fadd(x, self.constant(1.0)))
        exponent = builder.add(builder.fptosi(turns, INTS), ir.Constant(INTS, [127] * LANES))
        return builder.fmul(p, builder.bitcast(builder.shl(exponent, ir.Constant(INTS, [23] * LANES)), VECTOR))

    def sum(self, lanes: Value) -> Value:
        return self._folded(lanes, self.builder.fadd)

    def any_order_sum(self, lanes: Value) -> Value:
        """Sum of the lanes, in the order that this processor is best at."""
        declared = self._declared(f"llvm.vector.reduce.fadd.v{LANES}f32", ir.FunctionType(FLOAT, [FLOAT, VECTOR]))
        return self.builder.call(declared, [FLOAT(0.0), lanes], fastmath=("reassoc",))

    def largest(self, lanes: Value) -> Value:
        return self._folded(lanes, self.larger)

    def sums(self, *vectors: Value) -> Value:
        """Sums of four vectors' lanes, as a vector of four: less work than four sums. Or of one, as a vector of one."""
        if len(vectors) == 1:
            return self.builder.insert_element(
                ir.Constant(ir.VectorType(FLOAT, 1), ir.Undefined), self.sum(*vectors), INT32(0)
            )
        a, b, c, d = vectors
        quarters = self._halved(self._halved(a, b, 16), self._halved(c, d, 16), 8)  # 4 lanes of each
        for step in (2, 1):
            turned = self._shuffled(quarters, quarters, [lane ^ step for lane in range(LANES)])
            quarters = self.builder.fadd(quarters, turned)
        return self._shuffled(quarters, quarters, [0, 4, 8, 12])

    def _halved(self, left: Value, right: Value, part: int) -> Value:
        """Add the halves of each part of `part` lanes: twice as many parts of half the size."""
        lanes = [lane for start in range(0, 2 * LANES, part) for lane in range(start, start + part // 2)]
        lower = self._shuffled(left, right, lanes)
        return self.builder.fadd(lower, self._shuffled(left, right, [lane + part // 2 for lane in lanes]))

    def _folded(self, lanes: Value, joined: Callable[[Value, Value], Value]) -> Value:
        width = LANES
        while width > 1:
            width //= 2
            lower = self._shuffled(lanes, lanes, list(range(width)))
            lanes = joined(lower, self._shuffled(lanes, lanes, list(range(width, 2 * width))))
        return self.builder.extract_element(lanes, INT32(0))

    def _shuffled(self, a: Value, b: Value, lanes: list[int]) -> Value:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(lanes)), lanes))

    def rint(self, doubles: Value) -> Value:
        """Round each float64 of a vector to the nearest whole number, halves to even."""
        kind = doubles.type
        return self.builder.call(
            self._declared(f"llvm.rint.v{kind.count}f64", ir.FunctionType(kind, [kind])), [doubles]
        )

    def _math(self, name: str, *arguments: Value) -> Value:
        kind = ir.FunctionType(VECTOR, [VECTOR] * len(arguments))
        return self.builder.call(self._declared(f"llvm.{name}.v{LANES}f32", kind), arguments)

    def _declared(self, name: str, kind: Any) -> Value:
        return self._module.globals.get(name) or ir.Function(self._module, kind, name)
