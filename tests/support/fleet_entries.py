"""Entry functions for the processes that tests/host/test_fleet.py forks. Knows nothing of edgeemu."""

import ctypes
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path


def sleep(spec: bytes) -> None:
    """Stay until killed."""
    del spec
    while True:
        time.sleep(60)


def describe(spec: bytes) -> None:
    """Write what this process is like to the file named in the spec, then end."""
    libc = ctypes.CDLL(None)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    facts = {
        "pid": os.getpid(),
        "uid": os.getuid(),
        "user_namespace": str(Path("/proc/self/ns/user").readlink()),
        "parent": os.getppid(),
        "comm": Path("/proc/self/comm").read_text().strip(),
        "timer_slack_ns": libc.prctl(30, 0, 0, 0, 0),  # PR_GET_TIMERSLACK
        "threads": int(status["Threads"]),
        "rss_kib": int(status["VmRSS"].split()[0]),
        "session": os.getsid(0),
        "stdin": str(Path("/proc/self/fd/0").readlink()),
        "sockets": [
            fd.name for fd in Path("/proc/self/fd").iterdir() if _link(fd).startswith(("socket:", "anon_inode:"))
        ],
        "blas": os.environ["OPENBLAS_NUM_THREADS"],
        "loaded": sorted({name.split(".")[0] for name in sys.modules}),
        "sigint_ignored": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    }
    Path(spec.decode()).write_text(json.dumps(facts))


def _link(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except FileNotFoundError:  # the one that listed the directory
        return ""


def fail(spec: bytes) -> None:
    """Raise what a device with a bug raises."""
    raise ValueError(f"no such block: {spec.decode()}")


def leave(spec: bytes) -> None:
    """End by SystemExit with the status in the spec."""
    sys.exit(int(spec))


def segfault(spec: bytes) -> None:
    """Crash in native code."""
    del spec
    ctypes.string_at(0)


def abort(spec: bytes) -> None:
    """Say the words in the spec and abort, as libraries do that cannot report an error."""
    os.write(2, spec)
    os.abort()


def write_fd(spec: bytes) -> None:
    """Write to the inherited file descriptor whose number is in the spec."""
    os.write(int(spec), b"from the device")


def on_socket_close(spec: bytes) -> None:
    """Say hello on a Unix socket and end by itself when that socket is closed by the other side."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(spec.decode())
        peer.sendall(b"hello")
        peer.recv(1)


def ignore_everything(spec: bytes) -> None:
    """A device that no polite signal ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sleep(spec)
