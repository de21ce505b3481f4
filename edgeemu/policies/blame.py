"""Blame: which line of a user's code an exception comes from, in words. Pure; trusts nothing of the exception."""

import traceback

LONGEST = 4000  # characters of a message: one of ours can list 25 devices


def blame(error: BaseException, home: str, shown: str = "") -> str:
    """Describe an exception as `mine.py:12: KeyError: 'lost'`, by the last line of the user's code on its way.

    `home` is the user's file, or the directory of a package; `shown` is the name of the file for readers.
    """
    kind, told = type(error).__name__, message(error)
    place = _place(error, home)
    where = f"{shown or place[0]}:{place[1]}: " if place else ""
    return f"{where}{kind}: {told}" if told else f"{where}{kind}"


def message(error: BaseException) -> str:
    """Return the message of an exception, however it was written, with an end."""
    try:
        told = str(error.msg if isinstance(error, SyntaxError) else error)
    except BaseException as worse:  # noqa: BLE001 - a user's __str__ can raise anything
        return f"(its message cannot be read: {type(worse).__name__})"
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}…"


def is_home(file: str, home: str) -> bool:
    """Return whether a file is the user's, or is inside the package."""
    return bool(home) and (file == home or file.startswith(f"{home}/"))


def _place(error: BaseException, home: str) -> tuple[str, int] | None:
    """Return file and line of the last call in the user's code, or of its syntax error; None: it was not there."""
    if isinstance(error, SyntaxError) and error.filename and is_home(error.filename, home):
        return error.filename, error.lineno or 1
    found = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    return next(((file, line) for file, line in reversed(found) if is_home(file, home)), None)
