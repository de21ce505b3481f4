"""Ends of a command: by itself, by a signal, with an error. Knows signals, messages and exit statuses; no commands."""

import errno
import io
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import typer

from edgeemu.errors import EdgeemuError, Interrupted, RequestError
from edgeemu.host.limits import NO_MORE_MEMORY, ONE_THREAD, fit_command
from edgeemu.host.signals import handled_by
from edgeemu.report.printable import printable, printable_json

# Typer makes only this child of Click's UsageError public, and newer versions carry their own copy of Click.
UsageError: Any = typer.BadParameter.__bases__[0]

FAILED = 4
INVALID = 5  # done, but the certificate says that the host was too slow


def call(app: typer.Typer, arguments: list[str]) -> NoReturn:
    """Run a command and leave: one message for an error, and the exit status that the help describes."""
    _open_closed_streams()
    _mend_output()
    for variable, value in ONE_THREAD.items():
        os.environ.setdefault(variable, value)
    caught: list[int] = []

    def on_signal(number: int) -> None:
        if caught:
            os._exit(128 + number)
        caught.append(number)
        raise Interrupted(number)

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a locale that cannot print "–" is no error
    try:
        try:
            with handled_by(on_signal):
                fit_command()
                status = _run(app, arguments)
            sys.stdout.flush()
        except typer.Exit as leaving:
            status = leaving.exit_code
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except BaseException as error:  # noqa: BLE001 - here everything becomes a message and a status
            # What a signal interrupted may have made another error of it: an import, for example.
            if caught and not isinstance(error, Interrupted):
                error = Interrupted(caught[0])
            status = _report(error, "--json" in arguments)
            sys.stdout.flush()  # what could not be written must fail here, not at exit
    except OSError as error:  # nobody reads any more, of `edgeemu models | head -3` for example; or the disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # also not the flush at exit
        status = 128 + signal.SIGPIPE if isinstance(error, BrokenPipeError) else FAILED
    sys.exit(status)


def _open_closed_streams() -> None:
    """Give a command that was started with a standard stream closed /dev/null in its place.

    The next file or socket would have the stream's number otherwise, and be taken for it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


class _PatientFile(io.FileIO):
    """A file that takes all that is written to it, also where it is a pipe that would rather take some of it.

    Without it, `PYTHONUNBUFFERED=1` or a pipe that does not block, of a program that is its reader, cut an answer off.
    """

    def write(self, data: Any, /) -> int:
        left = memoryview(data).cast("B")
        length = len(left)
        while left:
            taken = super().write(left)
            if taken is None:  # it is full, and does not wait itself
                select.select((), (self,), ())
            else:
                left = left[taken:]
        return length


class _ToleratingFile(_PatientFile):
    """A file that takes what cannot be written, and forgets it."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(memoryview(data).cast("B"))


def _mend_output() -> None:
    """Have answers arrive whole, and progress and messages that nobody can read end no run.

    Nobody can where the disk is full, or the reader has gone away.
    """
    out, err = sys.__stdout__, sys.__stderr__
    if out is not None and sys.stdout is out:  # and not what a test has put there
        buffered = io.BufferedWriter(_PatientFile(1, "w", closefd=False))
        sys.stdout = io.TextIOWrapper(buffered, out.encoding, out.errors, line_buffering=out.line_buffering)
    if err is not None and sys.stderr is err:
        buffered = io.BufferedWriter(_ToleratingFile(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(buffered, err.encoding, err.errors, line_buffering=True)


def _run(app: typer.Typer, arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    with command.make_context(app.info.name, arguments) as context:
        command.invoke(context)
    return 0


def _report(error: BaseException, as_json: bool) -> int:
    """Print an error's message to standard error, and with --json as a document, too. Returns the exit status."""
    message, status = _message_and_status(error)
    if os.environ.get("EDGEEMU_DEBUG") == "1":
        print(printable("".join(traceback.format_exception(error))), file=sys.stderr)
    print(printable(f"edgeemu: {message}"), file=sys.stderr, flush=True)
    if as_json:
        kept = error.kept if isinstance(error, Interrupted) else {}
        document = {"error": message, "status": status, **kept}
        print(printable_json(json.dumps(document, ensure_ascii=False)), flush=True)
    return status


def _message_and_status(error: BaseException) -> tuple[str, int]:
    if isinstance(error, EdgeemuError):
        return str(error), error.exit_status
    if isinstance(error, UsageError):
        return _usage_message(error), RequestError.exit_status
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        error = Interrupted(signal.SIGINT)
    if isinstance(error, Interrupted):
        return str(error), error.status
    if isinstance(error, OSError):
        # All other files that commands write are named where they are written.
        name = error.filename or ("standard output" if error.errno == errno.ENOSPC else "")
        return f"{name}: {error.strerror}" if name else str(error), FAILED
    if isinstance(error, MemoryError):
        return NO_MORE_MEMORY, FAILED
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    kind = type(error).__name__
    return f"this is a bug: {kind}: {error} ({place}; EDGEEMU_DEBUG=1 shows the traceback)", FAILED


def _usage_message(error: Any) -> str:
    text: str = error.format_message().removesuffix(".")
    return text if error.ctx is None else f"{text} (see: {error.ctx.command_path} --help)"
