"""Two devices joined in memory: their instructions are carried out by lists. No sockets, no processes, no sleeping.

The clock is a number. It goes on to the next instant at which a device has something to do, and to the end of every
operation that runs.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeemu.cluster.links import Hop, Path
from edgeemu.device import codec
from edgeemu.device.device import EmulatedDevice
from edgeemu.device.instructions import (
    BeginTimeline,
    ChunkSent,
    Connect,
    Event,
    Instruction,
    Leave,
    OperationRan,
    RunOperation,
    Send,
    SendChunk,
    SleepUntil,
    Tell,
    Tick,
    Woke,
)
from edgeemu.device.protocol_in import (
    Abort,
    Assign,
    Begin,
    Close,
    Commit,
    DeviceConfig,
    Expect,
    Follow,
    Halt,
    Open,
    Prepare,
    Rewind,
    Ship,
    Start,
    ToDevice,
)
from edgeemu.device.protocol_out import Arrived, FromDevice, Prepared, Report, Token
from edgeemu.links.interface import Peer
from edgeemu.links.messages import Data, ShipmentChunk, decode_frames, encode_chunk, encode_data
from edgeemu.placement.blocks import Block
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.memory import usages
from edgeemu.placement.migration import MigrationProtocol, needs
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Program
from edgeemu.placement.restoration import restoring
from edgeemu.placement.shipments import chains
from edgeemu.run.recovery.fill_caches import filling_of
from edgeemu_kernels.shape import ModelShape

MessageT = TypeVar("MessageT")

DELAY_S = 0.01  # of every message
CHUNK_S = 0.002  # that a link takes for a chunk
CHUNK_BYTES = 100


class DevicePair:
    """Devices d0 and d1, and what they have told their controller, in `told`."""

    def __init__(self, memory_bytes: Sequence[int] = (1 << 30, 1 << 30), message_s: float = 0.0) -> None:
        """`message_s`: seconds for which a message keeps its sender busy, and its receiver."""
        self.devices = [EmulatedDevice(_config(index, room, message_s)) for index, room in enumerate(memory_bytes)]
        self.told: list[FromDevice] = []
        self.now_s = 0.0
        self.rooms = [1 << 30, 1 << 30]  # chunks for which the link to each device has room; none: it stays due
        self._flying: deque[tuple[int, Data | ShipmentChunk]] = deque()

    def tell(self, device: int, request: ToDevice) -> None:
        """Hands a request to a device, as it would arrive; what follows from it is for `settle`."""
        self._handle(device, codec.decode_for_device(codec.encode(request)))

    def tell_both(self, request: ToDevice) -> None:
        for device in (0, 1):
            self.tell(device, request)

    def take(self, kind: type[MessageT]) -> list[MessageT]:
        """The messages of a kind that have been told, which are then forgotten."""
        taken = [message for message in self.told if isinstance(message, kind)]
        self.told = [message for message in self.told if not isinstance(message, kind)]
        return taken

    def settle(self) -> None:
        """Lets time pass until nothing is left to do, and no chunk finds room."""
        while True:
            self.step()
            if self._flying or any(device.has_ready for device in self.devices):
                continue
            due_s = [device.due_s for device in self.devices if device.due_s is not None]
            if not due_s:
                return
            self.now_s = max(self.now_s, min(due_s))

    def step(self) -> None:
        """Delivers what has been sent; then each device does what is due, and runs one operation at most."""
        while self._flying:
            target, message = self._flying.popleft()
            self._handle(target, message)
        for device in (0, 1):
            self._handle(device, Tick(self.now_s))

    def _handle(self, device: int, event: Event) -> None:
        todo = deque(self.devices[device].handle(event))
        while todo:
            outcome = self._carry_out(device, todo.popleft())
            if outcome is not None:
                todo.extendleft(reversed(self.devices[device].handle(outcome)))

    def _carry_out(self, device: int, instruction: Instruction) -> Event | None:
        match instruction:
            case Tell(message):
                self.told.append(codec.decode_for_controller(codec.encode(message)))
            case Send(message, targets):
                sent = msgspec.structs.replace(message, arrival_s=message.departure_s + DELAY_S)
                for target in targets:
                    self._fly(target, encode_data(sent))
            case SendChunk(chunk, _, target, departure_s):
                if not self.rooms[target]:
                    return ChunkSent(None)
                self.rooms[target] -= 1
                header = msgspec.structs.replace(chunk.header, arrival_s=departure_s + CHUNK_S + DELAY_S)
                self._fly(target, encode_chunk(ShipmentChunk(header, chunk.payload)))
                return ChunkSent(departure_s + CHUNK_S)
            case RunOperation(ready, end_s):
                result = self.devices[device].run(ready)
                return OperationRan(result, 0.0, None if end_s is None else self._sleep_until(end_s))
            case SleepUntil(end_s):
                return self._sleep_until(end_s)
            case Connect() | BeginTimeline() | Leave():
                pass
            case _:
                raise AssertionError(instruction)
        return None

    def _sleep_until(self, end_s: float) -> Woke:
        self.now_s = max(self.now_s, end_s)
        return Woke(0.0, False, self.now_s)

    def _fly(self, target: int, frames: Sequence[bytes | memoryview]) -> None:
        self._flying.append((target, decode_frames([bytes(frame) for frame in frames])))


class Generation:
    """A controller in miniature: a model on the pair, the tokens of sequences, and migrations between the two."""

    def __init__(self, shape: ModelShape, placement: Placement, pair: DevicePair, *, paced: bool = True) -> None:
        self.pair, self.shape, self.costs = pair, shape, PhysicalCosts(shape)
        self.placement, self.epoch, self._last_epoch = placement, 1, 1
        self.tokens: dict[int, list[int]] = {}
        self.logits: dict[int, list[NDArray[np.float32]]] = defaultdict(list)  # of every step, [vocab]
        self.rows: dict[int, int] = {}  # in the caches, by open sequence
        self._program = self._compiled(placement)
        self._prompts: dict[int, list[int]] = {}
        self._lengths: dict[int, int] = {}
        source = {"kind": "seeded", "shape": shape.to_dict(), "seed": 0}
        for device in (0, 1):
            pair.tell(device, Assign(self.epoch, source, self._program.on(device), [peer_of(1 - device)]))
        if paced:
            pair.tell_both(Begin(0.0, 1.0, paced=True))

    # -- steps ----------------------------------------------------------------------------------------------------

    def open(self, sequence: int, ids: list[int], new_tokens: int) -> None:
        self._prompts[sequence], self._lengths[sequence] = ids, len(ids) + new_tokens
        self.tokens[sequence], self.rows[sequence] = [], 0
        self.pair.tell_both(Open(sequence, len(ids), len(ids) + new_tokens, 0.0, 0, 1.0, 0, keep_logits=True))

    def close(self, sequence: int) -> None:
        del self.rows[sequence]
        self.pair.tell_both(Close(sequence))

    def start(self, sequence: int) -> None:
        """Releases the next step of a sequence."""
        step, past = len(self.tokens[sequence]), self.rows[sequence]
        ids = self.tokens[sequence][-1:] or self._prompts[sequence]
        device = self._program.lm_head_device if step else self._program.embed_device
        self.pair.tell(device, Start(sequence, step, self.epoch, self.pair.now_s, past, ids))
        self.rows[sequence] += len(ids)

    def generate(self, sequence: int, tokens: int = 1) -> None:
        """So many steps of a sequence, one after the other."""
        for _ in range(tokens):
            self.start(sequence)
            self.pair.settle()
            (token,) = self.pair.take(Token)
            assert len(self.pair.take(Report)) == len({op.device for op in self._program.ops})
            self.tokens[sequence].append(token.token)
            self.logits[sequence].append(np.frombuffer(token.logits, np.float32))

    # -- after a loss ---------------------------------------------------------------------------------------------

    def halt(self) -> None:
        """Gives up all steps in flight, at both devices. Tokens that have been told are taken."""
        self._last_epoch += 1
        self.epoch = self._last_epoch
        self.pair.tell_both(Halt(self.epoch))
        for token in self.pair.take(Token):
            self.tokens[token.sequence].append(token.token)
        self.pair.take(Report)
        for sequence, tokens in self.tokens.items():
            self.rows[sequence] = len(self._prompts[sequence]) + len(tokens) - 1 if tokens else 0

    def restore(self, layers: int, rows: Mapping[int, int], most_rows: int) -> None:
        """Computes caches of the first `layers` layers again, from `rows` on by sequence, and goes on."""
        self.pair.tell_both(Rewind(dict(rows), layers, self.rows))
        self.follow(restoring(self._program, layers))
        lacking = {sequence: (rows[sequence], end) for sequence, end in self.rows.items()} if layers else {}
        todo = filling_of(lacking, most_rows)
        for sequence, steps in todo.items():
            for step in steps:
                ids = (self._prompts[sequence] + self.tokens[sequence])[step.past : step.past + step.rows]
                device = self._program.embed_device
                self.pair.tell(device, Start(sequence, step.step, self.epoch, self.pair.now_s, step.past, ids))
                self.pair.settle()
                assert len(self.pair.take(Report)) == len({op.device for op in self._following.ops})
        assert not self.pair.take(Token)
        self.follow(self._program)

    def follow(self, program: Program) -> None:
        """Has both devices run another program on the blocks that they hold."""
        self._last_epoch += 1
        self.epoch, self._following = self._last_epoch, program
        for device in (0, 1):
            self.pair.tell(device, Follow(self.epoch, program.on(device), [peer_of(1 - device)]))

    # -- migrations -----------------------------------------------------------------------------------------------

    def migration(self, moved: Mapping[Block, int]) -> MigrationProtocol:
        """Protocol of a change. Shards take the place of their whole, and a whole that of its shards."""
        replaced = {block.whole for block in moved if block.is_shard and block not in self.placement.owner}
        replaced |= {block for block in self.placement.owner if block.is_shard and block.whole in moved}
        owner = {block: device for block, device in self.placement.owner.items() if block not in replaced}
        self._last_epoch += 1
        return MigrationProtocol(self._last_epoch, self.placement, Placement({**owner, **moved}))

    def prepare(self, migration: MigrationProtocol, growth_rows: int = 0) -> list[Prepared]:
        """Asks receivers; returns their answers."""
        rows, longest = sum(self.rows.values()), max(self._lengths.values())
        held = usages(migration.old, self.costs, 2, longest, longest)
        for target, moved, reserve_bytes, growth_bytes in needs(migration, held, rows, rows + growth_rows, self.costs):
            prepare = Prepare(migration.epoch, moved, reserve_bytes, growth_bytes, self.pair.now_s)
            self.pair.tell(target, prepare)
        answers = self.pair.take(Prepared)
        if not any(answer.refusal for answer in answers):
            migration.prepared()
        return answers

    def ship(self, migration: MigrationProtocol) -> None:
        """Begins a round for the rows that are in the caches now."""
        shipments = migration.next_round(self.rows)
        for target in sorted({shipment.target for shipment in shipments}):
            parcels = sum(shipment.target == target for shipment in shipments)
            expect = Expect(migration.epoch, migration.round, parcels, from_flash=[], flash_end_s=0.0)
            self.pair.tell(target, expect)
        for (source, target), shipped in chains(shipments).items():
            peers, at_s = [peer_of(target)], self.pair.now_s
            self.pair.tell(source, Ship(migration.epoch, migration.round, at_s, CHUNK_BYTES, shipped, peers))

    def arrive(self, migration: MigrationProtocol) -> None:
        """Waits for the round."""
        self.pair.settle()
        for arrived in self.pair.take(Arrived):
            migration.arrived(arrived.device, arrived.number)

    def commit(self, migration: MigrationProtocol) -> None:
        self._program = self._compiled(migration.new)
        for device in (0, 1):
            commit = Commit(migration.epoch, self._program.on(device), [peer_of(1 - device)])
            self.pair.tell(device, commit)
        migration.committed()
        self.placement, self.epoch = migration.new, migration.epoch

    def abort(self, migration: MigrationProtocol) -> None:
        self.pair.tell_both(Abort(migration.epoch))
        migration.aborted("the test has it so")

    def _compiled(self, placement: Placement) -> Program:
        return compile_routes(placement, self.shape)


def _config(index: int, memory_bytes: int, message_s: float) -> DeviceConfig:
    return DeviceConfig(
        index,
        f"d{index}",
        control="",
        requests="",
        address="",
        memory_bytes=memory_bytes,
        flops_per_s=1e6,
        mem_bytes_per_s=1e6,
        overhead_s=1e-3,
        host_fraction=None,
        seed=0,
        pipes_fd=-1,
        n_pipes=0,
        message_s=message_s,
    )


def peer_of(device: int) -> Peer:
    return Peer(device, f"memory://d{device}", Path((Hop(0, 1e6, DELAY_S),), 0.0, 0.0))
