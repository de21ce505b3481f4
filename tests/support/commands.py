"""The command called in this process: much cheaper than in one of its own, where that is not what is tested.

`Edgeemu` is the type of the `edgeemu` fixture: arguments to exit status, standard output, standard error.
"""

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import pytest

from edgeemu.cli import app

Edgeemu = Callable[..., tuple[int, str, str]]


def call_edgeemu(*arguments: str) -> tuple[int, str, str]:
    """Call the command; return its exit status, standard output and standard error, neither of which is a terminal."""
    out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as leaving:
        app.main(arguments)
    assert isinstance(leaving.value.code, int)
    return leaving.value.code, *map(_text, (out, err))


def _text(written: io.TextIOWrapper) -> str:
    written.flush()
    buffer = written.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()
