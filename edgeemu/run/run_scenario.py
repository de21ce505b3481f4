"""A scenario from beginning to end: plan, directory, devices, records, summary. The shell around the controller."""

import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from edgeemu.cluster.devices import Device
from edgeemu.cluster.draw.resolve import resolved_yaml
from edgeemu.links.netns.capabilities import probe_host
from edgeemu.policies.view.step_energy import missing_power
from edgeemu.report.disk import RecordsError
from edgeemu.report.energy import radio_energy
from edgeemu.report.facts import DeviceFacts, Ended, Heartbeats, ResumedFrom, RunFacts
from edgeemu.report.figures import token_counts
from edgeemu.report.record_files import RecordWriter
from edgeemu.report.run_directory import RunDirectory
from edgeemu.report.summary import summarise
from edgeemu.run.backend import Backend, RunMeasurements
from edgeemu.run.basis import basis_of
from edgeemu.run.buffered_records import buffered
from edgeemu.run.choose_links import LinkChoice, choose_links
from edgeemu.run.controller import Controller
from edgeemu.run.observer import Observer
from edgeemu.run.plan import Plan
from edgeemu.run.planned import planned
from edgeemu.run.resume.copy_rows import copy_rows
from edgeemu.run.resume.read_run import RunToResume, continuation
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.scenario import Scenario
from edgeemu.timeline.kernel_times import KernelTimes
from edgeemu_kernels.errors import ModelFileError

LIBRARIES = ("edgeemu", "numpy", "pyzmq", "uvloop", "pyarrow", "gguf", "tokenizers")


@dataclass(frozen=True, slots=True)
class RunResult:
    summary: dict[str, Any]
    directory: Path


async def run_scenario(
    scenario: Scenario,
    *,
    policy: str | None,
    out: Path,
    observer: Observer,
    simulate: bool = False,
    trust: bool = False,
    share: bool = False,
    resume: RunToResume | None = None,
) -> RunResult:
    """Runs a scenario and writes what it leaves below `out`, as it goes: also a run that fails or is ended is recorded.

    With `simulate` there are no devices: the same decisions, migrations and records on the timeline alone.
    `trust`: a file that the scenario names as its policy may be run. The records are this user's alone; with `share`
    the umask says who can read them. `resume`: a run whose scenario this is, and which this one goes on from.

    Raises:
        RequestError: also for literal costs without `simulate`, and for a run that cannot be resumed.
        RequestError, InfeasibleError: before anything is started (the second also if this host has too little memory),
            or when a device finds its model file changed or its memory full.
        RunError: a device died or broke the protocol.
        RecordsError: the disk is full, or the directory of the records was removed.
    """
    if not simulate and scenario.cost.formulas == "literal":
        raise scenario.error(
            "cost", "literal costs are the simulator's: devices really compute; use simulate, or --set cost=physical"
        )
    observer.phase("plan", 0, 1)
    with planned(scenario, policy, trust=trust, on_devices=not simulate) as plan:
        return await _run_plan(plan, out, observer, simulate=simulate, share=share, resume=resume)


async def _run_plan(
    plan: Plan, out: Path, observer: Observer, *, simulate: bool, share: bool, resume: RunToResume | None
) -> RunResult:
    if resume is not None:
        plan = _resumed(plan, resume)
    scenario = plan.scenario
    links = choose_links(scenario, plan.cluster, simulate=simulate, probe=probe_host)
    observer.phase("plan", 1, 1)
    observer.planned(plan)
    started_utc = datetime.now(UTC)
    directory = RunDirectory.create(out, scenario.name, plan.policy, started_utc, share=share)
    observer.directory(directory.path)
    text = resume.scenario_text if resume else resolved_yaml(scenario, plan.absolute_policy)
    directory.write_scenario(text)
    meta = _meta(plan, links, started_utc)
    directory.write_meta(meta)

    facts = _facts(plan, links, resume, simulate=simulate)

    def on_ready(told: dict[str, str]) -> None:
        directory.write_meta({**meta, **told})
        directory.write_facts(_with_measured(facts, devices))

    devices = SimulatedBackend(plan) if simulate else _processes(plan, observer, on_ready, links)
    about = {"run": directory.path.name, "scenario": scenario.name, "policy": plan.policy, "seed": str(scenario.seed)}
    records = RecordWriter(directory.path, about)
    directory.write_facts(facts)
    if resume and plan.resumed:
        copy_rows(resume.path, plan.resumed, records)
    try:
        async with buffered(records) as sink:
            await Controller(plan, devices, observer, sink).run()
    except RecordsError:  # nothing can be written any more; what was is read like that of a run that was killed
        raise
    except BaseException as error:
        _conclude(directory, _with_measured(facts, devices), plan, devices.measured, "failed")
        if isinstance(error, ModelFileError):  # the tokenizer cannot decode what the model generates
            raise scenario.error("model", str(error)) from error
        raise
    summary = _conclude(directory, _with_measured(facts, devices), plan, devices.measured, "done")
    return RunResult(summary, directory.path)


def _resumed(plan: Plan, run: RunToResume) -> Plan:
    """Return the plan that goes on from a run, at its dilation and with the placement that was in force."""
    resumed = continuation(run, plan, [_device_facts(device) for device in plan.cluster.devices])
    scenario = plan.scenario
    if scenario.time.mode == "realtime" and resumed.tokens:
        time_spec = scenario.time.model_copy(update={"dilation": run.facts.dilation})
        scenario = scenario.model_copy(update={"time": time_spec})
    return replace(plan, scenario=scenario, placement=resumed.placement or plan.placement, resumed=resumed)


