"""The system call prctl(2): attributes of the calling thread or process. Knows numbers of options; no process."""

import ctypes
import os

SET_PDEATHSIG, SET_DUMPABLE, SET_NAME = 1, 4, 15  # linux/prctl.h
CAPBSET_DROP, SET_TIMERSLACK, SET_CHILD_SUBREAPER, SET_NO_NEW_PRIVS = 24, 29, 36, 38

libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int | bytes) -> None:
    """Set an attribute. Raises OSError if the kernel refuses."""
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    check(libc.prctl(option, argument, *map(ctypes.c_ulong, (0, 0, 0))), f"prctl({option})")


def check(result: int, call: str) -> None:
    """Raise OSError for the result of a C function that sets errno."""
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")
