"""Processes that tests have left: children, and whatever carries the tests' token wherever it hangs by now."""

import os

_KERNEL_THREAD = 0x00200000  # PF_KTHREAD among the flags of proc_pid_stat(5)


class LeftProcesses:
    """Looks for processes of this one; `token` is in the environment of all that tests start.

    Hundreds of others may run here, and every test looks twice: whose they are is read once.
    """

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._others: set[str] = set()  # process ids

    def look(self) -> list[str]:
        """Children of this process, zombies too, and processes with the token, each as a phrase."""
        ids = {name for name in os.listdir("/proc") if name.isdigit()} - {str(os.getpid())}  # noqa: PTH208
        self._others &= ids  # the number of one that has ended can become that of one of ours
        return [found for process in sorted(ids - self._others) if (found := self._ours(process))]

    def _ours(self, process: str) -> str:
        """Return what a process is, or "" if it is not ours."""
        try:
            name, status = _contents(f"/proc/{process}/stat").rsplit(b")", 1)  # "pid (name) state parent … flags …"
            state = status.split()
            child, kernels = int(state[1]) == os.getpid(), int(state[6]) & _KERNEL_THREAD
            # Neither zombies nor the kernel's have an environment, and some kernels say so by an error.
            environment = b"" if child or kernels else _contents(f"/proc/{process}/environ")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return ""  # it ended meanwhile, or is another user's
        if child or self._token in environment:
            return f"process {name.decode(errors='replace')})"
        if environment or kernels:  # one that starts a program has no environment for a moment
            self._others.add(process)
        return ""


def _contents(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - read for every test, many times
        return file.read()
