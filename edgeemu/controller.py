"""The run: step, measure, decide, migrate, record. Knows the order of things; how each is done is elsewhere.

The controller is not in the data path. It releases a step and receives a token; between the two the devices pass
activations to each other. What executes is a `Backend`: processes, or the timeline alone.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeemu.backend import NO_TOKEN, Backend, Instant, Sampled
from edgeemu.migrating import Migrator
from edgeemu.planning import Plan, Request
from edgeemu.records import MigrationRow, OpRow, TokenRow
from edgeemu.simulate import Step

if TYPE_CHECKING:
    from edgeemu_kernels.tokenizer import TextStream


# Between two sequences, on the timeline: the host needs it to close one and open the next. It is always the same, so
# that every run meets the same loads and events at the same places.
PAUSE_S = 0.05


class Observer(Protocol):
    """Who watches a run; the terminal, for example."""

    def phase(self, name: str, done: int, total: int) -> None: ...
    def directory(self, path: Path) -> None: ...
    def sequence_started(self, index: int, prompt: str, max_tokens: int) -> None: ...
    def token(self, index: int, step: int, text: str, latency_s: float) -> None: ...
    def sequence_ended(self, index: int) -> None: ...


class Records(Protocol):
    """Where rows go as the run makes them."""

    def append_tokens(self, rows: list[TokenRow]) -> None: ...
    def append_ops(self, rows: list[OpRow]) -> None: ...
    def append_migrations(self, rows: list[MigrationRow]) -> None: ...


class Generated(NamedTuple):
    """One token: its step was released at `since` (or the token before it sampled), and it was sampled at `at`."""

    step: Step
    since: Instant
    sampled: Sampled


class Controller:
    """One run of a plan on a backend. What it makes grows in `tokens`, `ops`, `migrations` and `texts` as it goes."""

    def __init__(self, plan: Plan, devices: Backend, observer: Observer, records: Records) -> None:
        self.plan = plan
        self.devices = devices
        self.tokens: list[TokenRow] = []
        self.ops: list[OpRow] = []
        self.texts: list[str] = []
        self.logits: list[list[NDArray[np.float32]]] = []  # by sequence and step, [vocab]
        self.migrator = Migrator(plan, devices)
        self._observer = observer
        self._records = records
        self._zero_s = 0.0
        self._next_start_s = 0.0

    async def run(self) -> None:
        """Launches the devices, generates every sequence, and ends the devices."""
        async with self.devices.launched():
            await self.devices.assign(self.plan)
            await self.run_requests()
            await self.devices.end()

    async def run_requests(self) -> None:
        """All sequences of the plan, one after the other, on devices that have their blocks."""
        self._zero_s = (await self.devices.begin()).wall_s
        for index, request in enumerate(self.plan.requests):
            await self._sequence(index, request)

    async def _sequence(self, index: int, request: Request) -> None:
        tokenizer = self.plan.model.tokenizer
        stream = tokenizer.stream() if tokenizer else None
        stop_ids = tokenizer.stop_ids if tokenizer else frozenset()
        self._observer.sequence_started(index, request.prompt, request.max_tokens)
        self.texts.append("")
        self.logits.append([])
        async for made in self._generate(index, request, stop_ids):
            self._record(made, _text(made.sampled.token, stream))
        self.texts[-1] += stream.finish() if stream else ""
        self._record_ops()
        self._observer.sequence_ended(index)

    async def _generate(self, sequence: int, request: Request, stop_ids: frozenset[int]) -> AsyncIterator[Generated]:
        """The tokens of one sequence: step, measure, decide, migrate, until the model or the length ends it."""
        await self.devices.open(sequence, request)
        ids, past, since = list(request.ids), 0, self.devices.instant(self._next_start_s)
        for number in range(request.max_tokens):
            step = Step(sequence, number, len(ids), past)
            await self._happen(step, since)
            released = since if number == 0 else await self.migrator.between(step, since)
            sampled = await self.devices.step(step, ids, released)
            yield Generated(step, since, sampled)
            past, ids, since = past + len(ids), [sampled.token], sampled.at
            self._next_start_s = sampled.at.emulated_s + PAUSE_S
            if sampled.token in stop_ids:
                break
        await self.migrator.sequence_ends()
        await self.devices.close(sequence, step)

    async def _happen(self, step: Step, at: Instant) -> None:
        """What the scenario says of this token: it happens before anything else does for it."""
        if step.sequence == 0:
            for change in self.plan.cluster.events_at(step.step):
                await self.devices.change(change, at.emulated_s)

    def _record(self, made: Generated, text: str) -> None:
        """One token to the records and to whoever watches."""
        step, since, (token, at, logits) = made
        latency_s = at.emulated_s - since.emulated_s
        row = TokenRow(
            sequence=step.sequence,
            step=step.step,
            token=token,
            text=text,
            emulated_s=at.emulated_s,
            latency_s=latency_s,
            wall_s=at.wall_s - self._zero_s,
            wall_latency_s=(at.wall_s - since.wall_s) / self.devices.dilation,
        )
        self.tokens.append(row)
        self.texts[-1] += text
        if logits is not None:
            self.logits[-1].append(logits)
        self._records.append_tokens([row])
        self._record_ops()
        self._observer.token(step.sequence, step.step, text, latency_s)

    def _record_ops(self) -> None:
        """What devices have done since the last time."""
        rows = self.devices.take_ops()
        self.ops += rows
        self._records.append_ops(rows)
        self._records.append_migrations(self.migrator.take_rows())


def _text(token: int, stream: "TextStream | None") -> str:
    """What a token adds to the text: its number where the model has no words, nothing where there is no model."""
    if token == NO_TOKEN:
        return ""
    return stream.add(token) if stream else f"{token} "
