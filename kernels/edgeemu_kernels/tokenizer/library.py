"""Guards around what model files say of tokenizers: types, ids, and errors of the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import tokenizers
from tokenizers import processors

from edgeemu_kernels.errors import ModelFileError

_PANIC = "PanicException"  # of pyo3, a BaseException that cannot be imported: a bug in Rust code

T = TypeVar("T")


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


def typed(path: Path, data: Mapping[str, Any], kind: type[T], prefix: str = "") -> T:
    """Convert what a file says to a `msgspec.Struct`. Raises ModelFileError with the place of a value that is wrong."""
    try:
        return msgspec.convert(data, kind, str_keys=True)
    except msgspec.ValidationError as error:
        problem, at, place = str(error).partition(" - at ")
        where = f"{prefix}{place.strip('`').removeprefix('$.')}: " if at else ""
        raise ModelFileError(path, f"{where}{problem[:1].lower()}{problem[1:]}".replace("`", "")) from error
    except UnicodeEncodeError as error:
        raise ModelFileError(path, f"has {error.object!r:.80}, which is not text") from error


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
