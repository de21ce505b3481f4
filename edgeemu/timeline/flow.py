"""Step in flight in the simulator: which inputs its operations wait for, and what was sent for it."""

from dataclasses import dataclass, field

from edgeemu.placement.costs import Costs
from edgeemu.timeline.clock import Occupation
from edgeemu.timeline.executed import Executed
from edgeemu.timeline.steps import OperationRecord, Step
from edgeemu.timeline.traffic import Message
from edgeemu.timeline.wiring import Wiring

Turn = tuple[float, int]  # instant of an event, and its number: events at one instant are in the order of their causes


@dataclass(slots=True)
class Flow:
    """Step in flight. Operations are counted by their place in the program."""

    step: Step
    wiring: Wiring
    costs: Costs  # of this step
    missing: list[int]  # inputs that an operation waits for, which are not sent yet
    ready: list[Turn]  # arrival of the last of those that are sent
    last: list[int]  # the operation whose result that is; -1: of the controller's
    messages: list[Message]  # that were sent for the step
    left: int = 0  # operations that have not ended, of a step that ends with its last one; 0: it ends with its token
    sizes: dict[int, int] = field(default_factory=dict)  # bytes of a message, by its kind in the wiring


def record_of(flow: Flow, executed: Executed) -> OperationRecord:
    """Make the record of an operation of a step."""
    place, *time, last = executed
    ops = flow.wiring.program.ops
    return OperationRecord(ops[place], flow.step, Occupation(*time), last=None if last < 0 else ops[last])
