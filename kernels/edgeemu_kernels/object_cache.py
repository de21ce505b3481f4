"""Object code on disk, which is compiled once for each processor and each version of its source.

It is in `$EDGEEMU_CACHE_DIR`, else in `edgeemu` in the user's cache directory (`$XDG_CACHE_HOME`, else `~/.cache`).
Where that cannot be written, or is not this user's alone, nothing is kept, and each process compiles for itself.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

MOST_KEPT = 64  # files, those used last: some megabytes
SUFFIX = ".o"
_DIGEST_BYTES = hashlib.sha256().digest_size


def cache_directory(environment: Mapping[str, str]) -> Path:
    """Return where object code is kept. Raises RuntimeError if the user has no home."""
    own, shared = environment.get("EDGEEMU_CACHE_DIR"), environment.get("XDG_CACHE_HOME", "")
    if own:
        return Path(own)
    return (Path(shared) if shared.startswith("/") else Path.home() / ".cache") / "edgeemu"


def key_of(parts: Iterable[str | bytes]) -> str:
    """Name of object code by all that it is made from, in order."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def kept(key: str, make: Callable[[], bytes], is_right: Callable[[], bool]) -> bytes:
    """Return object code by its key: as it was kept, else as `make` makes it, which is then kept if it is right."""
    try:
        directory = _private(cache_directory(os.environ))
    except (OSError, RuntimeError):
        return make()  # there is no place for it: it only takes longer
    path = directory / (key + SUFFIX)
    found = _read(path)
    if found is None:
        found = make()
        if is_right():
            with suppress(OSError):  # no room: it only takes longer the next time
                _write(path, found)
    return found


def _private(directory: Path) -> Path:
    """Make a directory that only this user can write. Raises OSError if it is another's: that could hold any code."""
    if not directory.exists():
        above = next(each for each in directory.parents if each.exists())
        if above.stat().st_uid != os.geteuid() and not os.environ.get("EDGEEMU_CACHE_DIR"):
            raise PermissionError(f"{above} is another user's home")  # after sudo: the directory would be root's
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_alone(directory.stat(), directory)
    return directory


def _check_alone(found: os.stat_result, path: Path) -> None:
    """Raise PermissionError if others than this user can write a file or directory."""
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise PermissionError(f"{path} can be written by others")


def _read(path: Path) -> bytes | None:
    """Content of a file that is complete and this user's alone; it then counts as just written."""
    try:
        with path.open("rb") as file:
            _check_alone(os.fstat(file.fileno()), path)
            content = file.read()
            os.utime(file.fileno())
    except OSError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    """Write a file in one step, whoever else writes it, and remove those that nobody has used for longest."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=SUFFIX, delete=False) as file:
        try:
            file.write(hashlib.sha256(code).digest() + code)
            file.flush()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    written: list[tuple[float, Path]] = []
    for each in path.parent.glob(f"*{SUFFIX}"):
        with suppress(FileNotFoundError):  # another process has removed it
            written.append((each.stat().st_mtime, each))
    for _, each in sorted(written, reverse=True)[MOST_KEPT:]:
        each.unlink(missing_ok=True)
