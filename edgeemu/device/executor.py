"""Execution of operations on the blocks that a device holds, charged to its ledger. No time and no sockets."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeemu.device.handed_on import Received, rounded_kinds
from edgeemu.device.held_blocks import HeldBlocks
from edgeemu.device.put_together import (
    added,
    added_on_grid,
    columns_joined,
    columns_joined_on_grid,
    gather_some,
    last_or_all,
    normed,
    one_after_another,
    side_by_side,
)
from edgeemu.device.sequences import ArrivedBlock, NotHeldError, OpenSequences, SequenceState
from edgeemu.placement.blocks import Block, Kind
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.ledger import CACHE, WEIGHTS, WORKSPACE, Ledger
from edgeemu.placement.operation_costs import is_last, op_workspace_bytes
from edgeemu.placement.program import Collective, MessageKind, Op, held_parts
from edgeemu.placement.slice_costs import SliceCosts
from edgeemu_kernels.attention import Attention, Heads
from edgeemu_kernels.dense import LmHead, Proj
from edgeemu_kernels.linear import Array
from edgeemu_kernels.norms import standardised
from edgeemu_kernels.packed import Stored, encode_rows
from edgeemu_kernels.precision import number_format
from edgeemu_kernels.sampling import sample
from edgeemu_kernels.weights.sources import WeightSource

Held = TypeVar("Held")
Execution = Callable[[Sequence[NDArray[Any]], int, int, int], NDArray[Any]]
"""Executes an operation on its inputs, for a sequence, a step, and rows at a position."""

_NORMED = MessageKind.NORMED
_PROJECTED = (MessageKind.QKV, MessageKind.PROJECTED)


class Executor:
    """Loads blocks, runs operations on them, and exchanges them. All that is kept is charged to the ledger first."""

    def __init__(self, source: WeightSource, ledger: Ledger) -> None:
        self.costs = PhysicalCosts(source.shape)
        self._slices = SliceCosts(source.shape)
        self.ledger = ledger
        self.last_logits: Array | None = None  # of the last lm_head execution, [vocab]
        self._held = HeldBlocks(source)
        self._ops: list[Op] = []
        self._filling: tuple[int, int] | None = None  # rows and past of steps that fill caches, while they run
        self._sequences = OpenSequences(source.shape)
        # By the operation's index; with it, whether its inputs and its result are not decoded and encoded.
        self._prepared: dict[int, tuple[Op, Execution, bool]] = {}
        precision = source.shape.precision
        self._messages = None if precision.messages == "f32" else number_format(precision.messages)
        self._rounded = rounded_kinds(precision)

    def load(self, ops: Sequence[Op]) -> None:
        """Loads the blocks of these operations.

        Raises:
            OutOfMemoryError: before anything is allocated for the block that does not fit.
            ModelFileError: a file is not what it was when the run began.
        """
        self._ops = list(ops)
        self._prepared.clear()
        columns = {(op.kind, op.layer): op.columns for op in ops if op.columns}
        for (kind, layer), groups in held_parts(ops).items():
            tied = self.costs.shape.tied_embeddings and self._held.embed is not None
            if kind is Kind.LM_HEAD and tied:
                need_bytes = self.costs.norm_bytes()
            elif (kind, layer) in columns:
                need_bytes = self._slices.weight_bytes(kind, layer, len(groups))
            else:
                need_bytes = self.costs.fused_weight_bytes(kind, layer, groups)
            self.ledger.charge(WEIGHTS, need_bytes)
            self._held.load(kind, layer, groups, columns.get((kind, layer), ()))

    def open(self, sequence: int, prompt_tokens: int, total_tokens: int, opened: SequenceState) -> None:
        """Opens a sequence: its workspace is charged now, its cache's rows as they are written.

        Raises:
            OutOfMemoryError: the workspace does not fit.
            NotHeldError: the sequence is open already.
        """
        if sequence in self._sequences:
            raise NotHeldError(f"sequence {sequence} is open already")
        opened.prompt_tokens, opened.total_tokens = prompt_tokens, total_tokens
        held_bytes = self.ledger.page().get(WORKSPACE, 0)
        self.ledger.charge(WORKSPACE, max(0, self._workspace_bytes(opened) - held_bytes))
        attending = {
            op.layer: len(op.groups) for op in self._ops if op.emits.kind is MessageKind.ATTENTION and op.computes
        }
        self._sequences.open(sequence, opened, attending)

    def close(self, sequence: int) -> None:
        """Frees a sequence's caches, and the workspace that no other open sequence needs."""
        self.ledger.release(CACHE, self._sequences.close(sequence))
        self._charge_workspace()

    def run(self, op: Op, sequence: int, step: int, position: int, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Executes an operation on its inputs, in the order of its slots: rows at `position` and following.

        Returns what the operation emits: [rows, width] float32, or [rows, row_bytes] in the format of messages, or the
        sampled id as [1] int64. Raises LogitsError where the logits are not finite.
        """
        prepared = self._prepared.get(op.index)
        if prepared is None or prepared[0] is not op:
            prepared = self._prepared[op.index] = op, self._prepare(op), self._messages is None or op.forwards
        _, execute, as_they_are = prepared
        if as_they_are:
            return execute(inputs, sequence, step, position)
        assert self._messages is not None
        result = execute(Received(inputs, self._messages), sequence, step, position)
        return encode_rows(result, self._messages) if op.emits.kind in self._rounded else result

    def _prepare(self, op: Op) -> Execution:
        """Make the call that executes an operation on the blocks that are held now."""
        shape, last = self.costs.shape, is_last(op.emits, self.costs.shape.n_layers)
        sums_exactly = shape.precision.order_free and not op.forwards
        match op.kind:
            case Kind.EMBED:
                embed = _present(self._held.embed, op)
                return lambda inputs, _, __, position: embed.forward(inputs[0], position)  # ids [t] -> [t, d_model]
            case Kind.HEAD:
                return self._prepare_heads(op, _present(self._held.heads.get(op.layer), op))
            case Collective.ATTEND:
                attention = self._held.attention(op)
                attend, put = self._prepare_attend(op, attention), attention.merged if op.parts else one_after_another
                return lambda inputs, *where: attend(put(op.parts, inputs), *where)
            case Collective.JOIN:
                join = columns_joined_on_grid if sums_exactly else columns_joined
                return lambda inputs, *_: join(op, inputs, last=last)  # -> [t, d_model], or columns
            case Kind.PROJ if op.columns:
                proj = self._proj(op)
                project = proj.partial if self._messages is None else proj.product
                return lambda inputs, *_: project(inputs[0])  # -> [t, columns]
            case Kind.PROJ if op.groups:
                proj = self._proj(op)  # -> [t, d_model], or of a chunk
                return lambda inputs, *_: last_or_all(proj.partial(gather_some(op, inputs)), last=last)
            case Kind.PROJ:
                proj = self._proj(op)
                n_groups = shape.n_groups  # -> [t, d_model]
                return lambda inputs, *_: proj.forward(side_by_side(op, inputs[1:], n_groups), inputs[0])
            case Kind.FFN:
                ffn = _present(self._held.ffns.get(op.layer), op).at(shape)
                if op.columns:  # -> [t, columns]
                    multiply = ffn.outer_partial if self._messages is None else ffn.outer
                    return lambda inputs, *_: multiply(side_by_side(op, inputs, shape.ffn_units))
                if op.emits.kind is MessageKind.INNER:
                    return lambda inputs, *_: ffn.inner(ffn.norm.forward(inputs[0]))  # -> [t, inner columns]
                if op.groups:  # -> [t, d_model], or of a chunk
                    return lambda inputs, *_: last_or_all(ffn.partial(normed(op, inputs, ffn.norm)), last=last)
                return lambda inputs, *_: last_or_all(ffn.forward(inputs[0]), last=last)  # -> [t, d_model]
            case Collective.SUM:
                add = added_on_grid if sums_exactly else added
                return lambda inputs, *_: add(op, inputs, last=last)  # -> [t, d_model], or of a chunk
            case Collective.NORM:
                return lambda inputs, *_: standardised(inputs[0], shape.norm, shape.norm_eps)  # [chunk, d_model]
            case Collective.SEND | Collective.RECEIVE:
                return lambda inputs, *_: inputs[0]
            case Collective.GATHER:
                return lambda inputs, *_: np.concatenate(inputs)  # chunks -> [t, d_model]
            case Kind.LM_HEAD:
                return self._prepare_sampling(_present(self._held.lm_head, op))

    def _proj(self, op: Op) -> Proj:
        return _present(self._held.projs.get(op.layer), op).at(self.costs.shape)

    def _prepare_heads(self, op: Op, heads: Heads) -> Execution:
        if op.emits.kind in _PROJECTED:  # -> [chunk, groups * (group_size + 2) * head_dim]
            return lambda inputs, *_: heads.project(normed(op, inputs, heads.norm))
        attend = self._prepare_attend(op, heads)
        if op.chunk.of == 1 and op.needs[0].kind is not _NORMED:  # all rows of x: the usual case
            norm, project = heads.norm.forward, heads.project
            return lambda inputs, *where: attend(project(norm(inputs[0])), *where)

        def execute(inputs: Sequence[Array], sequence: int, step: int, position: int) -> Array:
            return attend(heads.project(normed(op, inputs, heads.norm)), sequence, step, position)

        return execute

    def _prepare_attend(self, op: Op, attention: Attention) -> Callable[[Array, int, int, int], Array]:
        """[t, groups * (group_size + 2) * head_dim], sequence, step, position -> [t, groups * group_dim]"""
        row_bytes = len(op.groups) * self.costs.kv_bytes(1)

        def attend(qkv: Array, sequence: int, step: int, position: int) -> Array:
            cache = self._sequences[sequence].caches[op.layer]
            self.ledger.charge_step((sequence, step), CACHE, len(qkv) * row_bytes)
            return attention.attend(qkv, position, cache)

        return attend

    def _prepare_sampling(self, lm_head: LmHead) -> Execution:
        def execute(inputs: Sequence[Array], sequence: int, step: int, _: int) -> NDArray[Any]:
            opened = self._sequences[sequence]
            logits = lm_head.forward(inputs[0][-1])  # [d_model] -> [vocab]
            self.last_logits = logits if opened.keep_logits else None
            return np.array([sample(logits, opened.sampling, step)], dtype=np.int64)

        return execute

    # -- migration ----------------------------------------------------------------------------------------------

    def is_open(self, sequence: int) -> bool:
        return sequence in self._sequences

    def export(
        self,
        block: Block,
        sequence: int,
        first_row: int,
        end_row: int,
        *,
        with_weights: bool,
        ends_meet: bool = False,
    ) -> list[Stored]:
        """Arrays of a held block for a shipment: its weights if asked for, then these rows of a sequence's cache.

        `ends_meet`: as in `Move`.
        """
        weights = self._held.weights(block, ends_meet=ends_meet) if with_weights else []
        if block.kind is not Kind.HEAD or end_row == first_row:
            return weights
        index = self._held.heads[block.layer].groups.index(block.group)
        return [*weights, *self._sequences.rows(sequence, block.layer, index, first_row, end_row)]

    def holds(self, block: Block) -> bool:
        return self._held.holds(block)

    def weights_from_flash(self, block: Block, *, ends_meet: bool) -> list[Stored]:
        """Weights of a block from this device's own storage. `ends_meet`: as in `Move`."""
        return self._held.from_flash(block, ends_meet=ends_meet)

    def rewind(self, rows: Mapping[int, int], layers: int, kept: Mapping[int, int]) -> None:
        """Shortens caches, by sequence: those of the first `layers` layers to `rows`, others to `kept`."""
        self.ledger.release(CACHE, self._sequences.shorten(rows, layers, kept))

    def exchange(self, ops: Sequence[Op], arriving: dict[Block, ArrivedBlock]) -> None:
        """Installs the blocks that arrive, and frees what these operations do not need; then the device can run them.

        `arriving` is emptied meanwhile, so that little is in memory twice.

        Raises:
            OutOfMemoryError: what is then held does not fit. Receivers have reserved it, so this is an error of ours.
        """
        self._ops = list(ops)
        self._prepared.clear()
        before, parts = self._held.parts, held_parts(ops)
        for kind, layer in sorted(before.keys() | parts.keys()):
            old, new = before.get((kind, layer), ()), parts.get((kind, layer), ())
            if kind is Kind.HEAD and old != new:
                self._sequences.regroup(layer, old, new, arriving)
        self._held.exchange(parts, {block: arriving.pop(block).weights for block in list(arriving)})
        for name in (WEIGHTS, CACHE, WORKSPACE):  # all, before any is charged again
            self.ledger.release(name)
        self.ledger.charge(WEIGHTS, self._held.weight_bytes)
        self.ledger.charge(CACHE, self._sequences.cache_bytes)
        self._charge_workspace()

    def charge_filling(self, rows: int, past: int) -> None:
        """Charges the workspace of steps that fill caches, of so many rows after others; none: they are over.

        Raises:
            OutOfMemoryError: it does not fit.
        """
        self._filling = (rows, past) if rows else None
        self._charge_workspace()

    def _charge_workspace(self) -> None:
        """Charges the workspace of the open sequence that needs most: operations run one after the other."""
        self.ledger.release(WORKSPACE)
        self.ledger.charge(WORKSPACE, max(map(self._workspace_bytes, self._sequences), default=0))

    def _workspace_bytes(self, opened: SequenceState) -> int:
        """Workspace of the largest operation, for the prompt, with the longest past, or to fill caches."""
        filling = () if self._filling is None else (self._filling,)
        needs = [
            op_workspace_bytes(op, rows, past, self.costs)
            for op in self._ops
            for rows, past in ((opened.prompt_tokens, 0), (1, opened.total_tokens), *filling)
        ]
        return max(needs, default=0)


def _present(block: Held | None, op: Op) -> Held:
    if block is None:
        raise NotHeldError(f"{op.kind} of layer {op.layer} is not loaded here")
    return block
