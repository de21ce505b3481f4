"""Device processes that fail, and those that go on: killed, stopped and forked again; steps given up and run again."""

import asyncio
from collections.abc import Mapping

import msgspec

from edgeemu.cluster.devices import Device
from edgeemu.device import protocol_in
from edgeemu.host.stopped import Standstill
from edgeemu.placement.program import Program
from edgeemu.run.backend import Loss, SampledToken
from edgeemu.run.plan import Plan
from edgeemu.run.processes.emulated_time import EmulatedTime
from edgeemu.run.processes.installed_program import InstalledProgram
from edgeemu.run.processes.launch import LaunchedDevices
from edgeemu.run.processes.losses import Heartbeat, Losses
from edgeemu.run.processes.openings import Openings
from edgeemu.run.processes.replicas import ProcessReplicas
from edgeemu.run.processes.step_reports import StepReports
from edgeemu.run.recovery.fault_clock import noticed_s


class ProcessFailures:
    """The `FailingDevices` of device processes."""

    def __init__(
        self,
        plan: Plan,
        devices: LaunchedDevices,
        installed: InstalledProgram,
        emulated: EmulatedTime,
        reports: StepReports,
        openings: Openings,
        replicas: ProcessReplicas,
    ) -> None:
        self._plan, self._devices, self._installed = plan, devices, installed
        self._session, self._presence = devices.session, devices.session.presence
        self._time, self._reports, self._openings, self._replicas = emulated, reports, openings, replicas
        self._alarms: dict[int, asyncio.TimerHandle] = {}  # of devices that go on by themselves

    def note_losses(self, dilation: float, standstills: list[Standstill]) -> None:
        """Have the run go on without devices that are lost from now on, which is noticed by the scenario's rules."""
        rules = self._plan.rules.recovery
        self._session.losses = Losses(
            Heartbeat(rules.interval_s * dilation, rules.misses),
            self._time.now_s,
            self._devices.kill,
            lambda device: self._forget(device, self._time.now_s()),
            standstills,
        )

    async def end_device(self, device: int, at_s: float) -> None:
        await self._time.complete()
        await self._time.reach(at_s)
        await self._devices.end(self._device(device))
        self._forget(device, at_s)

    async def stop_device(self, device: int, at_s: float, until_s: float) -> None:
        """Stop a process at its instant. Where nothing is paced it does not wait: the timeline alone stands still."""
        clock = self._time.clock
        if clock is None or not self._presence.answers(device):
            return
        await self._time.reach(at_s)
        await self._devices.stop(self._device(device))
        self._cancel_alarm(device)
        for_good = self._is_noticed(at_s, until_s)
        self._presence.stands_still(device, for_good=for_good)
        if not for_good:
            left_s = clock.dilation * (until_s - self._time.now_s())
            self._alarms[device] = asyncio.get_running_loop().call_later(left_s, self._go_on, device)

    def told(self, messages: Mapping[int, protocol_in.ChangeDevice]) -> dict[int, protocol_in.ChangeDevice]:
        """Return what paced devices are to be told of changes: not of a standstill that none of them lives to end.

        A device that knew of it would begin to wait for that end with an operation before it, deaf to its controller.
        """
        if self._time.clock is None:
            return dict(messages)
        return {
            device: msgspec.structs.replace(message, still_until_s=None)
            if message.still_until_s is not None and self._is_noticed(message.at_s, message.still_until_s)
            else message
            for device, message in messages.items()
        }

    async def continue_device(self, device: int) -> None:
        self._go_on(device)

    async def restart_device(self, device: int, at_s: float) -> None:
        await self._time.reach(at_s)
        await self._devices.restart(self._device(device), self._installed.cluster)
        clock, session = self._time.clock, self._session
        await session.ask({device: protocol_in.Assign(self._installed.epoch, self._plan.model.spec, [], [])})
        if clock is not None:
            await session.ask({device: protocol_in.Begin(clock.start_s, clock.dilation, paced=True)})
        await self._openings.open_all(device)
        self._time.restart_device(device, at_s)

    def take_losses(self) -> list[Loss]:
        losses = self._session.losses
        return losses.take() if losses is not None else []

    async def halt(self, at_s: float) -> list[SampledToken]:
        await self._time.complete()
        epoch = self._installed.next_epoch()
        await self._session.ask_all(protocol_in.Halt(epoch))
        await self._session.catch_up()  # also what those have said before that stand still, and do not answer
        self._installed.install(self._installed.program, epoch)
        tokens = self._time.halt(at_s)
        self._reports.give_up()
        return tokens

    async def rewind(self, rows: Mapping[int, int], layers: int, kept: Mapping[int, int]) -> None:
        await self._session.ask_all(protocol_in.Rewind(dict(rows), layers, dict(kept)))
        self._reports.rewound(kept)

    async def follow(self, program: Program, rows: int = 0, past: int = 0) -> None:
        epoch, installed = self._installed.next_epoch(), self._installed
        await self._session.ask(
            {
                at: protocol_in.Follow(epoch, program.on(at), installed.peers(program, at), rows, past)
                for at in self._presence.answering()
            }
        )
        installed.install(program, epoch)

    def _is_noticed(self, at_s: float, until_s: float) -> bool:
        """Whether a device that stands still is given up before it goes on."""
        rules = self._plan.rules.recovery
        return noticed_s(at_s, rules.interval_s, rules.misses) < until_s

    async def end(self) -> None:
        """Have processes that stand still go on, so that they can end; kill those that stand still for good."""
        if self._session.losses is not None:
            alive = self._devices.fleet.alive
            self._session.losses.last_look({name: alive[name] for name in self._presence.moving(alive)})
        for device in tuple(self._presence.paused):
            self._go_on(device)
        for device in tuple(self._presence.stuck):
            await self._devices.end(self._device(device))
            self._forget(device, self._time.now_s())

    def _go_on(self, device: int) -> None:
        self._cancel_alarm(device)
        if device not in self._presence.gone:
            self._devices.go_on(self._device(device))
            self._presence.goes_on(device)

    def _forget(self, device: int, at_s: float) -> None:
        """Note that a device is gone from an instant on: nothing is expected of it."""
        self._cancel_alarm(device)
        self._devices.caps.release(self._device(device).name)
        self._openings.write_off(device)
        self._reports.write_off(device)
        self._replicas.lost(device)
        self._time.end_device(device, at_s)

    def _cancel_alarm(self, device: int) -> None:
        if (alarm := self._alarms.pop(device, None)) is not None:
            alarm.cancel()

    def _device(self, device: int) -> Device:
        return self._installed.cluster.devices[device]
