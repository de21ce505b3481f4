"""Any migrations before any tokens, between real processes: the text is the reference's, and not a bit is lost."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest
import uvloop
from hypothesis import given, seed
from hypothesis import strategies as st
from support.builders import QUICK
from support.clusters import cluster
from support.moving import make
from support.tapped import Tap, TappedDevices
from support.watching import RecordedRun

from edgeemu.errors import RunError
from edgeemu.links.messages import ChunkHeader, ShipmentChunk, decode_frames
from edgeemu.placement.blocks import Block, all_blocks
from edgeemu.placement.placement import Placement
from edgeemu.placement.shipments import Shipment
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.plan import Plan
from edgeemu_kernels.reference import Reference


class Forced:
    """At each decision these blocks go to these devices; after the last nothing does."""

    def __init__(self, moves: list[dict[Block, int]]) -> None:
        self._moves = iter(moves)

    def __call__(self, _view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        return Placement({**current.owner, **next(self._moves, {})})


def keep(_view: ClusterView, current: Placement | None) -> Placement:
    assert current is not None
    return current


BASE = make("workload.prompts=[{tokens: 7}]", decide=keep)
BLOCKS = list(all_blocks(BASE.model.shape))


class Case(NamedTuple):
    """Case drawn by hypothesis: a sequence, how blocks move, and which do before each of its tokens."""

    prompt_tokens: int
    new_tokens: int
    settings: tuple[str, ...]
    moves: list[dict[Block, int]]

    def plan(self) -> Plan:
        prompt = f"workload.prompts=[{{tokens: {self.prompt_tokens}, max_tokens: {self.new_tokens}}}]"
        return make(prompt, *self.settings, decide=Forced(self.moves))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    new_tokens = draw(st.integers(2, 6))
    settings = (
        f"migration.mode={draw(st.sampled_from(['pause', 'precopy']))}",
        f"migration.weights_on_flash={draw(st.sampled_from(['false', 'true']))}",
        f"migration.chunk={draw(st.sampled_from([64, 1000, 65536]))} B",
        f"decisions.interval={draw(st.sampled_from([1, 1, 1, 2, 3]))}",
        f"network.default.bandwidth={draw(st.sampled_from([1, 10, 1000]))} Mbit/s",
    )
    several = st.dictionaries(st.sampled_from(BLOCKS), st.integers(0, 2), min_size=1, max_size=len(BLOCKS))
    all_together = st.integers(0, 2).map(lambda device: dict.fromkeys(BLOCKS, device))
    moves = draw(st.lists(several | all_together, min_size=1, max_size=new_tokens - 1))
    return Case(draw(st.integers(1, 7)), new_tokens, settings, moves)


@dataclass
class Parcels:
    """Bytes of every block seen in transit. Its next owner sends equal bits, or the test fails.

    Caches are those of one sequence, weights the model's.
    """

    compared: Counter[str] = field(default_factory=Counter)
    weights: dict[tuple[Block, bool], bytes] = field(default_factory=dict)  # of an end also without its table
    rows: dict[Block, tuple[bytes, bytes]] = field(default_factory=dict)  # keys and values, each [rows, head_dim]
    wrong: list[str] = field(default_factory=list)
    _open: dict[tuple[int, int, Block], bytearray] = field(default_factory=dict)

    def tap(self, frames: list[bytes]) -> list[bytes]:
        chunk = decode_frames(frames)
        if isinstance(chunk, ShipmentChunk):
            header = chunk.header
            key = header.epoch, header.number, header.shipment.block
            parcel = self._open.setdefault(key, bytearray())
            parcel += chunk.payload
            if len(parcel) == header.total:
                self._whole(header.shipment, bytes(self._open.pop(key)))
        return frames

    def new_sequence(self) -> None:
        self.rows.clear()
        self.wrong.clear()
        self._open.clear()

    def _whole(self, shipment: Shipment, data: bytes) -> None:
        block = shipment.block
        row_bytes = 4 * BASE.model.shape.head_dim
        n_rows = shipment.end_row - shipment.first_row if block.group >= 0 else 0
        half = n_rows * row_bytes
        ends = len(data) - 2 * half, len(data) - half
        weights, keys, values = data[: ends[0]], data[ends[0] : ends[1]], data[ends[1] :]
        if shipment.with_weights:
            key = block, shipment.ends_meet
            self._compare("weights", block, self.weights.setdefault(key, weights), weights)
        before = self.rows.get(block, (b"", b""))
        start = shipment.first_row * row_bytes
        for known, now in zip(before, (keys, values), strict=True):
            common = min(len(known) - start, len(now))
            if common > 0:
                self._compare("rows", block, known[start : start + common], now[:common])
        if start + half > len(before[0]):
            self.rows[block] = (before[0][:start] + keys, before[1][:start] + values)

    def _compare(self, what: str, block: Block, one: bytes, other: bytes) -> None:
        self.compared[what] += 1
        if one != other:
            self.wrong.append(f"{what} of {block}")


class Lasting:
    """One cluster of processes for all examples; after one that failed, another."""

    def __init__(self, runner: asyncio.Runner, tap: Tap) -> None:
        self._runner = runner
        self._tap = tap
        self._stack = AsyncExitStack()
        self._run: Callable[[Plan], Awaitable[RecordedRun]] | None = None

    def run(self, plan: Plan) -> RecordedRun:
        try:
            return self._runner.run(self._on_devices(plan))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._run = None
        self._runner.run(self._stack.aclose())

    async def _on_devices(self, plan: Plan) -> RecordedRun:
        if self._run is None:
            self._run = await self._stack.enter_async_context(cluster(BASE, TappedDevices(BASE, self._tap)))
        return await self._run(plan)


@contextmanager
def lasting(tap: Tap) -> Iterator[Lasting]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        devices = Lasting(runner, tap)
        try:
            yield devices
        finally:
            devices.close()


def test_any_migrations_leave_the_text_as_it_is_and_caches_to_the_bit() -> None:
    parcels, outcomes = Parcels(), Counter[str]()
    reference = Reference(BASE.model.open_source())

    @QUICK
    @seed(2)  # not drawn from the module's name; it moves enough of every kind
    @given(cases())
    def example(case: Case) -> None:
        plan = case.plan()
        parcels.new_sequence()
        made = devices.run(plan)
        ids, tokens = list(plan.requests[0].ids), [row.token for row in made.tokens]
        assert tokens == reference.generate(ids, case.new_tokens)
        logits = reference.logits(ids + tokens[:-1])[len(ids) - 1 :]  # [new, vocab]
        np.testing.assert_allclose(np.stack(made.logits[0]), logits, rtol=0, atol=1e-4)
        assert parcels.wrong == []
        assert made.problems == []
        outcomes.update(f"{plan.scenario.migration.mode} {row.outcome}" for row in made.migrations)

    with lasting(parcels.tap) as devices:
        example()
    assert min(outcomes["pause committed"], outcomes["precopy committed"]) > 100, outcomes
    assert outcomes["precopy aborted: the sequence ended"] > 10
    assert min(parcels.compared.values()) > 100, parcels.compared


def flipped(frames: list[bytes]) -> list[bytes]:
    return [frames[0], frames[1][:-1] + bytes([frames[1][-1] ^ 1])]


DAMAGE: dict[str, tuple[Callable[[list[bytes]], list[bytes] | None], str]] = {
    "one bit is wrong": (flipped, r"b-2: a shipment of \d+ bytes arrived as \d+ others"),
    "a chunk is lost": (lambda _: None, r"b-2: a chunk at \d+ after \d+ bytes"),
}


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("mode", ["pause", "precopy"])
def test_a_parcel_that_is_damaged_on_its_way_ends_the_run(mode: str, what: str) -> None:
    damage, message = DAMAGE[what]
    seen: list[ChunkHeader] = []

    def tap(frames: list[bytes]) -> list[bytes] | None:
        chunk = decode_frames(frames)
        if isinstance(chunk, ShipmentChunk):
            seen.append(chunk.header)
            if len(seen) == 5:
                return damage(frames)
        return frames

    moves: list[dict[Block, int]] = [dict.fromkeys(BLOCKS, 2)]
    case = Case(7, 6, (f"migration.mode={mode}", "migration.chunk=100 B"), moves)
    with lasting(tap) as devices, pytest.raises(RunError, match=message):
        devices.run(case.plan())
    assert len(seen) >= 5
