"""Prediction of a measurement by the timeline: equal boards with given figures, under an engine."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from edgeemu.cluster.draw.cluster import draw
from edgeemu.errors import EdgeemuError, RequestError
from edgeemu.placement.model_bytes import model_bytes
from edgeemu.placement.program import Program
from edgeemu.run.calibrate.measurement import Measurement
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan, compiler
from edgeemu.scenario.catalog import model_entry
from edgeemu.scenario.document import Document
from edgeemu.scenario.scenario import Scenario
from edgeemu.scenario.validation import validate
from edgeemu.scenario.workload import Workload
from edgeemu.timeline.prediction import SequenceTimes, predict_workload
from edgeemu.timeline.steps import Duration, Step, roofline_durations

TOKENS = 3  # that are generated of one sequence: its time per token is the mean of the second's and the third's
TOKENS_OF_MANY = 10  # of each of several sequences: the first two of each fill the pipeline
UNBOUND_FLOPS = 1e15  # where nothing is known of arithmetic: it then bounds nothing

Figures = Mapping[str, float]  # of a board, by the names of a device's keys in a scenario, in base units


class Predicted(NamedTuple):
    """Predicted time of a measurement, and the part of it in which the first device computes."""

    taken_s: float
    compute_s: float


class Predictor:
    """Predictor of measurements under one engine. A division is planned once, then simulated with any figures."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self._planned = cache(self._plan)
        self._compiled = cache(self._program)
        self._simulated = cache(self._simulation)  # who fits asks for derivatives and errors where it has just been

    def predict(self, measured: Measurement, figures: Figures) -> Predicted:
        """Predict one measurement. `figures` have `gflops` and `mem_bandwidth`; the engine has what they lack."""
        return self._simulated(measured, tuple(sorted(figures.items())))

    def _simulation(self, measured: Measurement, given: tuple[tuple[str, float], ...]) -> Predicted:
        figures = dict(given)
        plan = self._planned(measured)
        read = {"mem_bandwidth": figures["mem_bandwidth"] / measured.weights.stretch}
        devices = tuple(spec.model_copy(update=figures | read) for spec in plan.scenario.devices)
        cluster = draw(plan.scenario.model_copy(update={"devices": devices}))
        computes = [device.compute for device in cluster.devices if device.compute is not None]
        duration = roofline_durations(computes, plan.costs)
        lengths = [request.max_tokens for request in plan.requests]
        program = self._compiled(measured, computes[0].messages_cost)
        made = predict_workload(cluster, plan.costs, program, duration, plan.scheduler(), lengths)
        if measured.phase == "prefill":
            step = Step(0, 0, measured.context, 0)
            return Predicted(made[0].ttft_s, _compute_s(program, duration, step))
        skipped = 2 if measured.sequences > 1 else 0
        per_s = sum(_tokens_per_s(times, skipped) for times in made)
        return Predicted(1.0 / per_s, _compute_s(program, duration, Step(0, 1, 1, measured.context)))

    def _program(self, measured: Measurement, messages_cost: bool) -> Program:
        """Operations of a measurement; those that messages take of processors are there only where they cost."""
        plan = self._planned(measured)
        computes = [replace(each, message_s=float(messages_cost), byte_s=0.0) for each in plan.computes]
        return compiler(plan.scenario, computes, plan.costs)(plan.placement)

    def _plan(self, measured: Measurement) -> Plan:
        data = scenario_data(measured, self.engine)
        if measured.scenario is None:
            scenario = validate(Scenario, Document(data, measured.where))
        else:
            workload = Workload.model_validate(data["workload"])
            scenario = measured.scenario.model_copy(update={"workload": workload})
        try:
            plan = make_plan(scenario)
        except EdgeemuError as error:
            raise RequestError(f"{self.engine} cannot run it: {error}", file=measured.where) from error
        plan.close()  # the division stays as it is
        return plan


def _tokens_per_s(times: SequenceTimes, skipped: int) -> float:
    sampled_s = times.sampled_s[skipped:]
    return (len(sampled_s) - 1) / (sampled_s[-1] - sampled_s[0])


def _compute_s(program: Program, duration: Duration, step: Step) -> float:
    """Time of a step in which the first device computes, without what messages take of it."""
    mine = (op for op in program.ops if op.device == 0 and op.computes and op.steps.has(step.rows))
    return sum(duration(op, step) for op in mine)


def scenario_data(measured: Measurement, engine: str) -> dict[str, Any]:
    """Return the data of a measurement's scenario: equal boards, with memory for everything."""
    many = measured.sequences > 1
    tokens = 1 if measured.phase == "prefill" else TOKENS_OF_MANY if many else TOKENS
    board: dict[str, Any] = {
        "name": "board",
        "count": measured.nodes,
        "gflops": f"{UNBOUND_FLOPS!r} FLOPS",
        "mem_bandwidth": f"{first_bandwidth(measured)!r} B/s",
        "memory": "100 TB",
    }
    data: dict[str, Any] = {
        "name": "calibration",
        "model": {"name": measured.model, "weights_seed": 0},
        "engine": engine,
        "precision": {"weights": measured.weights.name} | ({"cache": measured.cache} if measured.cache else {}),
        "devices": [board],
        "workload": {
            "prompts": [{"tokens": measured.context, "repeat": measured.sequences}],
            "max_tokens": tokens,
            "concurrency": measured.sequences,
        },
    }
    if measured.link is not None:
        data["network"] = {"default": measured.link._asdict()}
        board["nic"] = measured.link.bandwidth  # all links of a board leave through its one interface
    return data


def first_bandwidth(measured: Measurement) -> float:
    """Return a rough bandwidth to begin with: all weights read once in the measured time, in bytes per second."""
    shape = model_entry(measured.model).model_shape().at_precision(weights=measured.weights.name)
    tokens = measured.context if measured.phase == "prefill" else 1
    return model_bytes(shape) * measured.weights.stretch * tokens / measured.nodes / measured.taken_s
