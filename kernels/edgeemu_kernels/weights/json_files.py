"""Guard where files of a model enter: bounded reads, and JSON as typed values. Knows no key of any file.

Whatever a file says, each function here returns what was asked for or raises ModelFileError, in time and memory that
the limits bound.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgeemu_kernels import strict_json
from edgeemu_kernels.errors import ModelFileError

CONFIG_BYTES = 4 * 2**20  # configs of real models are below 1 MB; JSON can take 20 times its size in memory
_POINTER = b"version https://git-lfs.github.com/"
_PLACE = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)

T = TypeVar("T")


def read_bounded(path: Path, limit_bytes: int = CONFIG_BYTES) -> bytes:
    """Read a whole regular file of at most that size. Raises ModelFileError otherwise, and for a Git LFS pointer."""
    check_inside(path)
    try:
        with path.open("rb") as file:
            raw = file.read(limit_bytes + 1)
    except OSError as error:
        raise ModelFileError(path, f"cannot be read: {error.strerror}") from error
    if len(raw) > limit_bytes:
        raise ModelFileError(path, f"is larger than {limit_bytes} bytes, the limit for such a file")
    refuse_pointer(path, raw)
    return raw


def check_inside(path: Path) -> None:
    """Check that a file of a model directory is a regular file in it, or in the Hugging Face cache's `blobs`.

    There, files are symbolic links to `models--…/blobs/…`. Raises ModelFileError otherwise: nothing outside is opened.
    """
    try:
        real, directory = path.resolve(), path.parent.resolve()
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelFileError(path, "is not a regular file")
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise ModelFileError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    in_cache = real.parent.name == "blobs" and real.parent.parent.name.startswith("models--")
    if real.parent != directory and not in_cache:
        raise ModelFileError(
            path, "is a symbolic link out of its directory, which is not followed; put the file itself there"
        )


def refuse_pointer(path: Path, start: bytes) -> None:
    """Raise ModelFileError if a file that starts so only points to one that Git LFS keeps."""
    if start.startswith(_POINTER):
        raise ModelFileError(path, "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")


def read_json(path: Path, limit_bytes: int = CONFIG_BYTES) -> dict[str, Any]:
    """Read an object from a JSON file (UTF-8, with or without byte-order mark) of at most that size.

    Raises ModelFileError if it is missing, too large, nested too deeply, has a key twice, or is not an object.
    """
    return parse_json(path, read_bounded(path, limit_bytes))


def parse_json(path: Path, raw: bytes) -> dict[str, Any]:
    """Parse an object from JSON text of the file `path`, which errors name."""
    try:
        data = strict_json.loads(raw.decode("utf-8-sig"))
    except ValueError as error:  # of UTF-8 too
        raise ModelFileError(path, f"is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ModelFileError(path, "is not a JSON object")
    return data


def typed(path: Path, data: dict[str, Any], kind: type[T], within: str = "") -> T:
    """Convert parsed JSON to a msgspec type. ModelFileError names the field that does not fit, its value and why.

    `within` is the place of `data` in the file, where it is not the whole.
    """
    where = f"{within}: " if within else ""
    try:
        return msgspec.convert(data, kind, str_keys=True)
    except msgspec.ValidationError as error:
        text = str(error)
        place = _PLACE.search(text)
        if place is None or not place[1]:
            raise ModelFileError(path, where + _lower(text)) from error
        name, reason = place[1], _lower(text[: place.start()])
        got = "" if ", got" in reason or name not in data else f", got {short(data[name])}"
        raise ModelFileError(path, f"{where}{name}: {reason}{got}") from error


def _lower(text: str) -> str:
    return (text[:1].lower() + text[1:]).replace("`", "").replace("object missing required field", "lacks")


def short(value: object, limit: int = 60) -> str:
    """Printable text of a value from a file, of limited length and without control characters."""
    if isinstance(value, list | dict):
        return f"a list of {len(value)}" if isinstance(value, list) else f"an object of {len(value)} keys"
    if isinstance(value, int) and abs(value) >= 10**limit:
        return "a number of very many digits"
    text = repr(value[: limit + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= limit + 2 else f"{text[:limit]}…"
