"""The command `edgeemu` in a process of its own that starts warm: forked from the tests, which have done its imports.

For tests that are about what the process does and not about how Python starts one, which takes half a second of
processor time, and of a run's fork server 0.2 s more. `subprocess` sets up all else, and the process ends as it does.
"""

import faulthandler
import functools
import gc
import importlib
import io
import os
import pkgutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import edgeemu
from edgeemu import __main__ as program
from edgeemu.host.fleet import Fleet
from support.warm_servers import fork_server_here, import_all

_ABOVE_ALL = 1 << 16  # no descriptor has a higher number
_NO_PROGRAM = "edgeemu, forked"  # `subprocess` is never asked to start it


def start_edgeemu(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    before: Callable[[], object] = lambda: None,
    **options: Any,
) -> "subprocess.Popen[Any]":
    """Start the command; `before` is called first in its process, and `options` are those of `subprocess.Popen`."""
    _import_all()
    environment = dict(os.environ if env is None else env)

    def be_command() -> NoReturn:
        try:
            before()
            _be_command(arguments, environment)
        except BaseException:  # noqa: BLE001 - the process ends here
            traceback.print_exc()
        os._exit(1)

    return subprocess.Popen([_NO_PROGRAM], preexec_fn=be_command, **options)


def run_edgeemu(*arguments: str, timeout_s: float = 60.0, **options: Any) -> "subprocess.CompletedProcess[Any]":
    """Run the command to its end, as `subprocess.run` does."""
    with start_edgeemu(*arguments, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@functools.cache
def _import_all() -> None:
    """Do all imports of commands and of fork servers."""
    import_all()
    for module in pkgutil.walk_packages(edgeemu.__path__, "edgeemu."):
        importlib.import_module(module.name)
    importlib.import_module("uvloop")


def _be_command(arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """Do what Python does when it starts, then what the command does. Does not return but for an error."""
    os.closerange(3, _ABOVE_ALL)  # also the pipe by which `subprocess` learns that its program has started
    faulthandler.disable()
    gc.freeze()  # a collection must not touch, and so copy, what the tests have
    gc.enable()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the time limit of a test
    sys.unraisablehook = sys.__unraisablehook__
    os.environ.clear()
    os.environ.update(environment)
    unbuffered = bool(environment.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = _stream(0, "r", unbuffered=False)
    sys.stdout = sys.__stdout__ = _stream(1, "w", unbuffered=unbuffered)
    sys.stderr = sys.__stderr__ = _stream(2, "w", unbuffered=unbuffered)
    sys.argv = [str(Path(program.__file__)), *arguments]
    sys.modules["__main__"] = program
    Fleet._spawn = fork_server_here  # type: ignore[method-assign,assignment]  # in a process of its own
    program.main()


def _stream(number: int, mode: str, *, unbuffered: bool) -> Any:
    """Return a standard stream as Python makes it, None for one that is closed."""
    try:
        os.fstat(number)
    except OSError:
        return None
    if unbuffered:
        return io.TextIOWrapper(io.FileIO(number, mode, closefd=False), write_through=True)
    return open(number, mode, closefd=False)
