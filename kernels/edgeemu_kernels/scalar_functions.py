"""Functions of `scalar_code` compiled for this processor, as Python calls them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from edgeemu_kernels.scalar_code import ScalarModule, signature
from edgeemu_kernels.vector_code import compile_module

INLINED = 50  # takes 9 % less to compile than LLVM's own limit, and is as quick


class MachineCode:
    """Functions compiled for this processor: called with numbers, and addresses of arrays and of packed tuples."""

    def __init__(self, *functions: Callable[..., object]) -> None:
        module = ScalarModule()
        self._names = {function: module.function(function, inside=False).name for function in functions}
        self._engine = compile_module(module.module, loops=False, inlined=INLINED)  # owns the machine code
        self._types: dict[Any, Any] = {int: ctypes.c_int64, float: ctypes.c_double, type(None): None}

    def __getitem__(self, function: Callable[..., object]) -> Callable[..., Any]:
        hints, returned = signature(function)
        arguments: list[Any] = [self._types.get(hint, ctypes.c_void_p) for hint in hints.values()]
        kind = ctypes.CFUNCTYPE(self._types[returned], *arguments)
        called: Callable[..., Any] = kind(self._engine.get_function_address(self._names[function]))
        return called
