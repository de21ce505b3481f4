"""Fewer searches for unreachable cycles while a simulation runs. Knows Python's collector; no run."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def few_collections() -> Iterator[None]:
    """Let Python look for unreachable cycles seldom: a simulation has millions of live tuples, and makes few cycles."""
    usual = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
