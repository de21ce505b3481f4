"""The blocks that a device holds and their execution: kernels, caches, the ledger. No time, no sockets, no routes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeemu.blocks import Block, Costs, Kind
from edgeemu.device.holding import Holding
from edgeemu.device.parcels import pack
from edgeemu.errors import EdgeemuError
from edgeemu.memory import CACHE, WEIGHTS, WORKSPACE, Ledger
from edgeemu.routes import Op
from edgeemu_kernels.kvcache import KVCache
from edgeemu_kernels.linear import Array
from edgeemu_kernels.sampling import Sampling, sample
from edgeemu_kernels.weights import WeightSource

Held = TypeVar("Held")


class ProtocolError(EdgeemuError):
    """A request that does not fit what the device holds."""


@dataclass(slots=True)
class OpenSequence:
    """One sequence's caches here, by layer, and how its tokens are drawn."""

    sampling: Sampling
    keep_logits: bool
    prompt_tokens: int = 0
    total_tokens: int = 0
    caches: dict[int, KVCache] = field(default_factory=dict)


class Arrived(NamedTuple):
    """A block that has come from another device: its weights, and its cache's rows (none but for heads)."""

    weights: list[Array]
    rows: Mapping[int, tuple[Array, Array]] = {}  # by open sequence, keys and values [rows, head_dim]


