"""The run: admit, migrate, step, measure, decide. Knows the order of events; how each is done is elsewhere.

The controller is not in the data path. It releases steps and receives tokens; between the two the devices pass
activations to each other, of several sequences at once. What executes is a `Backend`: processes, or the timeline alone.
"""

from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgeemu.errors import RequestError
from edgeemu.report.rows import TokenRow
from edgeemu.run.backend import Backend, Instant, SampledToken
from edgeemu.run.conditions import Conditions
from edgeemu.run.decider import Decider
from edgeemu.run.migrator import Migrator
from edgeemu.run.moves_told import MovesTold, PlacementChange
from edgeemu.run.observer import Observer, RecordSink
from edgeemu.run.open_sequence import OpenSequence
from edgeemu.run.plan import Plan
from edgeemu.timeline.scheduler import Due

LAST_TOKEN_S = 1e12  # 30,000 years; there, instants still differ by 0.1 ms


class Controller:
    """One run of a plan on a backend. Its results go to `records` as rows, and none of them are kept."""

    def __init__(self, plan: Plan, devices: Backend, observer: Observer, records: RecordSink) -> None:
        self.plan = plan
        self.devices = devices
        self.logits: dict[int, list[NDArray[np.float32]]] = {}  # by sequence and step, [vocab], if devices keep them
        self.decider = Decider(plan, devices)
        self.migrator = Migrator(plan, devices, self.decider.add_refusal)
        self._told = MovesTold(plan.model.shape, plan.view, measured=plan.scenario.knowledge == "measured")
        self._conditions = Conditions()
        self._scheduler = plan.scheduler()
        self._open: dict[int, OpenSequence] = {}
        self._opened = 0  # sequences that devices know
        self._observer = observer
        self._records = records
        self._zero_s = 0.0

    async def run(self) -> None:
        """Launch the devices, generate every sequence, and end the devices."""
        async with self.devices.launched():
            await self.devices.assign(self.plan)
            await self.run_requests()
            await self.devices.end()
            self._record()  # what devices have told at the end

    async def run_requests(self) -> None:
        """Generate every sequence, on devices that have their blocks."""
        await self._open_ahead(self.plan.concurrency)
        self._zero_s = (await self.devices.begin()).wall_s
        try:
            while self._scheduler.unfinished:
                await self._admit()
                await self._migrate()  # what was decided, once no step is in flight
                await self._step()
                token = await self._measure()
                if token is not None and (following := await self._complete(token)):
                    await self._decide(following)
            await self.devices.settle()
        finally:
            self._record()

    async def _admit(self) -> None:
        """Give free slots to sequences that have arrived."""
        for first in self._scheduler.admit():
            sequence = first.step.sequence
            request, tokenizer = self.plan.requests[sequence], self.plan.model.tokenizer
            stream = tokenizer.stream() if tokenizer else None
            self._open[sequence] = OpenSequence(request, stream, self.devices.instant(first.since_s), first.at_s)
            self._observer.sequence_started(sequence, request.prompt, request.max_tokens)
            await self._open_ahead(sequence + 1 + self.plan.concurrency)
            await self._apply_events(first)

    async def _migrate(self) -> None:
        """Continue a migration that waits for the steps in flight, when there are none."""
        if self.migrator.waits and self._scheduler.drained:
            old, at_s = self.migrator.placement, self._scheduler.now_s
            waiting = list(self._scheduler.waiting.values())
            may_start_s = await self.migrator.advance(waiting, at_s)
            self._scheduler.delay_all(may_start_s)
            if (new := self.migrator.placement) is not old:
                step = min(due.step.step for due in waiting)
                change = PlacementChange(old, new, self.decider.asked, step, may_start_s - at_s)
                self._tell(self._told.moved(change))
            self._tell_placement()

    async def _step(self) -> None:
        """Start the steps that are due."""
        if not self.migrator.waits:
            for due in self._scheduler.release():
                opened = self._open[due.step.sequence]
                opened.released_s = due.at_s
                await self.devices.start(due.step, opened.next_ids, due.at_s)

    async def _measure(self) -> SampledToken | None:
        """Record what devices have done, and wait for the next token; None if a sequence arrives before it."""
        self._record()
        self._records.may_write()
        arrival_s = self._scheduler.next_arrival_s
        token = await self.devices.next_token(arrival_s)
        if token is None and arrival_s is not None:
            self._scheduler.advance_to(arrival_s)
        return token

    async def _complete(self, token: SampledToken) -> Due | None:
        """Take a token: its sequence ends, or has a next step, which is returned."""
        sequence, at_s = token.step.sequence, token.at.emulated_s
        if not at_s <= LAST_TOKEN_S:
            self.devices.take_rows()  # no records, whose times mean something
            raise RequestError(
                f"token {token.step.step} of prompt {sequence + 1} would be there after {at_s:.1e} s, later than "
                f"{LAST_TOKEN_S:.0e} s: too late to resolve a token. A link is too slow or loses too much, or a device "
                "is too slow"
            )
        opened = self._open[sequence]
        self._record_token(token, opened.since, opened.released_s, opened.add(token))
        following = self._scheduler.complete(token.step, token.at.emulated_s, ended=bool(opened.ended_by()))
        if following is None:
            await self._end(sequence)
        else:
            await self._apply_events(following)
        return following

    async def _decide(self, following: Due) -> None:
        """Ask the policy before a step if it is time to; the step is delayed by the decision."""
        steps = self._scheduler.open_steps
        turn = self.decider.count_token(len(steps))
        if self.migrator.busy:
            await self.migrator.poll(following.at_s)
        elif turn and (decision := await self.decider.decide(following, steps, self.migrator.placement)):
            self._scheduler.delay(following.step.sequence, decision.at_s)
            self.migrator.request(decision)
            if (old := self.migrator.placement) is not decision.placement:
                self._observer.moving(partial(self._told.moving, old, decision.placement, self.decider.asked))

    async def _open_ahead(self, until: int) -> None:
        """Have devices make room for sequences before they are admitted, so that each can begin at once."""
        until = min(until, len(self.plan.requests))
        for sequence in range(self._opened, until):
            await self.devices.open(sequence, self.plan.requests[sequence])
        self._opened = max(self._opened, until)

    async def _apply_events(self, due: Due) -> None:
        """Change the cluster as the scenario has it for this token, before anything else happens for it."""
        if due.step.sequence == 0:
            for change in self.plan.cluster.events_at(due.step.step):
                await self.devices.change(change, due.at_s)

    async def _end(self, sequence: int) -> None:
        """Record a sequence that has its last token, and free what it holds."""
        opened = self._open.pop(sequence)
        self._records.append("sequences", [opened.row(sequence, self.plan.scenario.workload.latency_target)])
        await self.migrator.sequence_ended(still_open=len(self._open))
        self._tell_placement()
        await self.devices.close(sequence)
        if not self._open:
            self._tell(self._told.ended())
        self._observer.sequence_ended(sequence)

    def _record_token(self, sampled: SampledToken, since: Instant, released_s: float, text: str) -> None:
        """Record one token and show it to the observer."""
        step, token, at, logits = sampled
        latency_s = at.emulated_s - since.emulated_s
        row = TokenRow(
            sequence=step.sequence,
            step=step.step,
            token=token,
            text=text,
            released_s=released_s,
            emulated_s=at.emulated_s,
            latency_s=latency_s,
            wall_s=at.wall_s - self._zero_s,
            wall_latency_s=(at.wall_s - since.wall_s) / self.devices.dilation,
        )
        self._records.append("tokens", [row])
        self._records.append("conditions", self._conditions.rows(self.devices.cluster, step[:2], at.emulated_s))
        if logits is not None:
            self.logits.setdefault(step.sequence, []).append(logits)
        self._observer.token(step.sequence, step.step, text, latency_s)
        if step.step:
            self._tell(self._told.token(step.sequence, latency_s))

    def _tell(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._observer.moved(line)

    def _tell_placement(self) -> None:
        """Show who holds what, unless blocks are still moving."""
        if not self.migrator.busy:
            self._observer.placed(self.migrator.placement)

    def _record(self) -> None:
        """Record what has been done since the last call."""
        rows = self.devices.take_rows()
        self._records.append("ops", rows.ops)
        self._records.append("devices", rows.devices)
        self._records.append("links", rows.links)
        for table, columns in rows.columns:
            self._records.append(table, columns)
        self._records.append("migrations", self.migrator.take_rows())
        self._records.append("decisions", self.decider.take_rows())
        self._records.append("placements", self.migrator.take_placements())
        self._observer.worked(rows, self._scheduler.now_s)
