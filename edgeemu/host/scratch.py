"""Private directory of one run: Unix sockets and logs of devices. Knows paths and owners; no processes.

It is not what a run leaves behind (`records.py`): nothing in it outlives the run.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from edgeemu.host.owner import Owner, start_ticks

PREFIX = "edgeemu-"
OWNER_FILE = "owner"
PROCESSES_FILE = "processes"
SERVER_LOG = "@server.log"  # `quote` encodes "@", so that no device's log can have this name

_MAX_SOCKET_PATH_BYTES = 107  # sun_path of unix(7) less its final NUL
_ROOM_FOR_NAMES_BYTES = 56  # "/edgeemu-xxxxxxxx/" and a socket file's name


def create(owner_pid: int) -> Path:
    """Create a directory, readable by this user only, with a path short enough for Unix sockets inside.

    Its `owner` file tells what a dead process left from what is in use.
    """
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_parent()))
    (directory / OWNER_FILE).write_text(json.dumps(Owner.of(owner_pid)._asdict()))
    return directory


def _parents() -> list[str]:
    return [os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"]


def _parent() -> Path:
    """Candidate parents: the user's runtime directory, then the temporary one; `/tmp` if their paths are too long."""
    wanted = _parents()
    for candidate in wanted:
        fits = len(os.fsencode(candidate)) + _ROOM_FOR_NAMES_BYTES <= _MAX_SOCKET_PATH_BYTES
        if candidate and fits and Path(candidate).is_dir() and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate)
    raise OSError(f"no writable directory with a path short enough for Unix sockets among {wanted}")


def directories_of_all_runs() -> Iterator[tuple[Path, Owner]]:
    """Directories of all runs, live or ended, below the parents that this user's runs use; each with its owner."""
    for parent in sorted({str(Path(parent).resolve()) for parent in _parents() if parent}):
        for directory in sorted(Path(parent).glob(f"{PREFIX}*")):
            try:
                yield directory, Owner(**json.loads((directory / OWNER_FILE).read_text()))
            except (OSError, ValueError, TypeError):
                continue  # not a run's, another user's, or being made or removed right now


class Process(NamedTuple):
    """Process that a run has started."""

    name: str
    pid: int
    start_ticks: int


def record_process(directory: Path, name: str, pid: int) -> None:
    """Record a process of the run, so that `edgeemu clean` can end it if its controller cannot."""
    try:
        process = Process(name, pid, start_ticks(pid))
    except (FileNotFoundError, ProcessLookupError):
        return  # gone already
    with (directory / PROCESSES_FILE).open("a") as file:
        file.write(json.dumps(process) + "\n")


def processes(directory: Path) -> list[Process]:
    """Recorded processes of a run."""
    try:
        lines = (directory / PROCESSES_FILE).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [Process(*json.loads(line)) for line in lines if line.endswith("]")]  # the last may be cut off


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


def remove(directory: Path) -> None:
    """Remove a run's directory and its content. A directory without an owner file is no run's, and stays."""
    if not directory.name.startswith(PREFIX) or not (directory / OWNER_FILE).is_file():
        return
    import shutil  # here, because devices are forked from who imports this module, and it is 1 MB

    shutil.rmtree(directory, ignore_errors=True)  # the controller and the fork server may both be at it
