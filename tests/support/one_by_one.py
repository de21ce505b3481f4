"""Virtual time whose devices run one step after the other, to compare with."""

from typing import Any

from edgeemu.run.processes.virtual_time import VirtualTime


class OneByOne(VirtualTime):
    """Time that awaits each step before the next one begins."""

    def __init__(self, *given: Any, one_by_one: bool) -> None:
        del one_by_one
        super().__init__(*given, one_by_one=True)
