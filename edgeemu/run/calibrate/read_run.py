"""Measurements from the records of a run of edgeemu's own: its scenario, and the latencies in its summary.json."""

import json
from dataclasses import replace
from pathlib import Path

from edgeemu.errors import RequestError
from edgeemu.policies import POLICIES
from edgeemu.report.figure_texts import exact_text
from edgeemu.run.calibrate.measurement import Joined, Measurement, weight_format
from edgeemu.scenario.devices import DeviceSpec
from edgeemu.scenario.load import load_scenario
from edgeemu.scenario.scenario import Scenario

MAX_SEQUENCES = 16  # of a run, of which each gives a prompt and a time per token


def is_run(path: Path) -> bool:
    """Whether a path is the directory of a run, or a summary.json in one."""
    return (path / "summary.json").is_file() or path.name == "summary.json"


def read_run(path: Path) -> tuple[Measurement, ...]:
    """Read the measurements of a run of one model on equal devices, one sequence at a time. Raises `RequestError`."""
    directory = path.parent if path.name == "summary.json" else path
    file = directory / "summary.json"
    scenario = load_scenario(directory / "scenario.yaml")
    try:
        summary = json.loads(file.read_text("utf-8"))
        sequences = summary["sequences"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"is no summary of a run: {error}", file=str(file)) from None
    why_not = _why_not(scenario, summary)
    if why_not:
        raise RequestError(f"cannot be fitted: {why_not}", file=str(file))
    assert scenario.model.name is not None
    common = Measurement(
        str(file),
        scenario.model.name,
        weight_format(scenario.precision.weights),
        len(scenario.devices),
        _link(scenario),
        taken_s=1.0,
        engine=scenario.engine,
        scenario=scenario.model_copy(update={"policy": summary["policy"]}),
    )
    found = []
    for sequence in sequences[:MAX_SEQUENCES]:
        where = f"{file}: sequences[{sequence['sequence']}]"
        prompt, tokens = sequence["prompt_tokens"], sequence["tokens"]
        first_s = sequence["ttft_s"] - sequence["queue_s"]
        found.append(replace(common, where=where, taken_s=first_s, phase="prefill", context=prompt))
        if sequence["tpot_s"] is not None:
            middle = prompt + tokens // 2
            found.append(replace(common, where=where, taken_s=sequence["tpot_s"], context=middle))
    return tuple(found)


def _why_not(scenario: Scenario, summary: object) -> str:
    """Say why a run is no measurement of equal boards that stay as they are; empty if it is one."""
    if not isinstance(summary, dict):
        return "it is not a mapping"
    if scenario.model.name is None:
        return "its model is none of the catalog"
    if scenario.precision.weights == "file":
        return "its weights are in the formats of a file"
    if scenario.workload.concurrency > 1:
        return "several sequences run at once, and wait for each other"
    if scenario.events or summary.get("migrations", {}).get("count"):
        return "devices, links or the placement change while it runs"
    if summary.get("policy") not in POLICIES:
        return "its policy is code of a user's"
    if scenario.network.default is not None and not isinstance(scenario.network.default.bandwidth, float):
        return "its links are not equal"
    if len({_figures(device) for device in scenario.devices}) > 1:
        return "its devices are not equal"
    return ""


def _figures(device: DeviceSpec) -> str:
    """Everything of a device but its name and memory."""
    return device.model_copy(update={"name": "", "memory": None}).model_dump_json()


def _link(scenario: Scenario) -> Joined | None:
    default = scenario.network.default
    if len(scenario.devices) == 1 or default is None:
        return None
    assert isinstance(default.bandwidth, float)  # resolved, and not random
    delay_s = default.delay if isinstance(default.delay, float) else 0.0
    return Joined(exact_text("bandwidth", default.bandwidth), exact_text("delay", delay_s))
