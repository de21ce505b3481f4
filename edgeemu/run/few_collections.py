"""Fewer searches for unreachable cycles while a simulation runs. Knows Python's collector; no run."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def few_collections() -> Iterator[None]:
    """Let Python look for unreachable cycles seldom: a simulation has millions of live tuples, and makes few cycles.

    That many objects are more than modules have, which are imported meanwhile.
    """
    usual = gc.get_threshold()
    gc.set_threshold(500_000, 50, 100)
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()  # all is old now: it is looked at seldom, and not at once
        gc.set_threshold(*usual)
