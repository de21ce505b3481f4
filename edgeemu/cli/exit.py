"""Ends of a command: by itself, by a signal, with an error. Knows signals, messages and exit statuses; no commands."""

import json
import os
import signal
import sys
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer

from edgeemu.errors import EdgeemuError, Interrupted, RequestError
from edgeemu.report.printable import printable, printable_json

ResultT = TypeVar("ResultT")

# Typer makes only this child of Click's UsageError public, and newer versions carry their own copy of Click.
UsageError: Any = typer.BadParameter.__bases__[0]

FAILED = 4


def until_signal(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine to its end or to a signal, which cancels it; the coroutine then cleans up after itself.

    A second signal leaves at once. Nothing is left running then either: the fork server ends with this process.
    """
    import asyncio

    import uvloop

    caught: list[int] = []

    async def main() -> ResultT:
        task = asyncio.ensure_future(coroutine)

        def on_signal(number: int) -> None:
            if caught:
                os._exit(128 + number)
            caught.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and background jobs set it
                asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
        return await task

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())
    except BaseException as error:
        if caught:
            raise Interrupted(caught[0]) from error
        raise


def call(app: typer.Typer, arguments: list[str]) -> NoReturn:
    """Run a command and leave: one message for an error, and the exit status that the help describes."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a locale that cannot print "–" is no error
    try:
        try:
            status = _run(app, arguments)
            sys.stdout.flush()
        except typer.Exit as leaving:
            status = leaving.exit_code
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except BaseException as error:  # noqa: BLE001 - here everything becomes a message and a status
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
        print(printable_json(json.dumps({"error": message, "status": status}, ensure_ascii=False)), flush=True)
    return status


def _message_and_status(error: BaseException) -> tuple[str, int]:
    if isinstance(error, EdgeemuError):
        return str(error), error.exit_status
    if isinstance(error, UsageError):
        return _usage_message(error), RequestError.exit_status
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return str(Interrupted(signal.SIGINT)), 128 + signal.SIGINT
    if isinstance(error, Interrupted):
        return str(error), error.status
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error), FAILED
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    kind = type(error).__name__
    return f"this is a bug: {kind}: {error} ({place}; EDGEEMU_DEBUG=1 shows the traceback)", FAILED


def _usage_message(error: Any) -> str:
    text: str = error.format_message().removesuffix(".")
    return text if error.ctx is None else f"{text} (see: {error.ctx.command_path} --help)"
