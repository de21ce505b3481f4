"""Guards around the `tokenizers` library: its errors, ids that it does not have, tokens around a text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tokenizers
from tokenizers import processors

from edgeemu_kernels.errors import ModelFileError

_PANIC = "PanicException"  # of pyo3, a BaseException that cannot be imported: a bug in Rust code


@contextmanager
def library_errors(path: Path, what: str) -> Iterator[None]:
    """Turn any error of the `tokenizers` library, whose errors have no class of their own, into a ModelFileError."""
    try:
        yield
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(path, f"{what}: {error}") from error
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        raise ModelFileError(path, f"{what}: {error}") from error


def checked_id(path: Path, place: str, number: int | None, size: int) -> int | None:
    """Return the number of a token, or None. Raises ModelFileError if the vocabulary has no such token."""
    if number is not None and not 0 <= number < size:
        raise ModelFileError(path, f"{place} is {number}, but the vocabulary has {size} tokens")
    return number


def surround(core: tokenizers.Tokenizer, bos_id: int | None, eos_id: int | None) -> None:
    """Have a tokenizer put BOS before a text and EOS after it; None: not."""
    around = {"BOS": bos_id, "EOS": eos_id}
    single = [name for name in ("BOS", "$A", "EOS") if name == "$A" or around[name] is not None]
    special = [{"id": name, "ids": [token], "tokens": [name]} for name, token in around.items() if token is not None]
    core.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
