"""From a scenario to what a run needs: model, cluster, workload, placement, memory. Starts no process."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import nlargest
from math import ceil
from typing import Self

from edgeemu.blocks import Costs
from edgeemu.cluster import Cluster, Compute
from edgeemu.deciding import first_decision
from edgeemu.energy import missing_links, missing_power
from edgeemu.errors import RequestError
from edgeemu.literal import LiteralCosts
from edgeemu.memory import MemoryPage, Usage
from edgeemu.placement import Placement
from edgeemu.policies import STEADY, Policy, policy
from edgeemu.prediction import SequenceTimes, predict_workload
from edgeemu.rehearsal import Length, Rehearsal
from edgeemu.routes import Program, compile_routes
from edgeemu.sampling import draw
from edgeemu.scenario import Scenario
from edgeemu.schedule import Schedule
from edgeemu.simulate import Duration, Prediction, predict, roofline_durations
from edgeemu.view import ClusterView, Links, oracle_view, whole_devices
from edgeemu.workload import Request, make_requests
from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.host import measure
from edgeemu_kernels.model import Model, open_gguf, open_huggingface, seeded_model

DECISION_LIMIT_S = 10.0  # a policy that has not answered by then is not waited for
LINKS_CHECKED = 32  # devices of which all links are asked for their energy, before a run that needs it


@dataclass(frozen=True, slots=True)
class Rules:
    """How often the policy is asked, what of its time counts, and how blocks move."""

    interval_tokens: int
    threshold: float  # by what share something must have changed
    decision_s: float | None  # what a decision takes on the timeline; None: what it really took
    decision_limit_s: float
    precopy: bool
    weights_on_flash: bool
    flash_bytes_per_s: float
    chunk_bytes: int

    @classmethod
    def of(cls, scenario: Scenario) -> Self:
        decisions, migration = scenario.decisions, scenario.migration
        return cls(
            interval_tokens=decisions.interval,
            threshold=decisions.threshold,
            decision_s=None if decisions.time == "measured" else decisions.time,
            decision_limit_s=DECISION_LIMIT_S,
            precopy=migration.mode == "precopy",
            weights_on_flash=migration.weights_on_flash,
            flash_bytes_per_s=migration.flash_bandwidth,
            chunk_bytes=migration.chunk,
        )


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before a device is started. `decide`, where it is there, is asked again on the way."""

    scenario: Scenario
    policy: str
    model: Model
    cluster: Cluster
    whole: tuple[Compute, ...]  # what each device can do with nothing else on it
    links: Links  # as they are by themselves
    view: ClusterView
    requests: tuple[Request, ...]
    placement: Placement
    placed_in_s: float
    rules: Rules
    decide: Policy | None = None

    @property
    def costs(self) -> Costs:
        return self.view.costs

    @property
    def concurrency(self) -> int:
        """So many sequences at once, at most."""
        return min(self.scenario.workload.concurrency, len(self.requests))

    @cached_property
    def program(self) -> Program:
        return self.compiled(self.placement)

    def compiled(self, placement: Placement) -> Program:
        """A placement's operations, with shards joined as the scenario says."""
        return _compiled(self.scenario, self.whole, self.costs, placement)

    def usages(self, placement: Placement) -> list[Usage]:
        """What each device holds under a placement, with as many sequences as run at once, at their full lengths."""
        return self.view.usages(placement)

    @cached_property
    def pages(self) -> list[MemoryPage]:
        """What each device will hold at most."""
        return [usage.page() for usage in self.usages(self.placement)]

    @property
    def durations(self) -> Duration:
        """How long each operation takes by the roofline; relative devices by this host's measured speed."""
        return roofline_durations(self.whole, self.costs)

    def prediction(self, request: int = 0, start_s: float = 0.0) -> Prediction:
        """What the timeline alone says of one sequence that starts at an instant, if it runs to its full length."""
        asked, program, durations = self.requests[request], self.program, self.durations
        return predict(self.cluster, self.costs, program, durations, len(asked.ids), asked.max_tokens, start_s)

    def schedule(self) -> Schedule:
        """The order in which sequences run, at its beginning."""
        bubbles = self.scenario.workload.pipeline == "bubbles"
        return Schedule(self.requests, self.concurrency, bubbles=bubbles)

    def predictions(self, lengths: Sequence[int] | None = None) -> list[SequenceTimes]:
        """What the timeline alone says of the whole workload under the first placement.

        `lengths` are the tokens of each sequence; without them, they run to their full lengths.
        """
        lengths = lengths or [request.max_tokens for request in self.requests]
        return predict_workload(self.cluster, self.costs, self.program, self.durations, self.schedule(), lengths)


def arithmetic_rows(computes: Sequence[Compute], value_bytes: int) -> int:
    """Of how many rows a product must be for its arithmetic to take as long as reading its weights, on any device.

    [D] Smaller tiles would read weights once more each, and take longer than the messages that they hide.
    """
    return max(1, *(ceil(value_bytes * device.flops_per_s / (2 * device.mem_bytes_per_s)) for device in computes))


