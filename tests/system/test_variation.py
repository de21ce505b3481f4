# ruff: noqa: E501  # a scenario's settings
"""Load, throttling and events in whole runs: devices, virtual time and simulator agree with the timeline alone."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from support.watching import RecordedRun

from edgeemu.cluster.variation import done_s
from edgeemu.errors import RequestError
from edgeemu.report.record_files import read_table
from edgeemu.run.backend import Backend, StepMeasurement
from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.run_scenario import run_scenario
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.run.watcher import Watcher
from edgeemu.scenario.load import parse_scenario
from edgeemu.timeline.scheduler import Due

BASE = """
name: varying
seed: 3
model:
  shape: {n_layers: 2, d_model: 64, n_heads: 8, n_kv_heads: 4, head_dim: 8, d_ff: 128, vocab_size: 300, max_context: 64}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}
  - {name: b, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 8 MiB}
network: {default: {bandwidth: 10 Mbit/s, delay: 3 ms}}
policy: round-robin
decisions: {time: 0 ms}
time: {dilation: 2}
workload: {prompts: [{tokens: 9}], max_tokens: 6}
"""
LOAD = "devices[1].load={trace: [[0 s, 50 %], [30 ms, 0 %], [60 ms, 80 %], [100 ms, 30 %]]}"
WALK = "devices[0].load={walk: {mean: 30 %, spread: 20 %}, every: 5 ms}"
LINK = "network.default.variation={bandwidth: {uniform: {low: 20 %, high: 100 %}, every: 7 ms}, delay: {walk: {mean: 2 ms, spread: 1 ms}, every: 9 ms}}"
THROTTLE = "devices[0].throttle={after: 50 ms, to: 40 %, over: 50 ms}"
SLOWER = "events=[{at_token: 3, device: b, speed: 25 %}]"
FARTHER = "events=[{at_token: 3, link: [a, b], bandwidth: 1 Mbit/s, delay: 9 ms}]"
EVENTS = "events=[{at: 40 ms, device: a, speed: 30 %}, {at_token: 2, device: b, speed: 50 %}, {at_token: 4, link: [a, b], delay: 9 ms}]"


def plan_of(*settings: str) -> Plan:
    return make_plan(parse_scenario(BASE, "varying", settings))


def emulated(tmp_path: Path, *settings: str, simulate: bool = False) -> tuple[float, list[float], list[dict[str, Any]]]:
    """When a run began, when its tokens were sampled, and its operations."""
    scenario = parse_scenario(BASE, "varying", settings)
    running = run_scenario(scenario, policy=None, out=tmp_path, observer=Silent(), simulate=simulate)
    made = uvloop.run(running)
    tokens = read_table(made.directory, "tokens").to_pylist()
    began_s = tokens[0]["emulated_s"] - tokens[0]["latency_s"]
    return began_s, [token["emulated_s"] for token in tokens], read_table(made.directory, "ops").to_pylist()


@pytest.mark.parametrize("settings", [(LOAD, WALK, LINK), (THROTTLE, EVENTS, LINK)], ids=["courses", "events"])
@pytest.mark.parametrize("how", ["paced", "virtual", "simulated"])
def test_a_run_takes_what_the_timeline_alone_says(tmp_path: Path, how: str, settings: tuple[str, ...]) -> None:
    mode = () if how == "paced" else ("time.mode=virtual",)
    began_s, sampled_s, _ = emulated(tmp_path, *settings, *mode, simulate=how == "simulated")
    plan = plan_of(*settings)
    assert began_s == 0.0
    assert sampled_s == pytest.approx(plan.predictions()[0].sampled_s, rel=1e-9)
    assert sampled_s != pytest.approx(plan_of().predictions()[0].sampled_s, rel=1e-3)


def durations_s(ops: list[dict[str, Any]], device: str) -> dict[int, float]:
    """Durations of a device's operations in each step but the first, added up."""
    by_step: dict[int, float] = defaultdict(float)
    for op in ops:
        if op["device"] == device and op["step"] > 0:
            by_step[op["step"]] += op["end_s"] - op["start_s"]
    return by_step


