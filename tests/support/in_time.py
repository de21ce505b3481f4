"""Paced runs whose figures are to be the simulator's: a host that is late changes the order of messages."""

from collections.abc import Callable

from support.watching import RecordedRun

CALM_WALL_S = 0.001  # a host that is in time is late by less
ATTEMPTS = 5


def in_time(run: Callable[[int], RecordedRun], agrees: Callable[[RecordedRun], bool], dilation: int) -> RecordedRun:
    """Return a paced run that agrees, or one that does not though the host was in time.

    `run` is given the dilation: twice as much after each run that the host has spoilt, so that it need only be half as
    quick. The last is returned however late it was.
    """
    made = run(dilation)
    for _ in range(ATTEMPTS - 1):
        if agrees(made) or max(row.late_s for row in made.ops) * dilation < CALM_WALL_S:
            break
        dilation *= 2
        made = run(dilation)
    return made
