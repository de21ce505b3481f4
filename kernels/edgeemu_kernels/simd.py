# ruff: noqa: ARG001 - numba gives an intrinsic the types of all its arguments
"""Vectors of 16 float32 for functions that numba compiles. Knows machine words; no model.

Numba turns plain loops into vector instructions where they are long. Attention's are not (a head has 64 or 128
values), so its kernel names its vectors; LLVM makes of 16 lanes what the processor has: one, two or four registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import get_or_insert_function
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic

LANES = 16
_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)

Emit = Callable[[Any, Any, Any, Any], Any]  # numba's context, LLVM's builder, signature, arguments


class Lanes(types.Type):
    """Numba type of a vector of 16 float32."""

    def __init__(self) -> None:
        super().__init__("Lanes")


LANES_TYPE = Lanes()


@register_default(Lanes)
class LanesModel(models.PrimitiveModel):
    """LLVM's representation of the vector."""

    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _FLOATS)


def _shuffled(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT, len(lanes)), lanes))


def _address(context: Any, builder: Any, array_type: Any, element: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), element.as_pointer())


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), b, a)


def _called(builder: Any, name: str, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * len(arguments))
    return builder.call(get_or_insert_function(builder.module, kind, f"llvm.{name}.v16f32"), arguments)


@intrinsic
def load(_: Any, array: Any, index: Any) -> tuple[Any, Emit]:
    """Load 16 values of a flat contiguous array, from `index`."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loaded = builder.load(_address(context, builder, signature.args[0], _FLOATS, *arguments))
        loaded.align = 4
        return loaded

    return LANES_TYPE(array, types.intp), emit


@intrinsic
def store(_: Any, array: Any, index: Any, lanes: Any) -> tuple[Any, Emit]:
    """Store 16 values to a flat contiguous array, from `index`."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], _FLOATS, *arguments[:2])
        builder.store(arguments[2], address).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), emit


@intrinsic
def store_sums(_: Any, array: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> tuple[Any, Emit]:
    """Store the sums of four vectors' lanes to a flat contiguous array, from `index`: cheaper than four single sums."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def halved(left: Any, right: Any, part: int) -> Any:
            """[…part values of one sum…] of both -> half as many values of each sum, side by side"""
            lanes = [lane for start in range(0, 2 * LANES, part) for lane in range(start, start + part // 2)]
            lower = _shuffled(builder, left, right, lanes)
            return builder.fadd(lower, _shuffled(builder, left, right, [lane + part // 2 for lane in lanes]))

        a, b, c, d = arguments[2:]
        quarters = halved(halved(a, b, 16), halved(c, d, 16), 8)  # 4 values of each sum
        for step in (2, 1):
            turned = [lane ^ step for lane in range(LANES)]
            quarters = builder.fadd(quarters, _shuffled(builder, quarters, quarters, turned))
        sums = _shuffled(builder, quarters, quarters, [0, 4, 8, 12])
        address = _address(context, builder, signature.args[0], ir.VectorType(_FLOAT, 4), *arguments[:2])
        builder.store(sums, address).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, a, b, c, d), emit


@intrinsic
def splat(_: Any, value: Any) -> tuple[Any, Emit]:
    """One value in all lanes."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        first = builder.insert_element(undefined, arguments[0], _INT(0))
        return _shuffled(builder, first, undefined, [0] * LANES)

    return LANES_TYPE(types.float32), emit


@intrinsic
def multiply_add(_: Any, a: Any, b: Any, c: Any) -> tuple[Any, Emit]:
    """a * b + c"""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _called(builder, "fma", list(arguments))

    return LANES_TYPE(a, b, c), emit


@intrinsic
def larger(_: Any, a: Any, b: Any) -> tuple[Any, Emit]:
    """The larger value of each lane; a where it is not a number."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _larger(builder, *arguments)

    return LANES_TYPE(a, b), emit


def _folded(builder: Any, lanes: Any, joined: Callable[[Any, Any], Any]) -> Any:
    """One value of all lanes, by halves."""
    width = LANES
    while width > 1:
        width //= 2
        lower = _shuffled(builder, lanes, lanes, list(range(width)))
        lanes = joined(lower, _shuffled(builder, lanes, lanes, list(range(width, 2 * width))))
    return builder.extract_element(lanes, _INT(0))


@intrinsic
def largest(_: Any, a: Any) -> tuple[Any, Emit]:
    """The largest of all lanes."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _folded(builder, arguments[0], lambda a, b: _larger(builder, a, b))

    return types.float32(a), emit


@intrinsic
def summed(_: Any, a: Any) -> tuple[Any, Emit]:
    """The sum of all lanes."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _folded(builder, arguments[0], builder.fadd)

    return types.float32(a), emit


@intrinsic
def divide(_: Any, a: Any, b: Any) -> tuple[Any, Emit]:
    """a / b"""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fdiv(*arguments)

    return LANES_TYPE(a, b), emit


@intrinsic
def nearest(_: Any, a: Any) -> tuple[Any, Emit]:
    """The nearest whole numbers."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _called(builder, "rint", list(arguments))

    return LANES_TYPE(a), emit


@intrinsic
def times_power_of_two(_: Any, a: Any, exponents: Any) -> tuple[Any, Emit]:
    """a * 2**exponents, of whole numbers from -126 to 127: they are written into a float's exponent."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        biased = builder.add(builder.fptosi(arguments[1], _INTS), ir.Constant(_INTS, [127] * LANES))
        power = builder.bitcast(builder.shl(biased, ir.Constant(_INTS, [23] * LANES)), _FLOATS)
        return builder.fmul(arguments[0], power)

    return LANES_TYPE(a, exponents), emit


@intrinsic
def prefetch(_: Any, array: Any, index: Any) -> tuple[Any, Emit]:
    """Ask for the cache line of a flat array's value; an index beyond its end does no harm."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], ir.IntType(8), *arguments)
        kind = ir.FunctionType(ir.VoidType(), [address.type, _INT, _INT, _INT])
        read, keep, data = _INT(0), _INT(3), _INT(1)
        builder.call(
            builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind), [address, read, keep, data]
        )
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


_LIMIT = np.float32(87.0)  # below minus that, e^x has no full precision in float32; above, it is no float32 soon
_LOG2_E = np.float32(1.44269504088896341)
_LN2_HIGH, _LN2_LOW = np.float32(-0.693359375), np.float32(2.12194440e-4)
_P = tuple(  # Cephes, expf.c (Moshier 1984): a polynomial for |x| <= ln(2) / 2
    np.float32(p)
    for p in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
)


@njit
def multiply(a: Any, b: Any) -> Any:
    """a * b"""
    return multiply_add(a, b, splat(np.float32(0)))


@njit
def negative(a: Any) -> Any:
    """-a"""
    return multiply(a, splat(np.float32(-1)))


@njit
def exponential(x: Any) -> Any:
    """e**x of each lane; what is below -87 counts as -87, what is above 87 as 87."""
    x = negative(larger(negative(larger(x, splat(-_LIMIT))), splat(-_LIMIT)))
    whole = nearest(multiply(x, splat(_LOG2_E)))
    x = multiply_add(whole, splat(_LN2_LOW), multiply_add(whole, splat(_LN2_HIGH), x))
    p = splat(_P[0])
    for i in range(1, 6):
        p = multiply_add(p, x, splat(_P[i]))
    one = splat(np.float32(1))
    p = multiply_add(p, multiply(x, x), multiply_add(x, one, one))
    return times_power_of_two(p, whole)
