"""A placement compiled to operations and the messages between them. Knows who needs what; no sizes, no time, no data.

The same program drives the devices and the simulator, so both execute the same dataflow.
"""

from collections import defaultdict
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

from edgeemu.blocks import EMBED, LM_HEAD, Kind, ffn, proj
from edgeemu.placement import Placement
from edgeemu_kernels.shape import ModelShape


class Stage(IntEnum):
    """What a message carries. `layer` beside it says where in the model."""

    PROMPT = 0  # ids from the controller to the embedding: how a sequence enters
    TOKEN = 1  # the sampled id, from the output matrix back to the embedding
    HIDDEN = 2  # x into layer l, to its groups and its projection; l = n_layers is the output matrix
    ATTENTION = 3  # the outputs of one device's groups of layer l, to the projection
    RESIDUAL = 4  # x after attention of layer l, to the feed-forward block
    PARCEL = 5  # a chunk of a block that migrates
    PROBE = 6  # nothing: the links are being measured


class Slot(NamedTuple):
    """One input of an operation: what it is and which device sends it (-1: the controller)."""

    stage: Stage
    layer: int
    source: int


@dataclass(frozen=True, slots=True)
class Op:
    """One block, or the fused groups of one layer, on one device. `index` is its place in the program."""

    index: int
    kind: Kind
    layer: int
    groups: tuple[int, ...]
    device: int
    needs: tuple[Slot, ...]
    emits: Slot
    to: tuple[int, ...]  # devices that need the result, this one included if it does
    parts: tuple[tuple[int, ...], ...] = ()  # a projection's: the groups in each of its ATTENTION inputs

    def inputs(self, step: int) -> tuple[Slot, ...]:
        """What must have arrived before `step` can run: a sequence's first step has a prompt, later ones a token."""
        if self.kind is Kind.EMBED:
            return self.needs[:1] if step == 0 else self.needs[1:]
        return self.needs


@dataclass(frozen=True)
class Program:
    """A placement's operations in model order, and what each device has of them."""

    ops: tuple[Op, ...]
    embed_device: int
    lm_head_device: int

    def on(self, device: int) -> list[Op]:
        return [op for op in self.ops if op.device == device]

    @cached_property
    def consumers(self) -> dict[tuple[int, Slot], list[Op]]:
        """(device, slot) -> the operations there that wait for it."""
        waiting: dict[tuple[int, Slot], list[Op]] = defaultdict(list)
        for op in self.ops:
            for slot in op.needs:
                waiting[op.device, slot].append(op)
        return waiting


def compile_routes(placement: Placement, shape: ModelShape) -> Program:
    """The dataflow of one step under `placement`.

    Destinations are in ascending device order: the order in which a sender's messages queue at its interface.
    """
    owner = placement.owner
    last = shape.n_layers
    embed_device, lm_head_device = owner[EMBED], owner[LM_HEAD]
    groups = [placement.groups(layer, shape.n_groups) for layer in range(last)]

    def hidden_to(layer: int) -> tuple[int, ...]:
        if layer == last:
            return (lm_head_device,)
        return tuple(sorted({*groups[layer], owner[proj(layer)]}))

    ops: list[Op] = []

    def add(
        kind: Kind,
        layer: int,
        device: int,
        needs: tuple[Slot, ...],
        emits: Slot,
        to: tuple[int, ...],
        groups: tuple[int, ...] = (),
        parts: tuple[tuple[int, ...], ...] = (),
    ) -> Slot:
        ops.append(Op(len(ops), kind, layer, groups, device, needs, emits, to, parts))
        return emits

    prompt = Slot(Stage.PROMPT, 0, -1)
    token = Slot(Stage.TOKEN, 0, lm_head_device)
    hidden = Slot(Stage.HIDDEN, 0, embed_device)
    add(Kind.EMBED, -1, embed_device, (prompt, token), hidden, hidden_to(0))
    for layer, held in enumerate(groups):
        proj_device, ffn_device = owner[proj(layer)], owner[ffn(layer)]
        outputs = tuple(
            add(
                Kind.HEAD,
                layer,
                at,
                (hidden,),
                Slot(Stage.ATTENTION, layer, at),
                (proj_device,),
                groups=held[at],
            )
            for at in held
        )
        residual = Slot(Stage.RESIDUAL, layer, proj_device)
        parts = tuple(held.values())
        add(Kind.PROJ, layer, proj_device, (hidden, *outputs), residual, (ffn_device,), parts=parts)
        hidden = Slot(Stage.HIDDEN, layer + 1, ffn_device)
        add(Kind.FFN, layer, ffn_device, (residual,), hidden, hidden_to(layer + 1))
    add(Kind.LM_HEAD, -1, lm_head_device, (hidden,), token, (embed_device,))
    return Program(tuple(ops), embed_device, lm_head_device)
