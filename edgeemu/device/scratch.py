"""The private directory of one run: Unix sockets and devices' logs. Knows paths and owners; no processes.

It is not what a run leaves behind (`records.py`): nothing in it outlives the run.
"""

import json
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

PREFIX = "edgeemu-"
OWNER_FILE = "owner"
SERVER_LOG = "@server.log"  # `quote` encodes "@", so that no device's log can have this name

_MAX_SOCKET_PATH_BYTES = 107  # sun_path of unix(7) less its final NUL
_ROOM_FOR_NAMES_BYTES = 56  # "/edgeemu-xxxxxxxx/" and a socket file's name


def create(owner_pid: int) -> Path:
    """A new directory, readable by this user only, with a path short enough for Unix sockets inside.

    Its `owner` file tells what a dead process left from what is in use: the process id, the start time that
    makes it unique (proc_pid_stat(5), field 22) and the boot that both count from.
    """
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_parent()))
    owner = {
        "pid": owner_pid,
        "start_ticks": start_ticks(owner_pid),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    }
    (directory / OWNER_FILE).write_text(json.dumps(owner))
    return directory


def _parent() -> Path:
    """The user's runtime directory, else the temporary one; `/tmp` if their paths are too long."""
    wanted = [os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"]
    for candidate in wanted:
        fits = len(os.fsencode(candidate)) + _ROOM_FOR_NAMES_BYTES <= _MAX_SOCKET_PATH_BYTES
        if candidate and fits and Path(candidate).is_dir() and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate)
    raise OSError(f"no writable directory with a path short enough for Unix sockets among {wanted}")


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot. Raises FileNotFoundError if there is none."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat[stat.rindex(")") + 2 :].split()[19])  # after the command's name, which may hold spaces


def log_path(directory: Path, name: str) -> Path:
    """Where the device `name` writes what it has to say; every name is a file name of its own."""
    return directory / f"{quote(name, safe='')}.log"


def tail(log: Path, max_bytes: int = 8192) -> str:
    """The last lines of a log; empty where there is none (yet)."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - max_bytes))
            return file.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def remove(directory: Path) -> None:
    """Remove a run's directory with all it holds. One without our owner file is not ours, and stays."""
    if not directory.name.startswith(PREFIX) or not (directory / OWNER_FILE).is_file():
        return
    import shutil  # here, because devices are forked from who imports this module, and it is 1 MB

    shutil.rmtree(directory, ignore_errors=True)  # the controller and the fork server may both be at it
