"""Compilation of `collectives: gather`, as distributed-llama 0.1 to 0.5 divides a model. Knows no sizes, no time.

Every device has rows of every matrix, and one, the root, both ends of the model and all caches. In a layer

* each computes queries, keys and values of its groups, from x, and sends them to the root, which attends;
* the root sends the outputs of all groups to each, which computes as large a share of the projection's columns;
* the root puts these side by side, adds x, and sends the sum to each, which computes the inner columns of its units;
* the root sends each the inner columns that it lacks, and each computes its share of the result's columns;
* the root puts these side by side and adds x.

[D] Devices receive x and norm it themselves, where distributed-llama's root sends it normed, in as many bytes.
"""

from collections.abc import Mapping

from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, n_shards
from edgeemu.placement.placement import Placement, PlacementError
from edgeemu.placement.program import Collective, DraftOp, MessageKind, Slot
from edgeemu_kernels.precision import number_format
from edgeemu_kernels.shape import ModelShape

Shares = Mapping[int, tuple[int, ...]]


def check_gather(placement: Placement, shape: ModelShape) -> None:
    """Check that a placement can be compiled so.

    Raises:
        PlacementError: it does not divide every layer, or its shares are not whole columns, or blocks of messages.
    """
    if placement.owner[EMBED] != placement.owner[LM_HEAD]:
        raise PlacementError("gather needs the embedding and the output matrix on one device, and they are on two")
    block_size = number_format(shape.precision.messages).block_size
    for layer in range(shape.n_layers):
        qkv = shape.group_dim + 2 * shape.head_dim
        widths = [len(groups) * qkv for groups in placement.groups(layer, shape.n_groups).values()]
        for kind in (Kind.PROJ, Kind.FFN):
            total = n_shards(shape, kind)
            shares = placement.shares(kind, layer, total)
            if not shares:
                raise PlacementError(f"gather needs every layer divided, and {kind}({layer}) is on one device")
            if any(len(mine) * shape.d_model % total for mine in shares.values()):
                raise PlacementError(f"gather needs shares of whole columns, and those of {kind}({layer}) are not")
            widths += [len(mine) * shape.d_model // total for mine in shares.values()]
            if kind is Kind.FFN:
                widths += [len(mine) * shape.ffn_unit_dim for mine in shares.values()]
        if any(width % block_size for width in widths):
            raise PlacementError(
                f"gather sends shares of rows, and those of layer {layer} are not whole blocks of "
                f"{shape.precision.messages}"
            )


def gathered_ops(placement: Placement, shape: ModelShape) -> list[DraftOp]:
    """All operations of a step, without the receivers of their results. Raises PlacementError as `check_gather`."""
    check_gather(placement, shape)
    return _GatherCompiler(placement, shape).compiled()


class _GatherCompiler:
    def __init__(self, placement: Placement, shape: ModelShape) -> None:
        self._placement, self._shape = placement, shape
        self._root = placement.owner[EMBED]
        self._ops: list[DraftOp] = []

    def compiled(self) -> list[DraftOp]:
        root = self._root
        prompt, token = Slot(MessageKind.PROMPT, 0, -1), Slot(MessageKind.TOKEN, 0, root)
        x = self._add(Kind.EMBED, -1, root, (prompt, token), Slot(MessageKind.HIDDEN, 0, root))
        for layer in range(self._shape.n_layers):
            x = self._attention(layer, x)
            x = self._feed_forward(layer, x)
        self._add(Kind.LM_HEAD, -1, root, (x,), token)
        return self._ops

    def _add(
        self,
        kind: Kind | Collective,
        layer: int,
        device: int,
        needs: tuple[Slot, ...],
        emits: Slot,
        groups: tuple[int, ...] = (),
        parts: tuple[tuple[int, ...], ...] = (),
        columns: tuple[int, ...] = (),
    ) -> Slot:
        self._ops.append(DraftOp(kind, layer, groups, device, needs, emits, parts, columns=columns))
        return emits

    def _attention(self, layer: int, x: Slot) -> Slot:
        held, root = self._placement.groups(layer, self._shape.n_groups), self._root
        projected = tuple(
            self._add(Kind.HEAD, layer, at, (x,), Slot(MessageKind.PROJECTED, layer, at), groups)
            for at, groups in held.items()
        )
        every, output = tuple(range(self._shape.n_groups)), Slot(MessageKind.ATTENTION, layer, root)
        self._add(Collective.ATTEND, layer, root, projected, output, every, tuple(held.values()))
        shares = self._placement.shares(Kind.PROJ, layer, self._shape.n_groups)
        joined = tuple(
            self._add(Kind.PROJ, layer, at, (output,), Slot(MessageKind.COLUMNS, 2 * layer, at), mine, (), columns)
            for (at, mine), columns in zip(shares.items(), self._columns(shares), strict=True)
        )
        return self._add(Collective.JOIN, layer, root, (x, *joined), Slot(MessageKind.RESIDUAL, layer, root))

    def _feed_forward(self, layer: int, x: Slot) -> Slot:
        shares, root = self._placement.shares(Kind.FFN, layer, self._shape.ffn_units), self._root
        inner = {
            at: self._add(Kind.FFN, layer, at, (x,), Slot(MessageKind.INNER, layer, at), units)
            for at, units in shares.items()
        }
        lacking: dict[int, tuple[Slot, tuple[int, ...]]] = {}
        for at in shares:  # as there: the root first has the columns of all, then sends, and computes after that
            others = [other for other in shares if other != at]
            if at != root and others:
                units = tuple(unit for other in others for unit in shares[other])
                emits = Slot(MessageKind.LACKING, layer, root, at)
                lacking[at] = self._add(Collective.JOIN, layer, root, tuple(inner.values()), emits, units), units
        joined = []
        for at, columns in zip(shares, self._columns(shares), strict=True):
            needs, parts = tuple(inner.values()), tuple(shares.values())
            if at in lacking:
                slot, units = lacking[at]
                needs, parts = (inner[at], slot), (shares[at], units)
            emits = Slot(MessageKind.COLUMNS, 2 * layer + 1, at)
            joined.append(self._add(Kind.FFN, layer, at, needs, emits, shares[at], parts, columns))
        return self._add(Collective.JOIN, layer, root, (x, *joined), Slot(MessageKind.HIDDEN, layer + 1, root))

    def _columns(self, shares: Shares) -> list[tuple[int, int]]:
        """First and end of the columns of a result that each device computes, one after the other."""
        total, first, found = sum(map(len, shares.values())), 0, []
        for mine in shares.values():
            end = first + len(mine) * self._shape.d_model // total
            found.append((first, end))
            first = end
        return found
