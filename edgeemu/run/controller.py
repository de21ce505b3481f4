"""The run: admit, step, measure, decide, migrate, record. Knows the order of things; how each is done is elsewhere.

The controller is not in the data path. It releases steps and receives tokens; between the two the devices pass
activations to each other, of several sequences at once. What executes is a `Backend`: processes, or the timeline alone.
"""

import numpy as np
from numpy.typing import NDArray

from edgeemu.report.rows import OperationRow, SequenceRow, TokenRow
from edgeemu.run.backend import Backend, Instant, SampledToken
from edgeemu.run.migrator import Migrator
from edgeemu.run.observer import Observer, Records
from edgeemu.run.open_sequence import OpenSequence
from edgeemu.run.plan import Plan
from edgeemu.timeline.scheduler import Due


class Controller:
    """One run of a plan on a backend. What it makes grows in `tokens`, `ops`, `migrations` and `texts` as it goes."""

    def __init__(self, plan: Plan, devices: Backend, observer: Observer, records: Records) -> None:
        self.plan = plan
        self.devices = devices
        self.tokens: list[TokenRow] = []
        self.sequences: list[SequenceRow] = []  # that have ended
        self.ops: list[OperationRow] = []
        self.texts: list[str] = []
        self.logits: list[list[NDArray[np.float32]]] = []  # by sequence and step, [vocab]
        self.migrator = Migrator(plan, devices)
        self._schedule = plan.schedule()
        self._open: dict[int, OpenSequence] = {}
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
                schedule.delay_all(await migrator.between(list(schedule.waiting.values()), schedule.now_s))
            if not migrator.waits:
                for due in schedule.release():
                    await self.devices.start(due.step, self._open[due.step.sequence].next_ids, due.at_s)
            self._record()
            arrival_s = schedule.next_arrival_s
            sampled = await self.devices.sampled(arrival_s)
            if sampled is not None:
                await self._take(sampled)
            elif arrival_s is not None:
                schedule.advance_to(arrival_s)
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
        self._open[sequence] = OpenSequence(request, stream, self.devices.instant(first.since_s), first.at_s)
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

    async def _take(self, sampled: SampledToken) -> None:
        """A token: its sequence goes on, or ends."""
        sequence = sampled.step.sequence
        opened = self._open[sequence]
        self._note(sampled, opened.since, opened.takes(sampled))
        ended = bool(opened.ended_by())
        following = self._schedule.complete(sampled.step, sampled.at.emulated_s, ended=ended)
        if following is not None:
            await self._happen(following)
            self._schedule.delay(sequence, await self.migrator.goes_on(following, self._schedule.open_steps))
            return
        del self._open[sequence]
        self.texts[sequence] += opened.finish()
        self.sequences.append(opened.row(sequence, self.plan.scenario.workload.latency_target))
        self._records.append_sequences(self.sequences[-1:])
        await self.migrator.ended(still_open=len(self._open))
        await self.devices.close(sequence)
        self._observer.sequence_ended(sequence)

    def _note(self, sampled: SampledToken, since: Instant, text: str) -> None:
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