class Compute:
    """Loads blocks and runs operations on them. Everything it keeps is charged to the ledger first."""

    def __init__(self, source: WeightSource, ledger: Ledger) -> None:
        self.costs = Costs(source.shape)
        self.ledger = ledger
        self.last_logits: Array | None = None  # of the last lm_head execution, [vocab]
        self._held = Holding(source)
        self._ops: list[Op] = []
        self._open: dict[int, OpenSequence] = {}

    def load(self, ops: Sequence[Op]) -> None:
        """Loads the blocks of these operations.

        Raises:
            OutOfMemoryError: before anything is allocated for the block that does not fit.
            ModelFileError: a file is not what it was when the run began.
        """
        self._ops = list(ops)
        for op in ops:
            tied = self.costs.shape.tied_embeddings and self._held.embed is not None
            match op.kind:
                case Kind.HEAD:
                    need_bytes = self.costs.heads_weight_bytes(len(op.groups))
                case Kind.LM_HEAD if tied:
                    need_bytes = self.costs.norm_bytes()
                case _:
                    need_bytes = self.costs.weight_bytes(Block(op.kind, op.layer))
            self.ledger.charge(WEIGHTS, need_bytes)
            self._held.load(op.kind, op.layer, op.groups)

    def open(self, sequence: int, prompt_tokens: int, total_tokens: int, opened: OpenSequence) -> None:
        """Makes room for a sequence: its workspace now, its cache's rows as they are written.

        Raises:
            OutOfMemoryError: the workspace does not fit.
            ProtocolError: the sequence is open already.
        """
        if sequence in self._open:
            raise ProtocolError(f"sequence {sequence} is open already")
        opened.prompt_tokens, opened.total_tokens = prompt_tokens, total_tokens
        held_bytes = self.ledger.page().get(WORKSPACE, 0)
        self.ledger.charge(WORKSPACE, max(0, self._workspace_bytes(opened) - held_bytes))
        opened.caches = {layer: heads.new_cache(total_tokens) for layer, heads in self._held.heads.items()}
        self._open[sequence] = opened

    def close(self, sequence: int) -> None:
        """Frees a sequence's caches, and the workspace that no other open sequence needs."""
        for cache in self._sequence(sequence).caches.values():
            self.ledger.release(CACHE, cache.nbytes_used)
        del self._open[sequence]
        self._charge_workspace()

    def run(self, op: Op, sequence: int, step: int, position: int, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Executes an operation on its inputs, in the order of its slots: rows at `position` and following.

        Returns what the operation emits: [rows, width] float32, or the sampled id as [1] int64.
        """
        match op.kind:
            case Kind.EMBED:
                return _present(self._held.embed, op).forward(inputs[0], position)  # ids [t] -> [t, d_model]
            case Kind.HEAD:
                heads = _present(self._held.heads.get(op.layer), op)
                cache = self._sequence(sequence).caches[op.layer]
                self.ledger.charge(CACHE, len(op.groups) * self.costs.kv_bytes(len(inputs[0])))
                return heads.forward(inputs[0], position, cache)  # -> [t, groups * group_dim]
            case Kind.PROJ:
                x, *parts = inputs
                return _present(self._held.projs.get(op.layer), op).forward(
                    self._gather(op, parts), x
                )  # -> [t, d_model]
            case Kind.FFN:
                y = _present(self._held.ffns.get(op.layer), op).forward(inputs[0])  # -> [t, d_model]
                return y[-1:] if op.emits.layer == self.costs.shape.n_layers else y
            case Kind.LM_HEAD:
                opened = self._sequence(sequence)
                logits = _present(self._held.lm_head, op).forward(inputs[0][-1])  # [d_model] -> [vocab]
                self.last_logits = logits if opened.keep_logits else None
                return np.array([sample(logits, opened.sampling, step)], dtype=np.int64)

    def _gather(self, op: Op, parts: Sequence[Array]) -> Array:
        """The devices' outputs [t, groups * group_dim], put in the order of the groups: [t, n_heads * head_dim]."""
        if len(parts) == 1:
            return parts[0]
        width = self.costs.shape.group_dim
        whole = np.empty((len(parts[0]), self.costs.shape.n_groups, width), dtype=np.float32)
        for groups, part in zip(op.parts, parts, strict=True):
            whole[:, list(groups)] = part.reshape(len(part), len(groups), width)
        return whole.reshape(len(whole), -1)

    # -- migration ----------------------------------------------------------------------------------------------

    def is_open(self, sequence: int) -> bool:
        return sequence in self._open

    def export(self, block: Block, sequence: int, first_row: int, end_row: int, *, with_weights: bool) -> bytes:
        """A held block as a parcel: its weights if asked for, and these rows of a sequence's cache.

        Rows of a sequence that has ended meanwhile are zeros: they go as was planned, and nobody needs them.
        """
        weights = self._held.weights(block) if with_weights else []
        rows: tuple[Array, ...] = ()
        if block.kind is Kind.HEAD and end_row > first_row:
            if self.is_open(sequence):
                index = self._held.heads[block.layer].groups.index(block.group)
                rows = self._open[sequence].caches[block.layer].take(index, first_row, end_row)  # 2 x [rows, hd]
            else:
                rows = (np.zeros((end_row - first_row, self.costs.shape.head_dim), np.float32),) * 2
        return pack([*weights, *rows])

    def weights_from_flash(self, block: Block) -> list[Array]:
        """A block's weights from this device's own storage."""
        return self._held.from_flash(block)

    def exchange(self, ops: Sequence[Op], leaving: Sequence[Block], arriving: Mapping[Block, Arrived]) -> None:
        """Lets go of what has left and takes what has come; afterwards the device can run `ops`.

        Raises:
            OutOfMemoryError: what is then held does not fit. Receivers reserve before, so this is a broken promise.
        """
        self._ops = list(ops)
        groups = {op.layer: op.groups for op in ops if op.kind is Kind.HEAD}
        layers = sorted({block.layer for block in (*leaving, *arriving) if block.kind is Kind.HEAD})
        for sequence in self._open:
            for layer in layers:
                self._rebuild_cache(sequence, layer, groups.get(layer, ()), arriving)
        self._held.exchange(groups, leaving, {block: arrived.weights for block, arrived in arriving.items()})
        for name in (WEIGHTS, CACHE, WORKSPACE):  # all, before any is charged anew
            self.ledger.release(name)
        self.ledger.charge(WEIGHTS, self._held.weight_bytes)
        caches = (cache for opened in self._open.values() for cache in opened.caches.values())
        self.ledger.charge(CACHE, sum(cache.nbytes_used for cache in caches))
        self._charge_workspace()

    def _charge_workspace(self) -> None:
        """For the open sequence that needs most: operations run one after the other."""
        self.ledger.release(WORKSPACE)
        self.ledger.charge(WORKSPACE, max(map(self._workspace_bytes, self._open.values()), default=0))

    def _workspace_bytes(self, opened: OpenSequence) -> int:
        """What the largest of the operations here takes, for the prompt or with the longest past."""
        needs = [
            self.costs.workspace_bytes(op.kind, len(op.groups), rows, past)
            for op in self._ops
            for rows, past in ((opened.prompt_tokens, 0), (1, opened.total_tokens))
        ]
        return max(needs, default=0)

    def _rebuild_cache(
        self, sequence: int, layer: int, groups: Sequence[int], arriving: Mapping[Block, Arrived]
    ) -> None:
        """One layer's cache of a sequence for the groups that are here now: rows kept, rows come."""
        opened = self._open[sequence]
        none = np.empty((0, self.costs.shape.head_dim), np.float32)
        old = opened.caches.pop(layer, None)
        if not groups:
            return
        old_groups = self._held.heads[layer].groups if layer in self._held.heads else ()
        keys, values = [], []
        for group in groups:
            arrived = arriving.get(Block(Kind.HEAD, layer, group))
            if arrived is not None:
                k, v = arrived.rows.get(sequence, (none, none))
            else:
                assert old is not None
                k, v = old.take(old_groups.index(group))
            keys.append(k)
            values.append(v)
        cache = KVCache(len(groups), self.costs.shape.head_dim, opened.total_tokens)
        cache.append(np.stack(keys), np.stack(values))  # [groups, rows, head_dim]
        opened.caches[layer] = cache

    def _sequence(self, sequence: int) -> OpenSequence:
        if sequence not in self._open:
            raise ProtocolError(f"sequence {sequence} is not open; open are {sorted(self._open)}")
        return self._open[sequence]


def _present(block: Held | None, op: Op) -> Held:
    if block is None:
        raise ProtocolError(f"{op.kind} of layer {op.layer} is not loaded here")
    return block
