"""Recovery of a run that has lost devices: steps are given up, blocks placed anew, caches filled, and the run goes on.

The controller tells how late it is; nothing here waits for anything but devices.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from edgeemu.errors import InfeasibleError
from edgeemu.placement.placement import Placement
from edgeemu.placement.replicas import Replica
from edgeemu.placement.restoration import layers_to_restore, restoring
from edgeemu.placement.valid_rows import RowLevel, ValidRows
from edgeemu.report.rows import FaultRow, RecoveryRow
from edgeemu.run.backend import Backend, SampledToken
from edgeemu.run.decider import Decider
from edgeemu.run.migrator import Migrator, Restoration
from edgeemu.run.open_sequence import OpenSequence
from edgeemu.run.plan import Plan
from edgeemu.run.recovery.fault_clock import Occurrence
from edgeemu.run.recovery.faulty_devices import FaultyDevices
from edgeemu.run.recovery.fill_caches import filling_of, most_rows
from edgeemu.run.recovery.progress import RecoveryProgress
from edgeemu.run.recovery.replicator import Promotion, Replicator
from edgeemu.timeline.scheduler import Due, Scheduler
from edgeemu.timeline.steps import BEFORE_ALL, Step

IN_VAIN = 50  # attempts of one recovery in a row that were cut short by another loss, and came no further
MOST_ATTEMPTS = 300  # of one recovery


class _Chosen(NamedTuple):
    """Placements to try, the best first, the replicas that they rest on, and when they were known."""

    placements: list[Placement]
    promotion: Promotion | None
    known_s: float


class Recovery:
    """Recovery of one run from the faults of its devices and links."""

    def __init__(
        self,
        plan: Plan,
        devices: Backend,
        scheduler: Scheduler,
        migrator: Migrator,
        decider: Decider,
        sequences: Mapping[int, OpenSequence],
        complete: Callable[[SampledToken], Awaitable[object]],
        replicator: Replicator,
    ) -> None:
        """`complete` takes a token that was sampled before its step could be given up."""
        self.faults = FaultyDevices(plan, devices, decider)
        self._plan, self._devices, self._scheduler = plan, devices, scheduler
        self._migrator, self._decider = migrator, decider
        self._sequences, self._complete, self._replicator = sequences, complete, replicator
        self._rules = plan.rules.recovery
        self._rows: list[RecoveryRow] = []
        self._latest: Occurrence | None = None  # what has cut an attempt short

    def take_rows(self) -> tuple[list[FaultRow], list[RecoveryRow]]:
        """Return the rows since the last call."""
        rows = self.faults.rows, self._rows
        self.faults.rows, self._rows = [], []
        return rows

    def take_lines(self) -> list[str]:
        """Return what is to be told the user since the last call."""
        lines = [*self.faults.lines, *self._replicator.lines]
        self.faults.lines, self._replicator.lines = [], []
        return lines

    async def replicate(self, at_s: float) -> None:
        """Have replicas follow what was computed up to an instant, unless something that was lost is not restored."""
        if self.faults.emptied:
            return
        placement, moving = self._migrator.placement, self._migrator.busy
        await self._replicator.keep_up(placement, self._scheduler.open_steps, self.faults.gone, at_s, moving=moving)

    async def resume(self, at_s: float) -> None:
        """Bring a run back to an instant that it had come to: have happen what had, and fill caches from the tokens."""
        await self.faults.catch_up(at_s)
        progress = RecoveryProgress(at_s, at_s, none_filled=True)
        restored_s = await self._restore(at_s, progress)
        self._tell(progress, restored_s)
        self.faults.lines.append(
            f"resumed at {at_s:.3g} s: {progress.rows} rows computed again, in {1e3 * (restored_s - at_s):.1f} ms"
        )

    async def pass_time(self, at_s: float) -> None:
        """Have happen what happens up to an instant, and recover from it."""
        if began := await self.faults.happen(at_s):
            await self._recover(began, at_s)

    # -- recovery -------------------------------------------------------------------------------------------------

    @property
    def _lost(self) -> set[int]:
        """Devices that had blocks, and have lost them."""
        return self.faults.emptied & set(self._migrator.placement.devices())

    async def _recover(self, began: Occurrence, at_s: float) -> None:
        """Have the run go on without devices that are gone, if they had blocks."""
        if not self._lost:
            await self._migrator.abandon(self.faults.gone | self.faults.emptied)
            self._forget_emptied(set(self.faults.emptied))
            return
        progress = RecoveryProgress(began.began_s, at_s, began)
        self._tell(progress, await self._restore(at_s, progress))

    def _tell(self, progress: RecoveryProgress, at_s: float) -> None:
        """Tell what was lost, and what that has cost."""
        if progress.cause is None:
            return
        names = ", ".join(self.faults.name(device) for device in sorted(progress.lost))
        self.faults.lines.append(
            f"{names} lost at {progress.began_s:.3g} s ({progress.cause.fault.kind}), noticed after "
            f"{1e3 * (progress.noticed_s - progress.began_s):.0f} ms: {len(progress.blocks)} blocks placed anew, "
            f"{progress.rows} rows computed again, in {1e3 * (at_s - progress.noticed_s):.1f} ms"
        )

    async def _restore(self, at_s: float, progress: RecoveryProgress) -> float:
        """Place anew what was lost, and fill caches that lack rows. Return when that is done."""
        outcome = "recovered"
        try:
            while self._lost or not progress.done:
                if progress.in_vain == IN_VAIN or progress.attempts == MOST_ATTEMPTS:
                    raise InfeasibleError(
                        f"devices are lost faster than the run recovers: {progress.attempts} attempts since "
                        f"{progress.began_s:.6g} s, of which the last {progress.in_vain} came no further"
                    )
                progress.attempts += 1
                if progress.cause is None and self._latest is not None:
                    progress.begin(self._latest, at_s)
                progress.lost |= self._lost - progress.cleared
                at_s = await self._attempt(at_s, progress)
        except InfeasibleError as error:
            outcome = f"failed: {error}"
            raise
        finally:
            if progress.lost:
                self._rows.append(self._row(progress, at_s, outcome))
        return at_s

    async def _attempt(self, at_s: float, progress: RecoveryProgress) -> float:
        """Place anew, bring weights, fill caches. Return when steps go on, or when something else was lost."""
        waiting = await self._give_up_steps(at_s, progress)
        valid = progress.valid = progress.valid or self._rows_of(waiting, none_filled=progress.none_filled)
        current, gone_with_blocks, losses = self._migrator.placement, self._lost, self.faults.losses.copy()
        progress.sequences = len(waiting)
        try:
            anew = await self._decide(gone_with_blocks, waiting, at_s)
            at_s = anew.known_s
            progress.decided_s = at_s if progress.decided_s is None else progress.decided_s
            rows = anew.promotion.rows if anew.promotion else dict.fromkeys(valid.kept, 0)
            valid.cut(layers_to_restore(current, gone_with_blocks), rows)
            progress.note_lacking(valid.lacking)
            await self._rewind(valid)
            if gone_with_blocks:
                progress.blocks |= {block for block, device in current.owner.items() if device in gone_with_blocks}
                lost = frozenset(self.faults.gone | gone_with_blocks)
                promoted = anew.promotion.replicas if anew.promotion else frozenset[Replica]()
                step = min((due.step for due in waiting), default=BEFORE_ALL)
                what = Restoration(step, lost, valid, self._store, promoted)
                moved = await self._migrator.restore(
                    anew.placements, what, at_s, self._passes, lambda: self.faults.next_s
                )
                progress.moves += moved.moves
                progress.sent_bytes += moved.sent_bytes
                if not moved.committed:
                    return self._scheduler.now_s
                at_s = moved.at_s
                self._forget_emptied({at for at in self.faults.emptied if self.faults.losses[at] == losses[at]})
        except InfeasibleError:
            if await self._make_room(at_s, progress):
                return at_s
            raise
        progress.placed_s = at_s
        while valid.levels:
            filled, at_s = await self._fill_lowest(valid, at_s, progress)
            if not filled:
                return at_s
        await self._devices.follow(self._plan.compiled(self._migrator.placement))
        progress.done = True
        self._forget_emptied(set(self.faults.emptied))
        self._scheduler.delay_all(at_s)
        return at_s

    def _rows_of(self, waiting: Sequence[Due], *, none_filled: bool) -> ValidRows:
        """Return the rows that caches have when a recovery begins."""
        valid = ValidRows({due.step.sequence: due.step.past for due in waiting})
        if none_filled:
            valid.cut(self._plan.model.shape.n_layers, dict.fromkeys(valid.kept, 0))
        return valid

    async def _rewind(self, valid: ValidRows) -> None:
        """Have all devices shorten caches to the rows that are valid, level by level."""
        for layers, rows in [*reversed(valid.levels)] or [RowLevel(0, valid.kept)]:
            await self._devices.rewind(rows, layers, valid.kept)
            self._replicator.rewound(rows, layers, valid.kept)

    async def _give_up_steps(self, at_s: float, progress: RecoveryProgress) -> list[Due]:
        """Give up steps in flight, and a migration under way. Return the steps that wait."""
        for ended in await self._devices.halt(at_s):
            if ended.step.step >= 0:
                await self._complete(ended)
            elif progress.valid is not None:
                self._note_filled(ended.step, progress.valid, progress)
        self._scheduler.give_up(at_s)
        names = ", ".join(self.faults.name(device) for device in sorted(self._lost)) or "a device"
        await self._migrator.give_up(f"{names} was lost")
        return list(self._scheduler.waiting.values())

    async def _decide(self, lost: Collection[int], waiting: Sequence[Due], at_s: float) -> _Chosen:
        """Decide where what was lost goes: where its replicas are, or as the policy says."""
        current = self._migrator.placement
        if not lost:
            return _Chosen([current], None, at_s)
        if len(self.faults.gone) == len(self._plan.cluster.devices):
            names = ", ".join(map(self.faults.name, sorted(self.faults.gone)))
            raise InfeasibleError(f"no device is left: {names} are gone")
        kept = {due.step.sequence: due.step.past for due in waiting}
        out = self.faults.gone | self.faults.emptied
        if promotion := await self._replicator.promotion(current, out, kept, at_s):
            return _Chosen([promotion.placement], promotion, at_s)
        placements, at_s = await self._decider.place_anew(current, lost, waiting, at_s, self._store)
        return _Chosen(placements, None, at_s)

    async def _fill_lowest(self, valid: ValidRows, at_s: float, progress: RecoveryProgress) -> tuple[bool, float]:
        """Compute the rows that caches of the lowest level lack. Return whether all are there, and the instant."""
        program, (layers, rows), wanted = self._plan.compiled(self._migrator.placement), valid.levels[0], valid.wanted
        lacking = max(end - rows[sequence] for sequence, end in wanted.items())
        at_once = most_rows(self._decider.asked, self._migrator.placement, lacking)
        await self._devices.follow(restoring(program, layers), at_once, max(wanted.values()) - at_once)
        todo = filling_of({sequence: (rows[sequence], end) for sequence, end in wanted.items()}, at_once)
        return await self._fill(todo, valid, at_s, progress)

    async def _make_room(self, at_s: float, progress: RecoveryProgress) -> bool:
        """Drop replicas, or else all that survivors hold: blocks may have room in another order. Return whether any."""
        if await self._replicator.give_way():
            return True
        holding = set(self._migrator.placement.devices()) - self.faults.emptied
        cleared = await self.faults.clear(holding, at_s)
        progress.cleared |= cleared
        return bool(cleared)

    def _forget_emptied(self, devices: Collection[int]) -> None:
        """Note that nothing is needed any more of what devices held that have lost it."""
        self._replicator.lost(devices)
        self.faults.emptied.difference_update(devices)

    async def _fill(
        self, todo: Mapping[int, deque[Step]], valid: ValidRows, at_s: float, progress: RecoveryProgress
    ) -> tuple[bool, float]:
        """Compute rows of caches again, of all sequences. Return whether all are there, and the instant."""
        flying, done_s = 0, at_s
        for steps in todo.values():
            await self._start_filling(steps.popleft(), at_s)
            flying += 1
        while flying:
            next_s = self.faults.next_s
            filled = await self._devices.next_token(next_s)
            if filled is None:
                if await self._passes(next_s):
                    return False, self._scheduler.now_s
                continue
            now_s, steps = filled.at.emulated_s, todo[filled.step.sequence]
            done_s = max(done_s, now_s)
            self._note_filled(filled.step, valid, progress)
            if steps:
                await self._start_filling(steps.popleft(), now_s)
            else:
                flying -= 1
        return True, done_s

    @staticmethod
    def _note_filled(step: Step, valid: ValidRows, progress: RecoveryProgress) -> None:
        progress.rows += step.rows
        valid.fill(step.sequence, step.past + step.rows)

    async def _start_filling(self, step: Step, at_s: float) -> None:
        ids = self._sequences[step.sequence].ids[step.past : step.past + step.rows]
        await self._devices.start(step, ids, at_s)

    async def _passes(self, at_s: float | None) -> bool:
        """Have happen what happens at an instant, or was noticed, in a recovery. Return whether it begins again."""
        lost_s = self.faults.note_losses()
        now_s = at_s if lost_s is None else lost_s
        if now_s is not None:
            self._scheduler.advance_to(now_s)
        self._latest = await self.faults.happen(self._scheduler.now_s)
        return self._latest is not None and bool(self._lost)

    @property
    def _store(self) -> int | None:
        """The device that has all weights, while it is there."""
        store = self._rules.store
        return store if store not in self.faults.gone else None

    def _row(self, progress: RecoveryProgress, at_s: float, outcome: str) -> RecoveryRow:
        return RecoveryRow(
            began_s=progress.began_s,
            noticed_s=progress.noticed_s,
            decided_s=progress.noticed_s if progress.decided_s is None else progress.decided_s,
            placed_s=progress.placed_s,
            restored_s=at_s,
            lost=", ".join(self.faults.name(device) for device in sorted(progress.lost)),
            blocks=len(progress.blocks),
            moves=progress.moves,
            bytes=progress.sent_bytes,
            rows=progress.rows,
            sequences=progress.sequences,
            attempts=progress.attempts,
            outcome=outcome,
        )
