"""The command `edgeemu` in a process of its own that starts warm: forked from the tests, which have done its imports.

For tests that are about what the process does and not about how Python starts one, which takes half a second of
processor time, and of a run's fork server 0.2 s more. The process ends as the command does.
"""

import functools
import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import edgeemu
from edgeemu import __main__ as program
from edgeemu.host.fleet import Fleet
from support.forked import begin_program, fork_program
from support.warm_servers import fork_server_here, import_all

COLD = Fleet._spawn  # before a fixture has replaced it


def start_edgeemu(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    before: Callable[[], object] = lambda: None,
    warm_server: bool = True,
    **options: Any,
) -> "subprocess.Popen[Any]":
    """Start the command; `before` is called first in its process, and `options` are those of `subprocess.Popen`.

    A warm fork server has what the tests have, and so have its devices: where their memory matters they start cold.
    """
    _import_all()
    environment = dict(os.environ if env is None else env)

    def be_command() -> None:
        before()
        begin_program(unbuffered=bool(environment.get("PYTHONUNBUFFERED")))
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [str(Path(program.__file__)), *arguments]
        sys.modules["__main__"] = program
        pytest.MonkeyPatch().setattr(Fleet, "_spawn", fork_server_here if warm_server else COLD)  # never undone
        program.main()

    return fork_program(be_command, **options)


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
