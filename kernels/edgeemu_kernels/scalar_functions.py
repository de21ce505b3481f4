"""Functions of `scalar_code` compiled for this processor, as Python calls them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, get_type_hints

from edgeemu_kernels.object_code import compile_module


class MachineCode:
    """Functions compiled for this processor: called with numbers, and addresses of arrays and of packed tuples."""

    def __init__(self, *functions: Callable[..., object]) -> None:
        name = " ".join(map(_symbol, functions))
        self._engine = compile_module(name, lambda: _text(functions), functions, loops=False)  # owns the machine code
        self._types: dict[Any, Any] = {int: ctypes.c_int64, float: ctypes.c_double, type(None): None}

    def __getitem__(self, function: Callable[..., object]) -> Callable[..., Any]:
        hints = get_type_hints(function)
        returned = self._types[hints.pop("return")]
        arguments: list[Any] = [self._types.get(hint, ctypes.c_void_p) for hint in hints.values()]
        kind = ctypes.CFUNCTYPE(returned, *arguments)
        called: Callable[..., Any] = kind(self._engine.get_function_address(_symbol(function)))
        return called


def _symbol(function: Callable[..., object]) -> str:
    return f"{function.__module__}.{function.__name__}"


def _text(functions: tuple[Callable[..., object], ...]) -> str:
    """Translation of functions."""
    from edgeemu_kernels.scalar_code import ScalarModule  # needed only to compile

    module = ScalarModule()
    for function in functions:
        module.function(function, inside=False)
    return str(module.module)