def _processes(
    plan: Plan, observer: Observer, on_ready: Callable[[dict[str, str]], None], links: LinkChoice
) -> Backend:
    from edgeemu.run.processes.backend import ProcessBackend  # a simulation does without

    return ProcessBackend(plan, observer.phase, on_ready, links=links)


def _conclude(
    directory: RunDirectory, facts: RunFacts, plan: Plan, measured: RunMeasurements, ended: Ended
) -> dict[str, Any]:
    """Write what is known when the run has ended, however it ended; return the summary."""
    facts = _at_end(facts, plan, measured, token_counts(directory.records), ended)
    directory.write_facts(facts)
    summary = summarise(directory.records, facts)
    directory.write_summary(summary)
    return summary


def _facts(plan: Plan, links: LinkChoice, resume: RunToResume | None, *, simulate: bool) -> RunFacts:
    """Collect what is known before a device is started."""
    scenario, resumed = plan.scenario, plan.resumed
    earlier = resume.facts.resumed if resume else []
    return RunFacts(
        scenario=scenario.name,
        policy=plan.policy,
        model=plan.model.name,
        devices=[_device_facts(device) for device in plan.cluster.devices],
        mode="simulated" if simulate else scenario.time.mode,
        objective=scenario.objective,
        concurrency=plan.concurrency,
        cost=scenario.cost.formulas,
        links=str(links),
        energy_budget_j=scenario.energy_budget,
        missing_power=missing_power(plan.cluster.devices),
        placed_in_s=plan.placed_in_s,
        has_events=bool(plan.cluster.events or plan.cluster.faults),
        relative_devices=[device.name for device in plan.cluster.devices if device.compute is None],
        decisions_measured=plan.rules.decision_s is None,
        decided_on=scenario.decisions.on,
        basis=basis_of(scenario),
        heartbeat=_heartbeat(plan),
        resumed=[*earlier, ResumedFrom(resumed.run, resumed.at_s)] if resumed else [],
    )


def _heartbeat(plan: Plan) -> Heartbeats | None:
    rules = plan.rules.recovery
    return None if rules.caches == "none" else Heartbeats(rules.interval_s, rules.heartbeat_bytes)


def _device_facts(device: Device) -> DeviceFacts:
    compute = device.compute
    rates = (None, None) if compute is None else (compute.flops_per_s, compute.mem_bytes_per_s)
    watts = device.idle_w, device.busy_w
    return DeviceFacts(device.name, device.memory_bytes, *watts, device.memory_reserved_bytes, *rates)


def _with_measured(facts: RunFacts, devices: Backend) -> RunFacts:
    """Add what the backend has measured so far, apart from what is known only at the end."""
    measured = devices.measured
    return replace(
        facts,
        dilation=devices.dilation,
        ready_s=measured.ready_in_s,
        loaded_s=measured.loaded_in_s,
        limitations=measured.limitations,
        baseline_bytes=measured.baseline_bytes,
        link_tests=measured.link_tests,
    )


def _at_end(facts: RunFacts, plan: Plan, measured: RunMeasurements, lengths: Sequence[int], ended: Ended) -> RunFacts:
    """Add what is known when the run has ended, however it ended; `lengths` are those of the texts, in tokens."""
    sent = measured.sent_bytes
    return replace(
        facts,
        ended=ended,
        peak_bytes=measured.peak_bytes,
        weights_bytes=measured.weights_bytes,
        resident_bytes=measured.resident_bytes,
        group_peak_bytes=measured.group_peak_bytes,
        reordered=sum(measured.reordered.values()),
        host_load=measured.host_load,
        standstills=measured.standstills,
        clock_jumps=measured.clock_jumps,
        radio=None if sent is None else radio_energy(plan.cluster, sent),
        predicted=None if facts.mode == "simulated" else _predicted(plan, lengths, measured.kernel_times),
    )


def _predicted(plan: Plan, reached: Sequence[int], kernel_times: KernelTimes) -> dict[str, float | None]:
    """Compute what the timeline predicts for the first placement, for sequences of the lengths that they reached."""
    lengths = [*reached, *[0] * (len(plan.requests) - len(reached))]
    full = [n or request.max_tokens for n, request in zip(lengths, plan.requests, strict=True)]
    times = plan.predictions(full, kernel_times)
    later = [(t.sampled_s[-1] - t.sampled_s[0], len(t.sampled_s) - 1) for t in times]
    tokens, took_s = sum(n for _, n in later), sum(spent_s for spent_s, _ in later)
    makespan_s = max(t.sampled_s[-1] for t in times) - min(t.arrival_s for t in times)
    return {
        "ttft_ms": 1000 * fmean(t.ttft_s for t in times),
        "tpot_ms": 1000 * took_s / tokens if tokens else None,
        "makespan_s": makespan_s,
        "throughput_tok_s": sum(len(t.sampled_s) for t in times) / makespan_s,
    }


def _meta(plan: Plan, links: LinkChoice, started_utc: datetime) -> dict[str, Any]:
    """The host and the versions: what a reader needs to judge the figures, or to repeat them."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "started_utc": started_utc.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "blas": f"{blas['name']} {blas['version']}, one thread a device",
        "libraries": {name: version(name) for name in LIBRARIES},
        "arguments": sys.argv[1:],
        "seed": plan.scenario.seed,
        "resumed": f"from {plan.resumed.run} at {plan.resumed.at_s:.3f} s" if plan.resumed else None,
        "links": str(links),
        "memory_cap": "ledger",  # this and the next until devices are there
        "scheduling": "none",
    }
