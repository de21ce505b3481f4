"""Costs of a program's operations: the costs of blocks, applied to the rows of an operation.

A sum of partial results reads its terms and writes the result, once each, and costs a device's fixed time per execution
like any kernel. The norm of the connective part is in the same pass as the sum before it, without that fixed time. [D]
Forwarding, cutting and concatenating rows costs nothing: a network interface reads and writes them where they are. But
a device does one thing at a time: rows that arrive while it computes are forwarded afterwards.
"""

from edgeemu.cluster.devices import Compute
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import Costs
from edgeemu.placement.program import GATHERED_KINDS, PARTIAL_KINDS, Collective, MessageKind, Op, Slot
from edgeemu.placement.slice_costs import SliceCosts
from edgeemu.placement.work import Work, roofline_s

NORM_OPERATIONS = 4  # per value: square, add, scale; LayerNorm's mean adds one
_NOTHING = Work(0.0, 0.0)
_HIDDEN, _PARTIAL = MessageKind.HIDDEN, MessageKind.PARTIAL


def op_work(op: Op, rows: int, past: int, costs: Costs) -> Work:
    """Work of one execution in a step of `rows` new positions after `past` cached ones."""
    mine = op.chunk.size(rows)
    match op.kind:
        case Collective.SUM:
            terms = len(op.needs)
            mine = 1 if sends_last_row(op, costs) else mine
            return costs.rows_work(terms + 1, mine, terms - 1) if op.computes else _NOTHING
        case Collective.NORM:
            return costs.rows_work(2, mine, NORM_OPERATIONS)
        case Collective.GATHER | Collective.SEND | Collective.RECEIVE:
            return _NOTHING
        case Collective.ATTEND:
            return costs.attention_work(len(op.groups), rows, past)
        case Collective.JOIN:
            return costs.rows_work(3, 1 if sends_last_row(op, costs) else rows, 1) if op.computes else _NOTHING
        case Kind.HEAD if op.chunk.of > 1 or op.emits.kind is MessageKind.PROJECTED:
            return costs.qkv_work(len(op.groups), mine, op.layer)
        case Kind.FFN if op.emits.kind is MessageKind.INNER:
            return SliceCosts(costs.shape).inner_work(op.layer, len(op.groups), rows)
        case Kind.PROJ | Kind.FFN if op.columns:
            return SliceCosts(costs.shape).outer_work(op.kind, op.layer, op.columns[1] - op.columns[0], rows)
        case Kind.PROJ | Kind.FFN if op.groups:
            return costs.shard_work(op.kind, op.layer, op.groups, mine, past)
        case _:
            return costs.work(op.kind, len(op.groups), rows, past, op.layer)


def work_key(op: Op, costs: Costs) -> tuple[object, ...]:
    """Return the key of an operation of a divided layer: all that its work in a step follows from."""
    layers = costs.shape.precision.layers
    key: tuple[object, ...] = op.kind, len(op.groups), op.chunk, layers and layers[op.layer], op.columns
    key += (op.emits.kind in GATHERED_KINDS,)
    if not isinstance(op.kind, Kind):
        key += len(op.needs), sends_last_row(op, costs), op.computes
    elif op.kind is not Kind.HEAD:
        key += (op.groups[:1] == (0,),)  # of a layer's shards, the first has the bias
    return key


def message_key(op: Op, *, last: bool) -> tuple[object, ...]:
    """Return the key of a result: all that the size of a message with it follows from in steps of as many rows.

    `last`: its layer may be the one after which only the last row is sent.
    """
    return op.emits.kind, last, len(op.groups), op.chunk, op.columns


def op_s(compute: Compute, op: Op, rows: int, past: int, costs: Costs) -> float:
    """Duration of an operation by the roofline of a device without other load."""
    if not op.computes:
        return message_s(compute, op, rows, costs) if op.moves_message else 0.0
    taken_s = roofline_s(compute, op_work(op, rows, past, costs))
    return taken_s if op.starts_kernel else taken_s - compute.overhead_s


def message_s(compute: Compute, op: Op, rows: int, costs: Costs) -> float:
    """Time that a message keeps a processor busy that sends it or takes it in: LogGP's overhead, and one per byte."""
    return compute.message_s + compute.byte_s * message_bytes(op, rows, costs)


def sends_last_row(op: Op, costs: Costs) -> bool:
    """Whether an operation sends only the last row, to the output matrix."""
    return is_last(op.emits, costs.shape.n_layers)


def is_last(slot: Slot, n_layers: int) -> bool:
    """Whether a result is x after the last layer, or a part of it."""
    if slot.kind is _HIDDEN:
        return slot.layer == n_layers
    return slot.kind is _PARTIAL and slot.layer == 2 * n_layers - 1


def message_bytes(op: Op, rows: int, costs: Costs) -> int:
    """Bytes of the message with an operation's result, header included."""
    if op.emits.kind in GATHERED_KINDS:
        return SliceCosts(costs.shape).message_bytes(_width(op, costs), rows)
    last = sends_last_row(op, costs)
    match op.emits.kind:
        case MessageKind.ATTENTION:
            return costs.attention_bytes(len(op.groups), rows)
        case MessageKind.TOKEN:
            return costs.token_bytes()
        case kind if kind in PARTIAL_KINDS:
            return costs.chunk_bytes(1, 1) if last else costs.chunk_bytes(op.chunk.size(rows), op.chunk.of)
        case _:
            return costs.activation_bytes(1) if last else costs.activation_bytes(op.chunk.size(rows), op.chunk.of)


def _width(op: Op, costs: Costs) -> int:
    """Columns of a result that is gathered."""
    if op.columns:
        return op.columns[1] - op.columns[0]
    slices, number = SliceCosts(costs.shape), len(op.groups)
    return slices.projected_width(number) if op.emits.kind is MessageKind.PROJECTED else slices.inner_width(number)


def op_workspace_bytes(op: Op, rows: int, past: int, costs: Costs) -> int:
    """Peak of the arrays of one execution. Both halves of heads of a ring count as the undivided operation."""
    if op.moves_message:
        return 0
    if op.emits.kind in GATHERED_KINDS or (op.kind is Collective.ATTEND and op.parts):
        return _gathered_workspace_bytes(op, rows, past, SliceCosts(costs.shape))
    if op.kind is Collective.JOIN:
        return costs.collective_workspace_bytes(rows)  # all rows arrive, also where only the last goes on
    if op.forwards:
        return 0
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


def _gathered_workspace_bytes(op: Op, rows: int, past: int, slices: SliceCosts) -> int:
    match op.kind:
        case Collective.ATTEND:
            return slices.attend_workspace_bytes(rows, past)
        case Collective.JOIN:
            return slices.lacking_workspace_bytes(rows)
        case Kind.HEAD:
            return slices.projected_workspace_bytes(len(op.groups), rows)
        case Kind.PROJ | Kind.FFN if op.columns:
            return slices.outer_workspace_bytes(op.kind, rows)
        case _:
            return slices.inner_workspace_bytes(len(op.groups), rows)
