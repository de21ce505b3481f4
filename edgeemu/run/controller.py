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
from edgeemu.run.recovery.recovery import Recovery
from edgeemu.run.recovery.replicator import Replicator
from edgeemu.run.resume.continuation import Continuation
from edgeemu.timeline.scheduler import Due

LAST_TOKEN_S = 1e12  # 30,000 years; there, instants still differ by 0.1 ms


class Controller:
    """One run of a plan on a backend. Its results go to `records` as rows, and none of them are kept."""

    def __init__(self, plan: Plan, devices: Backend, observer: Observer, records: RecordSink) -> None:
        self.plan = plan
        self.devices = devices
        self.logits: dict[int, list[NDArray[np.float32]]] = {}  # by sequence and step, [vocab], if devices keep them
        self.decider = Decider(plan, devices)
        self._told = MovesTold(
            plan.model.shape, plan.view, plan.computes, measured=plan.scenario.knowledge == "measured"
        )
        self._conditions = Conditions()
        self._scheduler = plan.scheduler()
        self._open: dict[int, OpenSequence] = {}
        self._replicator = Replicator(plan, devices)
        self.migrator = Migrator(
            plan,
            devices,
            self.decider.add_refusal,
            lambda: self.recovery.faults.all_answer,
            self._replicator.make_way,
            self._replicator.give_way,
        )
        self.recovery = Recovery(
            plan,
            devices,
            self._scheduler,
            self.migrator,
            self.decider,
            self._open,
            self._complete_at_loss,
            self._replicator,
        )
        self._opened = 0  # sequences that devices know
        self._observer = observer
        self._records = records
        self._zero_s = 0.0

    async def run(self) -> None:
        """Launch the devices, generate every sequence, and end the devices."""
        async with self.devices.launched():
            await self.devices.assign(self.plan)
            with self.decider.alarm.kept():
                await self.run_requests()
            await self.devices.end()
            self._record()  # what devices have told at the end

    async def run_requests(self) -> None:
        """Generate every sequence, on devices that have their blocks."""
        resumed = self.plan.resumed
        begun = 1 + max(resumed.tokens, default=-1) if resumed else 0
        await self._open_ahead(begun + self.plan.concurrency)
        await self._replicator.begin(self.recovery.faults.gone)
        at_s, wall_s = (resumed.at_s, resumed.wall_s) if resumed else (0.0, 0.0)
        self._zero_s = (await self.devices.begin(at_s)).wall_s - wall_s
        await self.recovery.faults.announce()
        if resumed:
            await self._resume(resumed)
        try:
            while self._scheduler.unfinished:
                await self._admit()
                if not await self._migrate():  # what was decided, once no step is in flight
                    continue
                await self._step()
                token = await self._measure()
                if token is not None and (following := await self._complete(token)):
                    await self._decide(following)
            await self.devices.settle()
            self.recovery.faults.tell_rest()
            self._tell(self.recovery.take_lines())
        finally:
            self._record()

    async def _resume(self, resumed: Continuation) -> None:
        """Take up sequences as another run left them, and bring devices to where its devices were."""
        for sequence, rows in sorted(resumed.tokens.items()):
            request = self.plan.requests[sequence]
            self._observer.sequence_started(sequence, request.prompt, request.max_tokens)
            for row in rows:
                self._observer.token(sequence, row.step, row.text, row.latency_s)
            if sequence in resumed.ended:
                self._observer.sequence_ended(sequence)
            else:
                opened = self._open[sequence] = resumed.open[sequence]
                opened.since = self.devices.instant(rows[-1].emulated_s)
        slots_s = resumed.free_s(self.plan.concurrency)
        self._scheduler.resume(resumed.waiting, resumed.ended, slots_s, resumed.at_s)
        for due in resumed.of_first_sequence:
            await self._apply_events(due)
        await self.recovery.resume(resumed.at_s)
        self._tell(self.recovery.take_lines())
        self._tell_placement()

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

    async def _migrate(self) -> bool:
        """Continue a migration that waits for the steps in flight, when there are none.

        False: a fault has come before its end.
        """
        if self.migrator.waits and self._scheduler.drained:
            old, at_s = self.migrator.placement, self._scheduler.now_s
            waiting = list(self._scheduler.waiting.values())
            by_s = self.recovery.faults.next_s
            may_start_s = await self.migrator.advance(waiting, at_s, by_s)
            if may_start_s is None:
                await self._pass_time(by_s)
                return False
            self._scheduler.delay_all(may_start_s)
            if (new := self.migrator.placement) is not old:
                first = min((due.step for due in waiting), key=lambda step: step.step)
                prompt = first.sequence + 1 if len(self.plan.requests) > 1 else None
                change = PlacementChange(old, new, self.decider.asked, first.step, may_start_s - at_s, prompt)
                self._tell(self._told.moved(change))
            self._tell_placement()
        return True

    async def _pass_time(self, by_s: float | None) -> None:
        """Go on to an instant before which no token was sampled, and have happen what happens until then."""
        lost_s = self.recovery.faults.note_losses()
        now_s = by_s if lost_s is None else lost_s
        if now_s is not None:
            self._scheduler.advance_to(now_s)
        await self.recovery.pass_time(self._scheduler.now_s)
        self._tell(self.recovery.take_lines())
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
        instants_s = [
            at_s for at_s in (self._scheduler.next_arrival_s, self.recovery.faults.next_s) if at_s is not None
        ]
        by_s = min(instants_s, default=None)
        token = await self.devices.next_token(by_s)
        if token is None:
            await self._pass_time(by_s)
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
        await self.recovery.replicate(at_s)
        return following

    async def _complete_at_loss(self, token: SampledToken) -> None:
        """Take a token whose step could not be given up any more, and record what it took: a recovery may be long."""
        await self._complete(token)
        self._record()

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
        ended = self.plan.resumed.ended if self.plan.resumed else ()
        for sequence in (n for n in range(self._opened, until) if n not in ended):
            await self.devices.open(sequence, self.plan.requests[sequence])
        self._opened = max(self._opened, until)

    async def _apply_events(self, due: Due) -> None:
        """Change the cluster as the scenario has it for this token, before anything else happens for it."""
        if due.step.sequence == 0:
            for change in self.plan.cluster.events_at(due.step.step):
                await self.devices.change(change, due.at_s)
        await self.recovery.faults.at_token(due)

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
        faults, recoveries = self.recovery.take_rows()
        self._records.append("faults", faults)
        self._records.append("recoveries", recoveries)
        self._observer.worked(rows, self._scheduler.now_s)
