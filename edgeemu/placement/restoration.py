"""Programs that only fill caches, after a device was lost. Pure; no sizes, no time."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from edgeemu.placement.blocks import Kind
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import MessageKind, Op, Program, Slot


def layers_to_restore(placement: Placement, lost: Iterable[int]) -> int:
    """Number of layers, from the first on, through which rows have to go so that all caches are there again.

    Heads that lost devices had can be filled only with what all layers below compute. 0: no cache was lost.
    """
    gone = frozenset(lost)
    layers = (block.layer for block, device in placement.owner.items() if block.kind is Kind.HEAD and device in gone)
    return 1 + max(layers, default=-1)


def restoring(program: Program, layers: int) -> Program:
    """Return the part of a program that fills the caches of the first `layers` layers: no more than that needs.

    Its steps have numbers below 0, which enter at the embedding. It emits no token, and has no result.
    """
    senders: dict[tuple[int, Slot], list[Op]] = defaultdict(list)
    for op in program.ops:
        for target in op.to:
            senders[target, op.emits].append(op)
    wanted = {op.index: op for op in program.ops if _fills_cache(op) and op.layer < layers}
    todo = list(wanted.values())
    while todo:
        op = todo.pop()
        for slot in op.inputs(-1):
            for sender in senders[op.device, slot]:
                if sender.steps == op.steps and sender.index not in wanted:
                    wanted[sender.index] = sender
                    todo.append(sender)
    kept = [wanted[index] for index in sorted(wanted)]
    needed = {(op.device, slot, op.steps) for op in kept for slot in op.inputs(-1)}
    ops = tuple(
        replace(op, index=index, to=tuple(target for target in op.to if (target, op.emits, op.steps) in needed))
        for index, op in enumerate(kept)
    )
    return Program(ops, program.embed_device, program.lm_head_device)


def _fills_cache(op: Op) -> bool:
    return op.emits.kind is MessageKind.ATTENTION and op.computes
