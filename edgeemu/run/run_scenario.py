"""A scenario from beginning to end: plan, directory, devices, records, summary. The shell around the controller."""

import os
import platform
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from edgeemu.cluster.draw.resolve import resolve
from edgeemu.links.netns.capabilities import probe_host
from edgeemu.report.certificate import certify, with_verdict
from edgeemu.report.energy import account
from edgeemu.report.link_certificate import judge_links, links_document
from edgeemu.report.record_files import RecordWriter
from edgeemu.report.run_directory import RunDirectory
from edgeemu.report.summary import DeviceMemory, span_s, summarise
from edgeemu.run.backend import RunMeasurements
from edgeemu.run.choose_links import LinkChoice, choose_links
from edgeemu.run.controller import Controller
from edgeemu.run.make_plan import make_plan
from edgeemu.run.migrator import Migrator
from edgeemu.run.observer import Observer
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import to_yaml
from edgeemu.scenario.scenario import Scenario

LIBRARIES = ("edgeemu", "numpy", "pyzmq", "uvloop", "pyarrow", "gguf", "tokenizers")


@dataclass(frozen=True, slots=True)
class RunResult:
    summary: dict[str, Any]
    directory: Path


async def run_scenario(
    scenario: Scenario, *, policy: str | None, out: Path, observer: Observer, simulate: bool = False
) -> RunResult:
    """Runs a scenario and writes what it leaves below `out`, as it goes: also a run that fails or is ended is recorded.

    With `simulate` there are no devices: the same decisions, migrations and records on the timeline alone.

    Raises:
        RequestError: also for literal costs without `simulate`.
        RequestError, InfeasibleError: before anything is started, or when a device finds its model file changed
            or its memory full.
        RunError: a device died or broke the protocol.
    """
    if not simulate and scenario.cost.formulas == "literal":
        raise scenario.error(
            "cost", "literal costs are the simulator's: devices really compute; use simulate, or --set cost=physical"
        )
    observer.phase("plan", 0, 1)
    plan = make_plan(scenario, policy)
    links = choose_links(scenario, plan.cluster, simulate=simulate, probe=probe_host)
    observer.phase("plan", 1, 1)
    started_utc = datetime.now(UTC)
    directory = RunDirectory.create(out, scenario.name, plan.policy, started_utc)
    observer.directory(directory.path)
    directory.write_scenario(to_yaml(resolve(scenario).model_copy(update={"policy": plan.policy})))
    meta = _meta(plan, links, started_utc)
    directory.write_meta(meta)

    def on_facts(facts: dict[str, str]) -> None:
        directory.write_meta({**meta, **facts})

    with RecordWriter(directory.path) as records:
        devices = SimulatedBackend(plan) if simulate else ProcessBackend(plan, observer.phase, on_facts, links=links)
        controller = Controller(plan, devices, observer, records)
        ended = "failed"
        try:
            await controller.run()
            ended = "done"
        finally:
            summary = {**_summary(controller, devices.measured), "links": str(links), "ended": ended}
            directory.write_summary(summary)
    return RunResult(summary, directory.path)


def _summary(controller: Controller, measured: RunMeasurements) -> dict[str, Any]:
    """What there is so far."""
    plan, migrator = controller.plan, controller.migrator
    mode = controller.devices.mode
    memory = {
        device.name: DeviceMemory(measured.peak_bytes.get(device.name, 0), device.memory_bytes)
        for device in plan.cluster.devices
    }
    summary = summarise(
        scenario=plan.scenario.name,
        policy=plan.policy,
        model=plan.model.name,
        devices=len(plan.cluster.devices),
        tokens=controller.tokens,
        sequences=controller.sequences,
        ops=controller.ops,
        memory=memory,
        controller_s=controller.decider.decision_s or [plan.placed_in_s],
        migrations=_migrations(migrator),
        certificate=certify(controller.tokens, controller.ops, mode=mode, reordered=sum(measured.reordered.values())),
        texts=controller.texts,
    )
    for name, entry in summary["memory"]["by_device"].items():
        entry["weights_bytes"] = measured.weights_bytes.get(name)
        entry["resident_bytes"] = measured.resident_bytes.get(name)
        entry["baseline_bytes"] = measured.baseline_bytes.get(name)
        entry["group_peak_bytes"] = measured.group_peak_bytes.get(name)
    predicted = None if mode == "simulated" else _predicted(controller)
    return {
        **_with_links(summary, controller, measured, predicted),
        **_energy(controller, measured.sent_bytes),
        "objective": plan.scenario.objective,
        "mode": mode,
        "concurrency": plan.concurrency,
        "cost": plan.scenario.cost.formulas,
        "dilation": controller.devices.dilation,
        "decisions": {
            "count": len(controller.decider.decision_s),
            "problems": controller.decider.problems,
            "given_up": controller.decider.given_up or None,
        },
        "weaker": measured.limitations,
        "ready_s": measured.ready_in_s,
        "loaded_s": measured.loaded_in_s,
        "predicted": predicted,
    }


def _energy(controller: Controller, sent: Mapping[tuple[int, int], int] | None) -> dict[str, Any]:
    """What it drew, from the first start to the last token, and what it was allowed."""
    plan, tokens = controller.plan, controller.tokens
    numbers = {device.name: device.index for device in plan.cluster.devices}
    busy_s: dict[int, list[float]] = defaultdict(list)
    for op in controller.ops:
        busy_s[numbers[op.device]].append(op.end_s - op.start_s)
    drawn = account(plan.cluster, span_s(tokens), busy_s, sent)
    return drawn.summary(list(numbers), len(tokens), plan.scenario.energy_budget)


def _with_links(
    summary: dict[str, Any],
    controller: Controller,
    measured: RunMeasurements,
    predicted: dict[str, float | None] | None,
) -> dict[str, Any]:
    """The summary, its certificate with what kernel links came to; the timeline's TPOT is of a run without changes."""
    if not measured.link_tests:
        return summary
    changed = controller.migrator.rows or controller.plan.cluster.events
    beside = None if changed or predicted is None else predicted["tpot_ms"]
    tpot_ms = summary["tpot_ms"]["mean"]
    tests, dilation = measured.link_tests, controller.devices.dilation
    verdict = judge_links(tests, dilation, tpot_ms, beside)
    certificate = with_verdict(summary["certificate"], *verdict)
    return {**summary, "certificate": certificate | {"links": links_document(tests, dilation, tpot_ms, beside)}}


def _migrations(migrator: Migrator) -> dict[str, Any]:
    """Blocks that moved, what was sent for them, and how long tokens waited for it."""
    moved = [row for row in migrator.rows if row.outcome == "committed"]
    pauses_s = {row.epoch: row.pause_s for row in moved}
    return {
        "count": len(moved),
        "bytes": sum(row.bytes for row in migrator.rows),
        "ms": 1000 * sum(pauses_s.values()),
        "changes": len(pauses_s),
        "aborted": len({row.epoch for row in migrator.rows} - pauses_s.keys()),
    }


def _predicted(controller: Controller) -> dict[str, float | None]:
    """What the timeline alone says of the first placement, and of sequences as long as they became."""
    made = Counter(row.sequence for row in controller.tokens)
    requests = controller.plan.requests
    times = controller.plan.predictions([made[n] or request.max_tokens for n, request in enumerate(requests)])
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
        "links": str(links),
        "memory_cap": "ledger",  # this and the next until devices are there
        "scheduling": "none",
    }
