"""Entry point of the command `edgeemu` and of `python -m edgeemu`: signals first, then everything else."""

import gc
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """Run the command of `sys.argv`. Ctrl-C while it is imported, too, is a message and an exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and background jobs set it
            signal.signal(number, _leave)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited as ignored, it would leave no exit status of processes
    gc.disable()  # modules make no garbage, but many objects
    from edgeemu.cli.app import main as run_command

    gc.freeze()
    gc.enable()
    status: object = 1
    try:
        run_command()
    except SystemExit as leaving:
        status = leaving.code
    # Not by way of the interpreter's end: it waits for threads of a user's policy, and Ctrl-C there is a traceback.
    os._exit(status if isinstance(status, int) else 1)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """End the process at once, with a message: nothing has been started that would have to be cleaned up."""
    why, status = f"ended by {signal.Signals(number).name}", 128 + number
    with suppress(OSError):
        os.write(2, f"edgeemu: {why}\n".encode())
        if "--json" in sys.argv:
            os.write(1, f'{{"error": "{why}", "status": {status}}}\n'.encode())
    os._exit(status)


if __name__ == "__main__":
    main()
