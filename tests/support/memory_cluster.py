"""Devices joined in memory: real blocks, ledgers and routes, and messages as frames; no process, no socket, no time.

What is under way is delivered in an order that a seed chooses: a cluster may not depend on it.
"""

import random
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.device.dataflow import Dataflow, Input, ReadyOp, StepKey
from edgeemu.device.executor import Executor
from edgeemu.device.sequences import SequenceState
from edgeemu.links import messages
from edgeemu.placement.blocks import Kind
from edgeemu.placement.compile import CollectiveAlgorithm, compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.ledger import MESSAGES, Ledger
from edgeemu.placement.memory import usages
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import MessageKind, Op, Slot
from edgeemu_kernels.sampling import GREEDY, Sampling
from edgeemu_kernels.weights.sources import WeightSource

EPOCH = 3


class Sent(NamedTuple):
    """A message between two devices, as it was sent: by which operation, with how many new rows, how large."""

    op: Op
    rows: int
    size_bytes: int


@dataclass
class Device:
    compute: Executor
    ledger: Ledger
    dataflow: Dataflow = field(default_factory=Dataflow)


class Generated(NamedTuple):
    tokens: list[int]
    logits: list[NDArray[np.float32]]  # of every step, [vocab]


class MemoryCluster:
    """Every device has as much memory as was planned for it, and not a byte more."""

    def __init__(
        self,
        source: WeightSource,
        placement: Placement,
        n_devices: int,
        prompt_tokens: int,
        total_tokens: int,
        *,
        collective: CollectiveAlgorithm = "ring",
        tile_rows: int | None = None,
    ) -> None:
        self.program = compile_routes(placement, source.shape, collective, tile_rows=tile_rows)
        ways = {"star": collective in ("star", "relay"), "gather": collective == "gather"}
        held = usages(placement, PhysicalCosts(source.shape), n_devices, prompt_tokens, total_tokens, **ways)
        self.pages = [usage.page() for usage in held]
        self.devices = []
        self.sent: list[Sent] = []
        self._messages: list[tuple[int, list[bytes]]] = []
        for index, page in enumerate(self.pages):
            ledger = Ledger(f"d{index}", page.total_bytes)
            device = Device(Executor(source, ledger), ledger)
            device.compute.load(self.program.on(index))
            device.dataflow.install(EPOCH, self.program.on(index))
            self.devices.append(device)

    def generate(
        self, ids: list[int], new_tokens: int, *, sequence: int = 0, sampling: Sampling = GREEDY, order: int = 0
    ) -> Generated:
        """A whole sequence; `order` seeds the order of delivery."""
        chance = random.Random(order)
        made = Generated([], [])
        for device in self.devices:
            device.compute.open(sequence, len(ids), len(ids) + new_tokens, SequenceState(sampling, keep_logits=True))
        payload, position = np.asarray(ids, dtype=np.int64), 0  # [rows]
        for step in range(new_tokens):
            key = StepKey(sequence, step)
            if step == 0:
                embed = self.program.embed_device
                self.devices[embed].ledger.charge(MESSAGES, payload.nbytes)
                prompt = Input(0.0, position, payload, rows=len(ids))
                self._deliver(embed, key, Slot(MessageKind.PROMPT, 0, -1), prompt, made)
            else:
                self._send(self.program.ops[-1], key, position, payload, 1, made)
            while self._messages:
                target, frames = self._messages.pop(chance.randrange(len(self._messages)))
                message = messages.decode_data(frames)
                self.devices[target].ledger.charge(MESSAGES, message.payload.nbytes)
                slot = Slot(message.kind, message.layer, message.source, message.part)
                arrived = Input(0.0, message.position, message.payload, rows=message.step_rows)
                self._deliver(target, key, slot, arrived, made)
            position += len(payload)
            payload = np.array(made.tokens[-1:], dtype=np.int64)  # [1]
        for device in self.devices:
            device.compute.close(sequence)
        return made

    def _deliver(self, at: int, key: StepKey, slot: Slot, arrived: Input, made: Generated) -> None:
        for ready in self.devices[at].dataflow.deliver(EPOCH, key, slot, arrived):
            self._execute(at, ready, made)

    def _execute(self, at: int, ready: ReadyOp, made: Generated) -> None:
        device, op, position = self.devices[at], ready.op, ready.inputs[0].position
        payloads = [each.payload for each in ready.inputs]
        result = device.compute.run(op, ready.key.sequence, ready.key.step, position, payloads)
        freed, _ = device.dataflow.finish(ready)
        device.ledger.release(MESSAGES, sum(each.payload.nbytes for each in freed))
        if op.kind is Kind.LM_HEAD:
            assert device.compute.last_logits is not None
            made.tokens.append(int(result[0]))
            made.logits.append(device.compute.last_logits)
        else:
            self._send(op, ready.key, position, result, ready.inputs[0].rows, made)

    def _send(
        self, op: Op, key: StepKey, position: int, payload: NDArray[np.generic], rows: int, made: Generated
    ) -> None:
        for target in op.to:
            if target == op.device:
                self.devices[target].ledger.charge(MESSAGES, payload.nbytes)
                self._deliver(target, key, op.emits, Input(0.0, position, payload, rows=rows), made)
                continue
            kind, layer, part = op.emits.kind, op.emits.layer, op.emits.part
            message = messages.Data(kind, layer, op.device, *key, EPOCH, position, 0.0, 0.0, payload, rows, part)
            frames = [bytes(frame) for frame in messages.encode_data(message)]
            self.sent.append(Sent(op, rows, sum(map(len, frames))))
            self._messages.append((target, frames))
