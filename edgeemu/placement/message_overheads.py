"""Time that messages keep processors busy, as operations of a program: LogGP's overhead. Knows no sizes, no time.

LogGP (Alexandrov et al., SPAA 1995; LogP: Culler et al., PPoPP 1993) gives each message an overhead `o` at the
processor of its sender and again at that of its receiver; the wire comes between. So a device whose messages have an
overhead runs an operation `SEND` for each receiver of a result, which departs at its end, and an operation `RECEIVE`
for each message that arrives. They wait in the device's queue like any other, except that results are sent before the
device goes on with their step, and no other work is done meanwhile. The token on its way from the output matrix to the
embedding is such a message, too: it belongs to the step that it releases.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace

from edgeemu.placement.program import Collective, Op, Program, Slot


def with_message_overheads(program: Program, devices: Collection[int]) -> Program:
    """Add what messages cost the processors of these devices; without devices, return the same program."""
    if not devices:
        return program
    ops = [made for op in program.ops for made in _with_overheads(op, devices)]
    return replace(program, ops=tuple(replace(op, index=index) for index, op in enumerate(ops)))


def _with_overheads(op: Op, devices: Collection[int]) -> Iterator[Op]:
    """An operation, with what sends its result after it, and what takes that in."""
    needs = tuple(slot._replace(taken_in=True) if _is_taken_in(slot, op.device, devices) else slot for slot in op.needs)
    others = [target for target in op.to if target != op.device]
    sends = op.device in devices and bool(others)
    yield replace(op, needs=needs, to=(op.device,) if sends else op.to)
    for target in others:
        if sends:
            yield _moving(Collective.SEND, op, op.device, op.emits, target)
        if target in devices:
            yield _moving(Collective.RECEIVE, op, target, op.emits._replace(taken_in=True), target)


def _is_taken_in(slot: Slot, device: int, devices: Collection[int]) -> bool:
    """Whether an input of a device is a message that costs its processor time."""
    return device in devices and slot.source not in (-1, device)  # -1: the controller


def _moving(kind: Collective, op: Op, device: int, emits: Slot, target: int) -> Op:
    """The operation that sends a result, or takes it in; it says of what shape the result is."""
    return replace(op, kind=kind, device=device, needs=(op.emits,), emits=emits, to=(target,), parts=())