def make_plan(scenario: Scenario, policy_name: str | None = None) -> Plan:
    """Opens the model, draws the cluster, tokenizes the prompts and lets the policy place.

    Raises:
        RequestError: the model's file or package is missing or broken, a prompt does not fit it, no such policy.
        InfeasibleError: the cluster cannot hold the model.
    """
    name = policy_name or scenario.policy
    try:
        place = policy(name)
    except RequestError as error:
        if policy_name is not None:
            raise RequestError(error.message, field="--policy") from None
        raise scenario.error("policy", error.message) from None
    model = _open_model(scenario)
    try:
        requests = make_requests(scenario, model)
    except ModelFileError as error:
        raise scenario.error("model", str(error)) from error
    cluster = draw(scenario)
    host, links = _host_speed(cluster), Links.of(cluster)
    longest, *beside = nlargest(scenario.workload.concurrency, (request.total_tokens for request in requests))
    view = oracle_view(
        cluster,
        _costs(scenario, model, requests),
        host,
        max(len(request.ids) for request in requests),
        longest,
        links=links,
    )
    rules = Rules.of(scenario)
    view = replace(
        view,
        interval_tokens=rules.interval_tokens,
        star=scenario.sharding.collectives == "star",
        divide=scenario.sharding.divide,
        weights_on_flash=rules.weights_on_flash,
        flash_bytes_per_s=rules.flash_bytes_per_s,
        source=scenario.source_index,
        beside=tuple(beside),
        objective=scenario.objective,
        energy_budget_j=scenario.energy_budget,
    )
    _check_energy_known(scenario, cluster)
    whole = whole_devices(cluster, host)
    at_first = replace(view, rehearse=_rehearsal(scenario, cluster, whole, view, requests))
    first = first_decision(place, at_first, rules.decision_limit_s)
    return Plan(
        scenario,
        name,
        model,
        cluster,
        whole,
        links,
        view,
        requests,
        first.placement,
        first.took_s,
        rules,
        None if name in STEADY and not _memory_varies(scenario) else place,
    )


def _compiled(scenario: Scenario, whole: Sequence[Compute], costs: Costs, placement: Placement) -> Program:
    sharding = scenario.sharding
    tile_rows = arithmetic_rows(whole, costs.value_bytes) if sharding.tile_overlap else None
    return compile_routes(placement, costs.shape, sharding.collectives, tile_rows=tile_rows)


def _rehearsal(
    scenario: Scenario, cluster: Cluster, whole: Sequence[Compute], view: ClusterView, requests: Sequence[Request]
) -> Rehearsal:
    """What placements would come to with everything as it is at the start."""
    return Rehearsal(
        cluster.still(),
        view.costs,
        roofline_durations([device.compute for device in view.devices], view.costs),
        lambda placement: _compiled(scenario, whole, view.costs, placement),
        [Length(request.prompt_tokens, request.max_tokens) for request in requests],
        min(scenario.workload.concurrency, len(requests)),
        bubbles=scenario.workload.pipeline == "bubbles",
    )


def _check_energy_known(scenario: Scenario, cluster: Cluster) -> None:
    """Where energy is asked for, it can be reckoned; of very many links, some are looked at."""
    field = "energy_budget" if scenario.energy_budget is not None else "objective"
    if scenario.energy_budget is None and scenario.objective != "energy":
        return
    some = range(min(len(cluster.devices), LINKS_CHECKED))
    unknown = [(a, b) for a in some for b in some if a != b and cluster.j_per_bit(a, b) is None]
    missing = missing_power(cluster.devices) or missing_links(cluster, unknown)
    if missing:
        raise scenario.error(field, f"energy cannot be reckoned: {missing}")


def _costs(scenario: Scenario, model: Model, requests: Sequence[Request]) -> Costs:
    """What the scenario has blocks cost."""
    if scenario.cost.formulas == "physical":
        return Costs(model.shape)
    lengths = {len(request.ids) for request in requests}
    if len(lengths) > 1:
        raise scenario.error("cost", "literal costs know prompts of one length; give all the same number of tokens")
    prompt = lengths.pop()
    try:
        return LiteralCosts(model.shape, scenario.cost.value_bytes, prompt_tokens=prompt, length=prompt)
    except RequestError as error:
        raise scenario.error("cost", error.message) from None


def _memory_varies(scenario: Scenario) -> bool:
    """Whether what fits now may not fit later."""
    loaded = any(device.memory_load is not None for device in scenario.devices)
    return loaded or any(event.memory is not None for event in scenario.events)


def _open_model(scenario: Scenario) -> Model:
    """Reads headers only. The model has the name that the scenario gives it, whatever its file calls itself."""
    try:
        weights = scenario.model.weights()
        if weights.gguf is not None:
            model = open_gguf(weights.gguf)
        elif weights.directory is not None:
            model = open_huggingface(weights.directory)
        else:
            assert weights.shape is not None
            assert weights.seed is not None
            model = seeded_model(weights.shape, weights.seed)
    except (ModelFileError, RequestError) as error:
        raise scenario.error("model", str(error)) from error
    return replace(model, name=weights.name, shape=replace(model.shape, name=weights.name))


def _host_speed(cluster: Cluster) -> Compute | None:
    """This machine's speed, measured only where a device is given as a fraction of it."""
    if all(device.host_fraction is None for device in cluster.devices):
        return None
    host = measure(time.perf_counter)
    return Compute(host.gflops * 1e9, host.mem_bytes_per_s, 0.0)