@pytest.mark.parametrize("mode", ["realtime", "virtual"])
def test_an_event_at_a_token_holds_from_that_token_on(tmp_path: Path, mode: str) -> None:
    _, _, before = emulated(tmp_path / "before", "time.mode=virtual")
    _, _, after = emulated(tmp_path / "after", f"time.mode={mode}", SLOWER)
    for device, factor in (("a", 1.0), ("b", 4.0)):
        usual, now = durations_s(before, device), durations_s(after, device)
        for step in range(1, 6):
            assert now[step] == pytest.approx(usual[step] * (factor if step >= 3 else 1.0), rel=1e-9)


@pytest.mark.parametrize("mode", ["realtime", "virtual"])
def test_a_link_that_changes_at_a_token_does_so_for_all_who_send_over_it(tmp_path: Path, mode: str) -> None:
    """round-robin sends both ways. The tokens before are as they were, those after later by the same each."""
    _, usual, _ = emulated(tmp_path / "before", "time.mode=virtual")
    began_s, changed, _ = emulated(tmp_path / "after", f"time.mode={mode}", FARTHER)
    later = [b - began_s - a for a, b in zip(usual, changed, strict=True)]
    assert later[:3] == pytest.approx([0, 0, 0], abs=1e-9)
    steps = [later[3] - later[2], later[4] - later[3], later[5] - later[4]]
    assert min(steps) > 0.006 * 2
    assert steps == pytest.approx([steps[0]] * 3, rel=1e-3)  # but for a cache that grows, while others wait


def test_devices_relative_to_the_host_share_it_with_their_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeemu.timeline.kernel_times.KEPT", 1)  # each takes what was measured of itself
    relative = ("devices[1].gflops=null", "devices[1].mem_bandwidth=null", "devices[1].host_fraction=0.5")
    _, _, ops = emulated(tmp_path, *relative, LOAD, "time.mode=virtual")
    load = plan_of(LOAD).cluster.devices[1].availability
    seen = [op for op in ops if op["device"] == "b"]
    assert seen
    for op in seen:
        assert done_s(load, op["start_s"], op["end_s"]) == pytest.approx(op["cpu_s"] / 0.5, rel=1e-9)


# -- what the controller learns -------------------------------------------------------------------------------


class Heard:
    """A backend, and what it has let a watcher observe: a list of steps each time."""

    def __init__(self, devices: Backend) -> None:
        self._devices = devices
        self.times: list[list[StepMeasurement]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._devices, name)

    async def observe(self) -> list[StepMeasurement]:
        self.times.append(await self._devices.observe())
        return self.times[-1]


class Listening(RecordedRun):
    """Asks for the view when it would be time to decide; remembers what it was."""

    def __init__(self, plan: Plan, devices: Backend) -> None:
        super().__init__(replace(plan, decide=None), devices)
        self.views: list[Any] = []
        self.heard = Heard(devices)
        self.watcher = Watcher(plan, self.heard)  # type: ignore[arg-type]  # it has what it does not define

    async def _apply_events(self, due: Due) -> None:
        await super()._apply_events(due)
        if due.step.step and due.step.step % self.plan.rules.interval_tokens == 0:
            self.views.append(await self.watcher.view([due.step], due.at_s, 1))

    @property
    def observed(self) -> list[StepMeasurement]:
        return [observed for time in self.heard.times for observed in time]


def listened(how: str, *settings: str) -> Listening:
    mode = () if how == "paced" else ("time.mode=virtual",)
    plan = plan_of(*settings, *mode)
    devices = SimulatedBackend(plan) if how == "simulated" else ProcessBackend(plan, Silent().phase)
    controller = Listening(plan, devices)
    uvloop.run(controller.run())
    return controller


@pytest.mark.parametrize("how", ["paced", "virtual", "simulated"])
def test_what_is_measured_of_a_steady_cluster_is_its_data_sheet(how: str) -> None:
    made = listened(how)
    for view in made.views:
        for device, sheet in zip(view.devices, made.plan.computes, strict=True):
            assert device.compute.flops_per_s == pytest.approx(sheet.flops_per_s, rel=1e-9)
            assert device.memory_bytes == 8 * 2**20
        assert view.bandwidth_bps(0, 1) == pytest.approx(10e6, rel=1e-6)
        assert view.delay_s(1, 0) == pytest.approx(0.003, rel=1e-6)


