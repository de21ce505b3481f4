"""Compiled kernels, which are made when a computation needs them first: small models never do."""

from __future__ import annotations

from functools import cache
from types import ModuleType


@cache
def compiled_kernels() -> ModuleType:
    """Return `edgeemu_kernels.compiled`, whose import compiles. Looked up once: a token asks a hundred times."""
    from edgeemu_kernels import compiled

    return compiled


@cache
def order_free_sums() -> ModuleType:
    """Return `edgeemu_kernels.order_free`, whose import compiles."""
    from edgeemu_kernels import order_free

    return order_free
