"""Python functions over numbers and arrays as machine code: a translation of a small part of Python for LLVM.

A function has numbers (int, float, bool), arrays of one dimension (`Ints`, `Floats`, `Flags`), and named tuples of
these as annotated arguments. It has assignments, `while`, `if`, `for … in range(…)`, conditions, arithmetic, `min`,
`max`, `abs`, `int` of a float, subscripts, slices `array[first:]`, and calls of functions like itself. Each operation
is rounded as Python rounds it, so that the function itself, called with NumPy's arrays, is the reference of its machine
code. Indexes are not checked, and nothing is allocated.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import partial
from typing import Any, get_type_hints

from llvmlite import ir

from edgeemu_kernels.scalar_values import (
    BOOL,
    BYTE,
    ELEMENTS,
    FLOAT,
    INT,
    NUMBERS,
    POINTER,
    ArrayValue,
    Fields,
    Value,
)

_SIGNED = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_WHOLE = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.RShift: "ashr"}
_REAL = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}


def signature(function: Callable[..., object]) -> tuple[dict[str, Any], Any]:
    """Kinds of the arguments of a function, and of what it returns."""
    hints = get_type_hints(function)
    returned = hints.pop("return")
    return hints, returned


class ScalarModule:
    """Functions under translation, each once."""

    def __init__(self) -> None:
        self.module = ir.Module()
        self._made: dict[Callable[..., object], Any] = {}

    def function(self, function: Callable[..., object], *, inside: bool) -> Any:
        """The translation of a function, and of all that it calls. `inside`: nobody else calls it."""
        if function not in self._made:
            hints, returned = signature(function)
            kind = ir.FunctionType(NUMBERS[returned], [NUMBERS.get(hint, POINTER) for hint in hints.values()])
            made = self._made[function] = ir.Function(self.module, kind, f"{function.__module__}.{function.__name__}")
            made.linkage = "internal"
            _Translation(self, function, made, hints)
        if not inside:
            self._made[function].linkage = ""
        return self._made[function]


class _Translation:
    """One function under translation; its variables are places in memory, of which LLVM makes registers."""

    def __init__(self, module: ScalarModule, function: Callable[..., Any], made: Any, hints: dict[str, Any]) -> None:
        self._module, self._known = module, function.__globals__
        self._names: dict[str, Any] = {}  # places of numbers, arrays, named tuples by name of field
        self._loops: list[tuple[Any, Any]] = []  # where `continue` and `break` lead
        entry = made.append_basic_block("entry")
        body = made.append_basic_block("body")
        self._entry, self._builder = ir.IRBuilder(entry), ir.IRBuilder(body)
        for argument, (name, hint) in zip(made.args, hints.items(), strict=True):
            self._names[name] = self._argument(argument, hint)
        parsed = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        assert isinstance(parsed, ast.FunctionDef)
        self._all(parsed.body)
        if not self._builder.block.is_terminated:
            self._builder.ret_void() if made.ftype.return_type == ir.VoidType() else self._builder.unreachable()
        self._entry.branch(body)

    def _argument(self, value: Value, hint: Any) -> Any:
        if hint in ELEMENTS:
            return ArrayValue(value, ELEMENTS[hint])
        if hint in NUMBERS:
            return self._new(value)
        return Fields(self._entry, value, hint)

    def _new(self, value: Value) -> Any:
        """A place for a number."""
        place = self._entry.alloca(value.type)
        self._builder.store(value, place)
        return place

    # -- statements -----------------------------------------------------------------------------------------------

    def _all(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if not self._builder.block.is_terminated:
                self._statement(statement)

    def _statement(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Assign(targets=[target], value=value):
                self._assign(target, value)
            case ast.AugAssign(target=target, op=op, value=value):
                read = ast.parse(ast.unparse(target), mode="eval").body
                self._assign(target, ast.BinOp(read, op, value))
            case ast.If(test=test, body=body, orelse=orelse):
                self._either(self._number(test), lambda: self._all(body), lambda: self._all(orelse))
            case ast.While(test=test, body=body, orelse=[]):
                self._loop(lambda: self._number(test), body)
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=args), body=body):
                self._for(name, [self._number(arg) for arg in args], body)
            case ast.Return(value=None):
                self._builder.ret_void()
            case ast.Return(value=ast.expr() as value):
                kind = self._builder.function.ftype.return_type
                self._builder.ret(self._as(self._number(value), kind))
            case ast.Continue() | ast.Break():
                self._builder.branch(self._loops[-1][isinstance(statement, ast.Break)])
            case ast.Expr(value=ast.Constant()):
                pass
            case ast.Expr(value=value):
                self._value(value)
            case _:
                raise NotImplementedError(ast.unparse(statement))

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        match target, value:
            case ast.Tuple(elts=names), ast.Tuple(elts=values):
                found = [self._read(each) for each in values]  # all before any is changed
                for name, each in zip(names, found, strict=True):
                    self._keep(name, each)
            case _:
                self._keep(target, self._read(value))

    def _keep(self, target: ast.expr, value: Any) -> None:
        if isinstance(value, ArrayValue) and isinstance(target, ast.Name):
            self._names[target.id] = value
        else:
            self._store(target, value)

    def _store(self, target: ast.expr, number: Value) -> None:
        if isinstance(target, ast.Subscript):
            array = self._value(target.value)
            self._builder.store(self._as(number, array.element), self._at(array, target.slice))
            return
        assert isinstance(target, ast.Name)
        if target.id in self._names:
            place = self._names[target.id]
            self._builder.store(self._as(number, place.allocated_type), place)
        else:
            self._names[target.id] = self._new(number)

    def _for(self, name: str, limits: list[Value], body: list[ast.stmt]) -> None:
        start, stop = limits if len(limits) == 2 else (INT(0), *limits)
        self._store(ast.Name(name), self._builder.sub(start, INT(1)))
        index = self._names[name]

        def more() -> Value:
            now = self._builder.add(self._builder.load(index, typ=INT), INT(1))
            self._builder.store(now, index)
            return self._builder.icmp_signed("<", now, stop)

        self._loop(more, body)

    def _loop(self, more: Callable[[], Value], body: list[ast.stmt]) -> None:
        head, inside, after = (self._builder.append_basic_block(name) for name in ("head", "inside", "after"))
        self._builder.branch(head)
        self._builder.position_at_end(head)
        self._builder.cbranch(more(), inside, after)
        self._loops.append((head, after))
        self._within(inside, head, lambda: self._all(body))
        self._loops.pop()
        self._builder.position_at_end(after)

    def _either(self, test: Value, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
        """Do one of two things."""
        yes, no, after = (self._builder.append_basic_block(name) for name in ("yes", "no", "after"))
        self._builder.cbranch(test, yes, no)
        self._within(yes, after, then)
        self._within(no, after, otherwise)
        self._builder.position_at_end(after)

    def _within(self, block: Value, after: Value, write: Callable[[], None]) -> None:
        self._builder.position_at_end(block)
        write()
        if not self._builder.block.is_terminated:
            self._builder.branch(after)

    # -- expressions ----------------------------------------------------------------------------------------------

    def _read(self, expression: ast.expr) -> Any:
        """Value of an expression: a number, or an array."""
        found = self._value(expression)
        return found if isinstance(found, ArrayValue) else self._loaded(found)

    def _number(self, expression: ast.expr) -> Value:
        """Value of an expression that is a number."""
        return self._loaded(self._value(expression))

    def _loaded(self, value: Any) -> Value:
        """A number, read where it is a variable."""
        if isinstance(value, ir.AllocaInstr):
            return self._builder.load(value, typ=value.allocated_type)
        assert isinstance(value, ir.Value), "an array is no number"
        return value

    def _value(self, expression: ast.expr) -> Any:
        """Value of any expression; of a variable its place."""
        build = self._builder
        match expression:
            case ast.Constant(value=value):
                return NUMBERS[type(value)](value)
            case ast.Name(id=name):
                return self._names[name] if name in self._names else NUMBERS[type(self._known[name])](self._known[name])
            case ast.Attribute(value=ast.Name(id="np"), attr="inf"):
                return FLOAT(float("inf"))
            case ast.Attribute(value=value, attr=name):
                return self._value(value)[name]
            case ast.Subscript(value=value, slice=ast.Slice(lower=ast.expr() as first, upper=None, step=None)):
                return (array := self._value(value))._replace(pointer=self._at(array, first))
            case ast.Subscript(value=value, slice=place):
                array = self._value(value)
                found = build.load(self._at(array, place), typ=array.element)
                return build.trunc(found, BOOL) if array.element is BYTE else found
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self._compared(type(op), *self._alike(left, right))
            case ast.BinOp(left=left, op=op, right=right):
                a, b = self._alike(left, right, real=isinstance(op, ast.Div))
                return getattr(build, (_WHOLE if a.type == INT else _REAL)[type(op)])(a, b)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return build.not_(self._number(operand))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._negative(self._number(operand))
            case ast.BoolOp(op=op, values=values):
                return self._joined(isinstance(op, ast.And), values)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self._chosen(test, body, orelse)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self._called(name, arguments)
        raise NotImplementedError(ast.unparse(expression))

    def _negative(self, number: Value) -> Value:
        return self._builder.neg(number) if number.type == INT else self._builder.fneg(number)

    def _at(self, array: ArrayValue, place: ast.expr) -> Value:
        return self._builder.gep(array.pointer, [self._number(place)], source_etype=array.element)

    def _alike(self, left: ast.expr, right: ast.expr, *, real: bool = False) -> tuple[Value, Value]:
        """Two numbers as one kind: the larger of both, at least whole."""
        a, b = self._number(left), self._number(right)
        kind = FLOAT if real or FLOAT in (a.type, b.type) else INT
        return self._as(a, kind), self._as(b, kind)

    def _as(self, number: Value, kind: Any) -> Value:
        if number.type == kind:
            return number
        if kind == BYTE and number.type == BOOL:
            return self._builder.zext(number, kind)
        if number.type == BOOL:
            number = self._builder.zext(number, INT)
        assert number.type == INT, f"{number.type} is no {kind}"
        return number if kind == INT else self._builder.sitofp(number, FLOAT)

    def _compared(self, op: Any, a: Value, b: Value) -> Value:
        if a.type == INT:
            return self._builder.icmp_signed(_SIGNED[op], a, b)
        return (self._builder.fcmp_unordered if op is ast.NotEq else self._builder.fcmp_ordered)(_SIGNED[op], a, b)

    def _joined(self, every: bool, values: list[ast.expr]) -> Value:
        """Whether all conditions hold, or any; what comes after the first that decides is not computed."""
        found = self._new(self._number(values[0]))
        for value in values[1:]:
            known = self._builder.load(found, typ=BOOL)
            test = known if every else self._builder.not_(known)
            self._either(test, partial(self._store_number, value, found), lambda: None)
        return self._builder.load(found, typ=BOOL)

    def _store_number(self, expression: ast.expr, place: Value) -> None:
        self._builder.store(self._number(expression), place)

    def _chosen(self, test: ast.expr, body: ast.expr, orelse: ast.expr) -> Value:
        """One of two numbers, of which only that one is computed; of the kind of the first."""
        places: list[Any] = []

        def keep(expression: ast.expr) -> None:
            number = self._number(expression)
            if not places:
                places.append(self._entry.alloca(number.type))
            self._builder.store(self._as(number, places[0].allocated_type), places[0])

        self._either(self._number(test), lambda: keep(body), lambda: keep(orelse))
        return self._loaded(places[0])

    def _called(self, name: str, arguments: list[ast.expr]) -> Value:
        if name in ("min", "max"):
            a, b = self._alike(*arguments)  # as Python: the first, if they are alike
            first = self._compared(ast.Gt if name == "max" else ast.Lt, b, a)
            return self._builder.select(first, b, a)
        if name == "abs":
            number = self._number(arguments[0])
            return self._builder.select(
                self._compared(ast.Lt, number, number.type(0)), self._builder.fneg(number), number
            )
        if name == "int":
            return self._builder.fptosi(self._number(arguments[0]), INT)
        function = self._known.get(name)
        if not inspect.isfunction(function):
            raise NotImplementedError(f"{name}(…)")
        values = [self._value(each) for each in arguments]
        made = self._module.function(function, inside=True)
        return self._builder.call(made, [self._passed(*pair) for pair in zip(values, made.ftype.args, strict=True)])

    def _passed(self, value: Any, kind: Any) -> Value:
        if isinstance(value, Fields):
            return value.value
        if isinstance(value, ArrayValue):
            return value.pointer
        return self._as(self._loaded(value), kind)
