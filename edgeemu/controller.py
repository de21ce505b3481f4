"""The run: admit, step, measure, decide, migrate, record. Knows the order of things; how each is done is elsewhere.

The controller is not in the data path. It releases steps and receives tokens; between the two the devices pass
activations to each other, of several sequences at once. What executes is a `Backend`: processes, or the timeline alone.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeemu.backend import NO_TOKEN, Backend, Instant, Sampled
from edgeemu.migrating import Migrator
from edgeemu.planning import Plan
from edgeemu.records import MigrationRow, OpRow, TokenRow
from edgeemu.schedule import Due
from edgeemu.workload import Request

if TYPE_CHECKING:
    from edgeemu_kernels.tokenizer import TextStream


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


class Open:
    """A sequence between its first step and its last token: what it was asked, and what comes next."""

    def __init__(self, request: Request, stream: "TextStream | None", since: Instant) -> None:
        self.request = request
        self.next_ids = list(request.ids)
        self.since = since  # its arrival, or its last token
        self.text = ""
        self._stream = stream

    def takes(self, sampled: Sampled) -> str:
        """A token: what it adds to the text. Its number where the model has no words, nothing where there is none."""
        token, self.next_ids, self.since = sampled.token, [sampled.token], sampled.at
        if token == NO_TOKEN:
            return ""
        added = self._stream.add(token) if self._stream else f"{token} "
        self.text += added
        return added

    def ends_with(self, sampled: Sampled) -> bool:
        asked = self.request
        long_enough = sampled.step.step + 1 == asked.max_tokens
        return long_enough or sampled.token in asked.stop_ids or any(stop in self.text for stop in asked.stop_texts)

    def finish(self) -> str:
        """Text that is still to come when no more tokens do."""
        return self._stream.finish() if self._stream else ""


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
        self._schedule = plan.schedule()
        self._open: dict[int, Open] = {}
        self._opened = 0  # sequences that devices know
        self._observer = observer
        self._records = records
        self._zero_s = 0.0

    async def run(self) -> None:
        """Launches the devices, generates every sequence, and ends the devices."""
        async with self.devices.launched():
            await self.devices.assign(self.plan)
            await self.run_requests()
            await self.devices.end()

    async def run_requests(self) -> None:
        """All sequences of the plan, on devices that have their blocks."""
        await self._open_ahead(self.plan.concurrency)
        self._zero_s = (await self.devices.begin()).wall_s
        schedule, migrator = self._schedule, self.migrator
        while schedule.unfinished:
            for first in schedule.admit():
                await self._begin(first)
            if migrator.waits and schedule.drained:
                schedule.postpone(await migrator.between(list(schedule.held.values()), schedule.now_s))
            if not migrator.waits:
                for due in schedule.release():
                    await self.devices.start(due.step, self._open[due.step.sequence].next_ids, due.at_s)
            self._record()
            arrival_s = schedule.next_arrival_s
            sampled = await self.devices.sampled(arrival_s)
            if sampled is not None:
                await self._take(sampled)
            elif arrival_s is not None:
                schedule.passed(arrival_s)
        await self.devices.settle()
        self._record()

    async def _open_ahead(self, until: int) -> None:
        """Devices make room for sequences before they begin, so that one can begin at the instant at which it may."""
        until = min(until, len(self.plan.requests))
        for sequence in range(self._opened, until):
            await self.devices.open(sequence, self.plan.requests[sequence])
        self._opened = max(self._opened, until)

    async def _begin(self, first: Due) -> None:
        """A sequence has a slot."""
        sequence = first.step.sequence
        request, tokenizer = self.plan.requests[sequence], self.plan.model.tokenizer
        stream = tokenizer.stream() if tokenizer else None
        self._open[sequence] = Open(request, stream, self.devices.instant(first.since_s))
        self.texts.append("")
        self.logits.append([])
        self._observer.sequence_started(sequence, request.prompt, request.max_tokens)
        await self._open_ahead(sequence + 1 + self.plan.concurrency)
        await self._happen(first)

    async def _happen(self, due: Due) -> None:
        """What the scenario says of this token: it happens before anything else does for it."""
        if due.step.sequence == 0:
            for change in self.plan.cluster.events_at(due.step.step):
                await self.devices.change(change, due.at_s)

    async def _take(self, sampled: Sampled) -> None:
        """A token: its sequence goes on, or ends."""
        sequence = sampled.step.sequence
        opened = self._open[sequence]
        self._note(sampled, opened.since, opened.takes(sampled))
        ended = opened.ends_with(sampled)
        self._schedule.sampled(sampled.step, sampled.at.emulated_s, ended=ended)
        if not ended:
            following = self._schedule.held[sequence]
            await self._happen(following)
            self._schedule.delay(sequence, await self.migrator.goes_on(following, self._schedule.steps))
            return
        del self._open[sequence]
        self.texts[sequence] += opened.finish()
        await self.migrator.ended(still_open=len(self._open))
        await self.devices.close(sequence)
        self._observer.sequence_ended(sequence)

    def _note(self, sampled: Sampled, since: Instant, text: str) -> None:
        """One token to the records and to whoever watches."""
        step, token, at, logits = sampled
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
        self._records.append_tokens([row])
        self.texts[step.sequence] += text
        if logits is not None:
            self.logits[step.sequence].append(logits)
        self._observer.token(step.sequence, step.step, text, latency_s)

    def _record(self) -> None:
        """What devices have done and moved since the last time."""
        ops = self.devices.take_ops()
        self.ops += ops
        self._records.append_ops(ops)
        self._records.append_migrations(self.migrator.take_rows())
