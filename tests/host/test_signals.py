"""Signals that end a command do so, wherever they arrive."""

import os
import signal

import pytest

from edgeemu.errors import Interrupted
from edgeemu.host.signals import interrupted_at_once


class _Ending:
    """Gets a signal when nobody refers to it any more; Python drops what a handler raises then."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_interrupts_a_block(number: int, status: int) -> None:
    before, reached = signal.getsignal(number), list[int]()

    def block() -> None:
        with interrupted_at_once():
            os.kill(os.getpid(), number)
            reached.append(number)

    with pytest.raises(Interrupted) as ended:
        block()
    assert ended.value.status == status
    assert not reached
    assert signal.getsignal(number) is before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fails", [False, True])
def test_a_signal_whose_exception_python_drops_ends_the_command_after_the_block(fails: bool) -> None:
    reached = list[bool]()

    def block() -> None:
        with interrupted_at_once():
            ending = _Ending()
            del ending
            reached.append(True)
            if fails:
                raise ValueError("no answer")

    with pytest.raises(Interrupted) as ended:
        block()
    assert ended.value.status == 143
    assert reached, "the exception of the handler was dropped"


def test_a_block_without_signals_goes_on() -> None:
    with interrupted_at_once():
        pass
    with pytest.raises(ValueError, match="as it is"), interrupted_at_once():
        raise ValueError("as it is")
