"""Privileges of a run's processes beyond their user's rights: next to none. Knows capabilities(7); no devices.

A device reads files that strangers made. Should one of them take it over, it has nothing that is worth having.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Iterable
from contextlib import suppress

from edgeemu.host.owner import read_proc
from edgeemu.host.prctl import CAPBSET_DROP, SET_NO_NEW_PRIVS, check, libc, prctl

CAP_DAC_READ_SEARCH, CAP_SETPCAP, CAP_SYS_NICE = 2, 8, 23  # linux/capability.h
REALTIME_PRIORITY = 1  # the least: above all that is not real-time, below all else that is

_VERSION_3 = 0x20080522  # of capset(2)


def gain_no_privileges() -> None:
    """Forbid the process to gain privileges by running programs, and to leave its memory behind in a core file."""
    prctl(SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def drop_capabilities(reads: Iterable[str]) -> None:
    """Drop all capabilities of the calling thread and of those that it starts from now on.

    Real-time priority stays allowed by a limit (RLIMIT_RTPRIO). Two capabilities stay where there is no other way:
    CAP_SYS_NICE if the limit cannot be raised, but not in effect (see `InEffect`); CAP_DAC_READ_SEARCH if one of
    `reads` or of Python's own directories is another user's and private, as after `sudo edgeemu run` in a home.
    """
    held = _capabilities("CapEff")
    if CAP_SETPCAP in held:
        for capability in _capabilities("CapBnd"):
            prctl(CAPBSET_DROP, capability)
    may = {CAP_SYS_NICE} if CAP_SYS_NICE in held and _needs_nice() else set()
    reading = held & {CAP_DAC_READ_SEARCH}
    _set_capabilities(set(), may | reading)
    if all(map(_is_readable, (*reads, *sys.path))):
        reading = set()
    _set_capabilities(reading, may | reading)


class InEffect:
    """Context in which a capability is in effect that the calling thread may have but has not. Else it does nothing."""

    def __init__(self, capability: int) -> None:
        self._effective, self._permitted = _capabilities("CapEff"), _capabilities("CapPrm")
        self._raised = self._effective | (self._permitted & {capability})

    def __enter__(self) -> None:
        if self._raised != self._effective:
            _set_capabilities(self._raised, self._permitted)

    def __exit__(self, *exception: object) -> None:
        if self._raised != self._effective:
            _set_capabilities(self._effective, self._permitted)


def _needs_nice() -> bool:
    """Whether real-time priority is to be had by CAP_SYS_NICE, and not by raising the limit to the priority in use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_RTPRIO)
    with suppress(ValueError, OSError):  # without CAP_SYS_RESOURCE
        resource.setrlimit(resource.RLIMIT_RTPRIO, (max(soft, REALTIME_PRIORITY), max(hard, REALTIME_PRIORITY)))
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REALTIME_PRIORITY))
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except OSError:  # in a user namespace, the capability is worth nothing here
        return False
    return True


def _is_readable(path: str) -> bool:
    """Whether a file or directory can be opened now. One that is not there is as good as readable."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def _capabilities(kind: str) -> set[int]:
    """Set of this thread's capabilities, by their numbers. `kind` is as in proc_pid_status(5)."""
    lines = read_proc("/proc/thread-self/status").splitlines()
    (mask,) = (int(line.split()[1], 16) for line in lines if line.startswith(f"{kind}:"))
    return {number for number in range(mask.bit_length()) if mask >> number & 1}


def _set_capabilities(effective: set[int], permitted: set[int]) -> None:
    """Set the calling thread's capabilities. It hands none on to programs, and so has no ambient ones."""
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the lower 32 bits, then the upper
    for place, capabilities in enumerate((effective, permitted)):
        mask = sum(1 << number for number in capabilities)
        data[place], data[3 + place] = mask & 0xFFFFFFFF, mask >> 32
    check(libc.capset(header, data), "capset")