@pytest.mark.parametrize("how", ["paced", "virtual", "simulated"])
def test_a_slower_device_is_noticed_after_the_token_in_which_it_was(how: str) -> None:
    """Smoothing is 50 %: after one token half of the change is known, after two three quarters."""
    made = listened(how, SLOWER)
    slowdowns = [made.plan.computes[1].flops_per_s / view.devices[1].compute.flops_per_s for view in made.views]
    assert slowdowns == pytest.approx([1, 1, 1, 2.5, 3.25], rel=1e-6)


@pytest.mark.parametrize("how", ["paced", "virtual", "simulated"])
def test_who_is_asked_seldom_has_still_seen_every_step(how: str) -> None:
    """At the decision before token 5 the estimate is what it is with one before every token."""
    made = listened(how, SLOWER, "decisions.interval=5")
    (view,) = made.views
    assert made.plan.computes[1].flops_per_s / view.devices[1].compute.flops_per_s == pytest.approx(3.25, rel=1e-6)
    made = listened(how, "workload.prompts=[{tokens: 9}, {tokens: 3}]", "decisions.interval=4")
    steps = [[{done.step[:2] for done in observed.executions} for observed in time] for time in made.heard.times]
    before_it = [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 0), (1, 1), (1, 2), (1, 3)]
    assert steps == [[{step} for step in before_it[:4]], [{step} for step in before_it[4:]]]
    assert all(done.step.past == (0, 9, 10, 11)[n] for n in range(4) for done in made.heard.times[0][n].executions)


def test_an_oracle_knows_at_once() -> None:
    made = listened("virtual", SLOWER, "knowledge=oracle")
    slowdowns = [made.plan.computes[1].flops_per_s / view.devices[1].compute.flops_per_s for view in made.views]
    assert slowdowns == pytest.approx([1, 1, 4, 4, 4])
    made = listened("virtual", FARTHER, "knowledge=oracle")
    assert [view.delay_s(0, 1) for view in made.views] == [0.003, 0.003, 0.009, 0.009, 0.009]
    assert [view.bandwidth_from(0)[1] for view in made.views] == pytest.approx([10e6, 10e6, 1e6, 1e6, 1e6])


def test_paced_devices_and_the_timeline_observe_the_same() -> None:
    paced, virtual = listened("paced", FARTHER), listened("virtual", FARTHER)
    for there, here in zip(paced.observed, virtual.observed, strict=True):
        ours = {t[:3]: (t.messages, t.sum_s) for t in here.transits}
        theirs = {t[:3]: (t.messages, t.sum_s) for t in there.transits}
        assert ours.keys() == theirs.keys()
        for way, (messages, sum_s) in ours.items():
            assert theirs[way] == (messages, pytest.approx(sum_s, rel=1e-6))


def test_an_idle_device_tells_its_load_and_every_device_its_memory() -> None:
    made = listened(
        "paced",
        "policy=single",
        LOAD,
        "devices[1].memory_load=50 %",
        "events=[{at_token: 2, device: b, memory: 1 MiB}]",
    )
    (worker,) = made.plan.placement.devices()
    assert worker == 0
    assert [view.devices[1].memory_bytes for view in made.views] == [4 * 2**20, *[2**19] * 4]
    assert all(view.devices[1].compute.flops_per_s < 0.8e9 for view in made.views)


@pytest.mark.parametrize("setting", ["loss=0.9999999999999999", "bandwidth=1e-300 bit/s"])
def test_a_link_that_takes_for_ever_ends_the_run_with_the_cause(tmp_path: Path, setting: str) -> None:
    with pytest.raises(RequestError, match=r"^token 0 of prompt 1 would be there after .* A link is too slow or loses"):
        emulated(tmp_path, f"network.default.{setting}", simulate=True)
    [directory] = tmp_path.iterdir()
    assert read_table(directory, "tokens").num_rows == read_table(directory, "ops").num_rows == 0
