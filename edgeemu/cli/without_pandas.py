"""pyarrow kept from importing pandas, which takes 0.15 s and of which records need nothing."""

import sys
from contextlib import suppress
from typing import Any


def without_pandas() -> None:
    """Have pyarrow find no pandas where it looks for it: at the first array that it makes.

    Its conversions to and from pandas look again when they are called, by a policy for example.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    modules: dict[str, Any] = sys.modules
    modules["pandas"] = None
    try:
        for _ in range(2):  # its Python looks, and fails; then its C++
            with suppress(ImportError, AttributeError):
                pa.array([0])
    finally:
        del modules["pandas"]
