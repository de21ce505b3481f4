"""What an operation of a program asks of a device, sends, and needs room for: the blocks' costs, applied to its rows.

Joining shards costs what it physically does: a sum reads its terms and writes the result, once each, and costs a
device's fixed time per execution like any kernel. So does the norm of the connective part, but it is done in the same
pass as the sum before it, without that time. [D] Passing rows on, cutting them and putting them together costs nothing:
a network interface reads and writes them where they lie. But a device does one thing at a time: what comes while it
computes is passed on after.
"""

from edgeemu.cluster.devices import Compute
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import Costs, Work, roofline_s
from edgeemu.placement.program import Collective, MessageKind, Op, Slot

_NORM_OPERATIONS = 4  # for each value: squared, added up, scaled; LayerNorm's mean likewise
_NOTHING = Work(0.0, 0.0)


def op_work(op: Op, rows: int, past: int, costs: Costs) -> Work:
    """One execution in a step of `rows` new positions after `past` cached ones."""
    mine = op.chunk.size(rows)
    match op.kind:
        case Collective.SUM:
            terms = len(op.needs)
            mine = 1 if sends_last_row(op, costs) else mine
            return costs.rows_work(terms + 1, mine, terms - 1) if op.computes else _NOTHING
        case Collective.NORM:
            return costs.rows_work(2, mine, _NORM_OPERATIONS)
        case Collective.GATHER:
            return _NOTHING
        case Collective.ATTEND:
            return costs.attention_work(len(op.groups), rows, past)
        case Kind.HEAD if op.chunk.of > 1:
            return costs.qkv_work(len(op.groups), mine)
        case Kind.PROJ | Kind.FFN if op.groups:
            return costs.shard_work(op.kind, op.layer, op.groups, mine, past)
        case _:
            return costs.work(op.kind, len(op.groups), rows, past)


def op_s(compute: Compute, op: Op, rows: int, past: int, costs: Costs) -> float:
    """How long it takes by the roofline of a device. A whole one has the device to itself."""
    if not op.computes:
        return 0.0
    taken_s = roofline_s(compute, op_work(op, rows, past, costs))
    return taken_s if op.starts_kernel else taken_s - compute.overhead_s


def sends_last_row(op: Op, costs: Costs) -> bool:
    """Nothing but the last row goes on to the output matrix."""
    return is_last(op.emits, costs.shape.n_layers)


def is_last(slot: Slot, n_layers: int) -> bool:
    """Whether a result is x after the last layer, or a part of it."""
    last = {MessageKind.HIDDEN: n_layers, MessageKind.PARTIAL: 2 * n_layers - 1}
    return last.get(slot.stage) == slot.layer


def message_bytes(op: Op, rows: int, costs: Costs) -> int:
    """Size of what an operation sends, header included."""
    match op.emits.stage:
        case MessageKind.ATTENTION:
            return costs.attention_bytes(len(op.groups), rows)
        case MessageKind.TOKEN:
            return costs.token_bytes()
        case _ if sends_last_row(op, costs):
            return costs.activation_bytes(1)
        case _:
            return costs.chunk_bytes(op.chunk.size(rows), op.chunk.of)


def op_workspace_bytes(op: Op, rows: int, past: int, costs: Costs) -> int:
    """Arrays that one execution holds at once, at most. Of divided heads both halves are counted as the whole."""
    if isinstance(op.kind, Collective):
        kind = Kind.HEAD if op.kind is Collective.ATTEND else None
        joined = 1 if sends_last_row(op, costs) else rows
        return (
            costs.workspace_bytes(kind, len(op.groups), rows, past)
            if kind
            else costs.collective_workspace_bytes(joined)
        )
    if op.groups and op.kind is not Kind.HEAD:
        return costs.shard_workspace_bytes(op.kind, len(op.groups), rows)
    return costs.workspace_bytes(op.kind, len(op.groups), rows, past)
