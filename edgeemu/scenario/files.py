"""Files and directories that a scenario names, relative to its own directory, and the one way to read their text."""

import codecs
import os
import re
import stat
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import ValidationInfo

from edgeemu.errors import RequestError, did_you_mean_path

MAX_TEXT_BYTES = 32 << 20  # no scenario, trace or list of prompts is longer, and its text must fit in memory
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_OTHER_FORMATS = {  # by their first bytes
    codecs.BOM_UTF32_LE: "is text in UTF-32; save it in UTF-8",
    codecs.BOM_UTF32_BE: "is text in UTF-32; save it in UTF-8",
    codecs.BOM_UTF16_LE: "is text in UTF-16; save it in UTF-8",
    codecs.BOM_UTF16_BE: "is text in UTF-16; save it in UTF-8",
    b"\x1f\x8b": "is compressed with gzip; unpack it (gunzip)",
    b"BZh91AY&SY": "is compressed with bzip2; unpack it (bunzip2)",
    b"\xfd7zXZ\x00": "is compressed with xz; unpack it (unxz)",
    b"\x28\xb5\x2f\xfd": "is compressed with Zstandard; unpack it (unzstd)",
    b"PK\x03\x04": "is a ZIP archive; unpack it (unzip)",
    b"PAR1": "is a Parquet file; save it as text",
}


def base_of(info: ValidationInfo) -> Path:
    """The directory that file names in a scenario are relative to, its own."""
    return Path((info.context or {}).get("base") or ".")


def existing(given: str | Path, base: Path, kind: Literal["file", "directory"] = "file") -> Path:
    """The absolute path of a file or directory that a scenario names. Raises ValueError, with the nearest name."""
    path, full = Path(given), absolute(given, base)
    try:
        if full.is_file() if kind == "file" else full.is_dir():
            return full
        if full.exists():
            raise ValueError(f'"{given}" is {_kind(full.stat().st_mode)}, not a {kind}')
        siblings = [path.parent / other.name for other in full.parent.glob("*") if other.is_dir() == (kind != "file")]
    except OSError as error:  # a name too long
        raise ValueError(f'"{str(given)[:80]}" is no path: {error.strerror}') from error
    raise ValueError(f'there is no {kind} "{given}"{did_you_mean_path(path, siblings)}')


def absolute(given: str | Path, base: Path) -> Path:
    """The absolute path of a file name in a scenario. Raises ValueError."""
    try:
        return (base / Path(given).expanduser()).absolute()
    except RuntimeError as error:  # a home directory of nobody
        raise ValueError(f'"{str(given)[:80]}" is no path: {error}') from error


def read_text(path: Path, shown: str) -> str:
    r"""Text of a regular file in UTF-8, without a byte-order mark, its lines ended by "\n".

    Raises `RequestError` with file (as `shown`), line and reason: not a regular file, too large, in another encoding
    or format, control characters. Raises `OSError` where it cannot be opened.
    """
    return _decoded(_read_bytes(path, shown), shown)


def read_stream(stream: BinaryIO, shown: str) -> str:
    """Text of a pipe or a terminal, to its end, as `read_text` has that of a file. Raises `RequestError`."""
    return _decoded(stream.read(MAX_TEXT_BYTES + 1), shown)


def _decoded(raw: bytes, shown: str) -> str:
    if len(raw) > MAX_TEXT_BYTES:
        raise RequestError(f"is larger than {MAX_TEXT_BYTES >> 20} MiB, the most that is read of a text", file=shown)
    for mark, what in _OTHER_FORMATS.items():
        if raw.startswith(mark):
            raise RequestError(what, file=shown)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RequestError("is not text in UTF-8", file=shown, line=line) from error
    if refused := _CONTROL.search(text):
        line = text.count("\n", 0, refused.start()) + 1
        raise RequestError(f"has the control character U+{ord(refused[0]):04X}", file=shown, line=line)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_bytes(path: Path, shown: str) -> bytes:
    """Bytes of a regular file, one more than `MAX_TEXT_BYTES` at most."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise RequestError(f"is {_kind(mode)}, not a file", file=shown)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_TEXT_BYTES + 1)
    finally:
        os.close(descriptor)


def read_named_text(given: str | Path, base: Path) -> str:
    """Text of a file that a scenario names. Raises ValueError, as `existing` and `read_text`."""
    path = existing(given, base)
    try:
        return read_text(path, str(given))
    except RequestError as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        raise ValueError(f"{given}: {(error.strerror or str(error)).lower()}") from error


def lines_of(text: str, shown: str) -> Iterator[tuple[str, str]]:
    """Lines that are neither blank nor comments (#), stripped, each with its place, `file:line`."""
    for number, line in enumerate(StringIO(text), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield f"{shown}:{number}", stripped


def or_text(what: str) -> Callable[[dict[str, Any]], None]:
    """Extension of a list's JSON schema: the value can also be a text, such as the name of a file: `what` it is."""

    def extend(schema: dict[str, Any]) -> None:
        forms = schema.pop("anyOf", None) or [
            {key: schema.pop(key) for key in ("type", "items", "minItems") if key in schema}
        ]
        schema["anyOf"] = [{"type": "string", "description": what}, *forms]

    return extend


def _kind(mode: int) -> str:
    """Kind of a file that is not the one asked for."""
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFREG: "a file"}
    return kinds.get(stat.S_IFMT(mode), "a device")
