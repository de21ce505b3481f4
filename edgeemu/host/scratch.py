"""Private directory of one run: Unix sockets and logs of devices. Knows paths and owners; no processes.

It is not what a run leaves behind (`records.py`): nothing in it outlives the run.
"""

import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from edgeemu.host.owner import Owner, own_processes, read_proc, start_ticks

PREFIX = "edgeemu-"
OWNER_FILE = "owner"
PROCESSES_FILE = "processes"
SERVER_LOG = "@server.log"  # `quote` encodes "@", so that no device's log can have this name

_MAX_SOCKET_PATH_BYTES = 107  # sun_path of unix(7) less its final NUL
_ROOM_FOR_NAMES_BYTES = 56  # "/edgeemu-xxxxxxxx/" and a socket file's name
_MAX_FILE_BYTES = 4 << 20  # of its files: 10,000 devices have a line of 60 bytes each
_PLACES = ("XDG_RUNTIME_DIR", "TMPDIR", "TEMP", "TMP")  # environment variables that name a parent


class Process(NamedTuple):
    """Process that a run has started."""

    name: str
    pid: int
    start_ticks: int


class PrivateDirectory(NamedTuple):
    """Private directory of a run, live or ended, and what it says: all read through one descriptor."""

    path: Path
    owner: Owner
    processes: list[Process]


def create(owner_pid: int) -> Path:
    """Create a directory, readable by this user only, with a path short enough for Unix sockets inside.

    Its `owner` file tells what a dead process left from what is in use.
    """
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_parent()))
    (directory / OWNER_FILE).write_text(json.dumps(Owner.of(owner_pid)._asdict()))
    return directory


def _parent() -> Path:
    """Candidate parents: the user's runtime directory, then `/tmp`, whatever TMPDIR says, then the temporary one.

    `edgeemu clean` must find the directory from any shell, and its sockets and logs need next to no room.
    """
    wanted = [os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", tempfile.gettempdir()]
    for candidate in wanted:
        fits = len(os.fsencode(candidate)) + _ROOM_FOR_NAMES_BYTES <= _MAX_SOCKET_PATH_BYTES
        if not candidate or not fits or not Path(candidate).is_dir() or not os.access(candidate, os.W_OK | os.X_OK):
            continue
        if candidate == wanted[0] and Path(candidate).stat().st_uid != os.geteuid():
            continue  # after `sudo -E`: whose directory it is could exchange what is in it
        return Path(candidate)
    raise OSError(f"no writable directory with a path short enough for Unix sockets among {wanted}")


def directories_of_all_runs() -> Iterator[PrivateDirectory]:
    """Yield the directories of all of this user's runs, live or ended, whatever the environment says now.

    Believes only directories (no links) of this user's that nobody else can read: others' could name any process.
    """
    for parent in sorted({os.path.realpath(parent) for parent in _all_parents()}):
        paths: list[Path] = []
        with suppress(OSError):  # an environment variable can say anything
            paths = sorted(path for path in Path(parent).iterdir() if path.name.startswith(PREFIX))
        for path in paths:
            try:
                with _opened(path) as fd:
                    found = PrivateDirectory(path, _owner(fd), _processes(fd))
            except (OSError, ValueError, TypeError):
                continue  # not a run's, another user's, or being made or removed right now
            yield found


def _all_parents() -> Iterator[str]:
    """Yield all directories in which a run of this user can have made its own."""
    yield from ("/tmp", "/var/tmp", f"/run/user/{os.geteuid()}", tempfile.gettempdir())
    yield from (os.environ[name] for name in _PLACES if os.environ.get(name))
    for pid in own_processes():
        with suppress(OSError):  # it has ended
            variables = (entry.partition("=") for entry in read_proc(f"/proc/{pid}/environ").split("\0"))
            yield from (value for name, _, value in variables if name in _PLACES and value.startswith("/"))


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """Open a private directory of this user's. Raises OSError if it is anything else."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise PermissionError(errno.EACCES, "not a private directory of this user", str(directory))
        yield fd
    finally:
        os.close(fd)


def _read(directory_fd: int, name: str) -> str:
    """Read a file of the directory. Raises ValueError if it is not a regular one (a pipe would never end), or long."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=directory_fd), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_FILE_BYTES:
            raise ValueError(f"{name} is not a file of a run")
        return file.read(_MAX_FILE_BYTES).decode()


def _owner(directory_fd: int) -> Owner:
    """Read the owner. Raises ValueError if the file has anything else."""
    try:
        given = msgspec.json.decode(_read(directory_fd, OWNER_FILE), type=dict[str, int | str])
        return msgspec.convert([given.get(name) for name in Owner._fields], Owner)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{OWNER_FILE}: {error}") from error


def _processes(directory_fd: int) -> list[Process]:
    try:
        lines = _read(directory_fd, PROCESSES_FILE).splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with suppress(msgspec.MsgspecError):  # the last may be cut off
            found.append(msgspec.json.decode(line, type=Process))
    return found


def record_process(directory: Path, name: str, pid: int) -> None:
    """Record a process of the run, so that `edgeemu clean` can end it if its controller cannot."""
    try:
        process = Process(name, pid, start_ticks(pid))
    except (FileNotFoundError, ProcessLookupError):
        return  # gone already
    with (directory / PROCESSES_FILE).open("a") as file:
        file.write(json.dumps(process) + "\n")


def log_path(directory: Path, name: str) -> Path:
    """Log file of the device `name`. Different names give different files."""
    return directory / f"{quote(name, safe='')}.log"


def tail(log: Path, max_bytes: int = 8192) -> str:
    """Last lines of a log; empty if there is no log yet."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - max_bytes))
            return file.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def remove(directory: Path, owner: Owner | None = None) -> str:
    """Remove a run's directory and its content. Returns the reason if it stays, else "".

    A directory without an owner file, or with another `owner`, is not meant and stays. Files are removed through the
    descriptor by which that was read: whoever exchanges the path meanwhile loses an empty directory at most.
    """
    if not directory.name.startswith(PREFIX):
        return "it is no run's"
    try:
        with _opened(directory) as fd:
            if owner not in (None, _owner(fd)):
                return "it is another run's"
            with os.scandir(fd) as entries:
                names = [entry.name for entry in entries]
            for name in sorted(names, key=lambda name: name == OWNER_FILE):  # that one last
                with suppress(FileNotFoundError):  # the controller and the fork server may both be at it
                    os.unlink(name, dir_fd=fd)
        directory.rmdir()
    except FileNotFoundError:
        return "" if not directory.exists() else "it is no run's"
    except OSError as error:
        return error.strerror or str(error)
    except (ValueError, TypeError):
        return "it is no run's"
    return ""
