"""Limits of this process that edgeemu must fit in, because its libraries abort where it does not.

getrlimit(2), and pids.max of cgroups. Knows what a command and its devices need; starts no device.
"""

import errno
import os
import resource
import threading
import warnings

from edgeemu.errors import RunError

# Measured, with some room: a command by itself, a controller of n devices, and a device with n - 1 neighbours.
COMMAND_DESCRIPTORS = 40
CONTROLLER_DESCRIPTORS = (40, 2)  # and for each device
DEVICE_DESCRIPTORS = (20, 5)
COMMAND_THREADS = 13  # Arrow's 10, the allocator's, and the writer of large messages
COMMAND_ADDRESS_BYTES = 2**30  # code, stacks and what allocators reserve; it is not resident
COMMAND_DATA_BYTES = 2**28  # what is private and can be written of that
DEVICE_THREADS = 4

# Read by libraries when they are loaded: a thread for each core would not make the controller faster, and is an error
# where there are few. Devices must have one.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

NO_MORE_PROCESSES = (
    f"no more threads or processes can be started: a run needs {COMMAND_THREADS}, and {DEVICE_THREADS} for each device."
    " The limit is that of this user (ulimit -u) or of the control group (pids.max, in containers): raise it"
)

NO_MORE_MEMORY = (
    "this process gets no more memory: see what is free (free -h), its limits (ulimit -v, ulimit -d), and those of "
    "its control group (memory.max)"
)

_MEMORY = {resource.RLIMIT_AS: ("address space", "-v"), resource.RLIMIT_DATA: ("private memory", "-d")}

_NO_THREAD = "RuntimeError: can't start new thread"  # in a traceback

# What ZeroMQ writes before it aborts (its err.hpp), as the C library words it.
_SHORTAGES = {
    os.strerror(errno.EAGAIN): NO_MORE_PROCESSES,
    os.strerror(errno.EMFILE): "it may not open as many files as it has connections: raise the limit with ulimit -n",
    os.strerror(errno.ENOMEM): "this host gives it no more memory: see ulimit -v",
}


def fit_command() -> None:
    """Raise this process's soft limits to what any command needs.

    Raises:
        RunError: hard limits are below that.
    """
    _allow(resource.RLIMIT_NOFILE, COMMAND_DESCRIPTORS, COMMAND_DESCRIPTORS)
    _allow(resource.RLIMIT_AS, COMMAND_ADDRESS_BYTES, COMMAND_ADDRESS_BYTES)
    _allow(resource.RLIMIT_DATA, COMMAND_DATA_BYTES, COMMAND_DATA_BYTES)


def fit_devices(n_devices: int) -> None:
    """Raise this process's soft limit of descriptors to what a run with so many devices needs; devices inherit it.

    Raises:
        RunError: the hard limit is below what the controller needs.
    """
    needed, most = (fixed + each * n_devices for fixed, each in (CONTROLLER_DESCRIPTORS, DEVICE_DESCRIPTORS))
    _allow(resource.RLIMIT_NOFILE, needed, max(needed, most))


def raised(soft: int, hard: int, wanted: int) -> int:
    """Return the soft limit that is nearest to what is wanted, never lower than it is now."""
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    return wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)


def _allow(kind: int, needed: int, wanted: int) -> None:
    soft, hard = resource.getrlimit(kind)
    allowed = raised(soft, hard, wanted)
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        raise RunError(too_few(kind, needed, hard))
    if allowed != soft:
        resource.setrlimit(kind, (allowed, hard))


def too_few(kind: int, needed: int, hard: int) -> str:
    """Return the message that a hard limit is below what is needed, and how it is raised."""
    if kind in _MEMORY:
        what, option = _MEMORY[kind]
        return (
            f"edgeemu needs {needed // 2**20} MiB of {what}, and this process may have {hard // 2**20} MiB: start it "
            f"with a higher limit (ulimit {option} {needed // 2**10}), or without one (ulimit {option} unlimited)"
        )
    return (
        f"{needed} file descriptors are needed, and this process may open {hard}: start edgeemu with a higher limit "
        f"(ulimit -n {needed}; root raises the hard limit, in /etc/security/limits.conf or with LimitNOFILE= of a unit)"
    )


def check_threads(count: int = COMMAND_THREADS) -> None:
    """Start so many threads in a process of their own, which then ends: that is the only way to know.

    Libraries that every run needs would abort where they cannot start theirs. A process that has not loaded them yet is
    forked in half the time.

    Raises:
        RunError: it cannot be started, or not so many threads.
    """
    try:
        with warnings.catch_warnings():  # Python 3.12 warns of forks beside threads: the child needs nothing of theirs
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    except OSError as error:
        raise RunError(NO_MORE_PROCESSES) from error
    if pid == 0:
        os._exit(_start(count))
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise RunError(NO_MORE_PROCESSES)


def _start(count: int) -> int:
    """Start threads that wait for ever; return the exit status that says whether there can be so many."""
    never = threading.Event()
    threading.stack_size(2**16)
    try:
        for _ in range(count):
            threading.Thread(target=never.wait, daemon=True).start()
    except RuntimeError:
        return 1
    return 0


def shortage(said: str) -> str:
    """Return what a process that ended was short of, by its last words; "" if they do not tell."""
    if _NO_THREAD in said:
        return NO_MORE_PROCESSES
    return next((why for words, why in _SHORTAGES.items() if f"{words} (src/" in said), "")
