"""Makes the plan of a run from a scenario: model, cluster, workload, first placement. Starts no process."""

import time
from collections.abc import Sequence
from dataclasses import replace
from heapq import nlargest
from typing import NamedTuple

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.draw.cluster import draw
from edgeemu.errors import RequestError
from edgeemu.placement.compile_gather import check_gather
from edgeemu.placement.costs import Costs, PhysicalCosts
from edgeemu.placement.paper_costs import PaperCosts
from edgeemu.placement.placement import PlacementError, is_divided
from edgeemu.policies import STEADY, Policy, prepare
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.links_at import link_factors_at
from edgeemu.policies.view.oracle import nominal_computes, oracle_view
from edgeemu.policies.view.rehearsal import Length, Rehearsal
from edgeemu.policies.view.step_energy import missing_links, missing_power
from edgeemu.run.ask_policy import first_decision
from edgeemu.run.choose_policy import at_policy, check_named, choose_policy, names_code
from edgeemu.run.given_placement import given_placement
from edgeemu.run.plan import Plan, Rules, compiler, least_tile_rows, with_collectives
from edgeemu.run.policy_process.separate_policy import PolicyError, SeparatePolicy
from edgeemu.run.recovery.place_anew import without
from edgeemu.run.requests import Request, make_requests
from edgeemu.scenario.scenario import Scenario
from edgeemu.timeline.steps import roofline_durations
from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.weights.open_model import Model, open_gguf, open_huggingface, seeded_model

LINKS_CHECKED = 32  # devices between which all links are checked for their energy


class Unplaced(NamedTuple):
    """Everything of a plan that no policy decides."""

    model: Model
    requests: tuple[Request, ...]
    cluster: Cluster
    computes: tuple[Compute, ...]
    links: LinkMatrix
    view: ClusterView


def make_plan(scenario: Scenario, policy_name: str | None = None, *, trust: bool = False) -> Plan:
    """Open the model, draw the cluster, tokenize the prompts and have the policy place the blocks.

    Whoever has the plan closes it. `trust`: a file that the scenario names as its policy may be run.

    Raises:
        RequestError: the model's file or package is missing or broken, a prompt does not fit it, no such policy; or a
            user's policy is not trusted, fails or gives a wrong answer.
        InfeasibleError: the cluster cannot hold the model.
        RunError: a built-in policy failed, or the process of a user's could not be started.
    """
    place = choose_policy(scenario, policy_name, trust=trust)
    scenario = with_collectives(scenario, policy_name or scenario.policy)
    try:
        return _placed(scenario, policy_name, place, unplaced(scenario))
    except BaseException:
        if isinstance(place, SeparatePolicy):
            place.close()
        raise


class Checked(NamedTuple):
    """Names and numbers of a scenario that is right. `placed`: its policy was asked too."""

    scenario: str
    model: str
    devices: int
    prompts: int
    policy: str
    placed: bool


def check(scenario: Scenario, policy_name: str | None = None) -> Checked:
    """Make a plan as far as that runs no code that the scenario names. Raises as `make_plan` does."""
    placed = policy_name is not None or not names_code(scenario)
    if placed:
        made = make_plan(scenario, policy_name)
        made.close()
        model, cluster, requests = made.model, made.cluster, made.requests
    else:
        check_named(scenario)
        model, requests, cluster, *_ = unplaced(scenario)
    name = policy_name or scenario.policy
    return Checked(scenario.name, model.name, len(cluster.devices), len(requests), name, placed)


def unplaced(scenario: Scenario) -> Unplaced:
    """Open the model, draw the cluster and tokenize the prompts; asks no policy. Raises as `make_plan` does."""
    model = _open_model(scenario)
    try:
        requests = make_requests(scenario, model)
    except ModelFileError as error:
        raise scenario.error("model", str(error)) from error
    cluster = draw(scenario)
    host, links = _host_speed(cluster), LinkMatrix.of(cluster)
    view = _first_view(scenario, cluster, _costs(scenario, model, requests), host, links, requests)
    _check_energy_known(scenario, cluster)
    return Unplaced(model, requests, cluster, nominal_computes(cluster, host), links, view)


def _placed(scenario: Scenario, policy_name: str | None, place: Policy | SeparatePolicy, setting: Unplaced) -> Plan:
    """Ask for the first placement, with which the plan is complete."""
    model, requests, cluster, computes, links, view = setting
    name, rules = policy_name or scenario.policy, Rules.of(scenario)
    if view.gather and rules.recovery.caches != "none":
        raise scenario.error(
            "recovery", f"moves blocks, and with collectives: gather, which {name} has, they stay; give recovery: none"
        )
    if view.gather and name not in STEADY:
        raise scenario.error(
            "sharding.collectives",
            f"gather divides rows of matrices, which cannot move, and {name} moves blocks; take distributed-llama-0.1 "
            "or another policy that places once",
        )
    view = without(view, cluster.faults.absent)
    at_first = replace(view, rehearse=make_rehearsal(scenario, cluster, computes, view, requests))
    prepare(name, view)
    try:
        first = first_decision(place, at_first, rules.decision_limit_s)
    except PolicyError as error:
        raise at_policy(scenario, policy_name, error) from error
    if view.gather and is_divided(first.placement, model.shape.n_layers):
        try:
            check_gather(first.placement, model.shape)
        except PlacementError as error:
            raise scenario.error("sharding.collectives", str(error)) from error
    plan = Plan(
        scenario,
        name,
        model,
        cluster,
        computes,
        links,
        view,
        requests,
        first.placement,
        first.took_s,
        rules,
        None if name in STEADY and (view.gather or not _memory_varies(scenario)) else place,
        _decision_scale(scenario, cluster),
        None if rules.recovery.caches == "none" else place,
        first.problem,
    )
    _ = plan.replicas  # which may have no room
    return plan


def make_rehearsal(
    scenario: Scenario, cluster: Cluster, computes: Sequence[Compute], view: ClusterView, requests: Sequence[Request]
) -> Rehearsal:
    """Return a simulator of the first steps of a run under any placement, on the cluster as it is at the start."""
    return Rehearsal(
        cluster.still(0.0),
        view.exact,
        roofline_durations([device.compute for device in view.devices], view.exact),
        compiler(scenario, computes, view.exact),
        [Length(request.prompt_tokens, request.max_tokens) for request in requests],
        min(scenario.workload.concurrency, len(requests)),
        bubbles=scenario.workload.pipeline == "bubbles",
    )


def _first_view(
    scenario: Scenario,
    cluster: Cluster,
    costs: Costs,
    host: Compute | None,
    links: LinkMatrix,
    requests: Sequence[Request],
) -> ClusterView:
    """Return the view for the first decision: the cluster at its start, and the longest sequences of the workload."""
    rules = Rules.of(scenario)
    longest, *concurrent = nlargest(scenario.workload.concurrency, (request.total_tokens for request in requests))
    prompt_tokens = max(len(request.ids) for request in requests)
    view = oracle_view(cluster, costs.uniform("mean"), host, prompt_tokens, longest, links=links)
    measured = scenario.knowledge == "measured" and cluster.links_vary
    return replace(
        view,
        observed=link_factors_at(links, cluster, 0.0).other_than_nominal() if measured else view.observed,
        workload=replace(view.workload, interval_tokens=rules.interval_tokens, concurrent=tuple(concurrent)),
        star=scenario.sharding.collectives in ("star", "relay"),
        gather=scenario.sharding.collectives == "gather",
        tile_rows=least_tile_rows(scenario, [device.compute for device in view.devices], costs),
        divide=scenario.sharding.divide,
        weights_on_flash=rules.weights_on_flash,
        flash_bytes_per_s=rules.flash_bytes_per_s,
        chunk_bytes=rules.chunk_bytes,
        precopy=rules.precopy,
        source=scenario.source_index,
        objective=scenario.objective,
        energy_budget_j=scenario.energy_budget,
        given=given_placement(scenario, costs.shape),
        by_layer=None if view.costs == costs else costs,
    )


def _check_energy_known(scenario: Scenario, cluster: Cluster) -> None:
    """Refuse a scenario that asks for energy without the figures for it; of very many links, only some are checked."""
    field = "energy_budget" if scenario.energy_budget is not None else "objective"
    if scenario.energy_budget is None and scenario.objective != "energy":
        return
    some = range(min(len(cluster.devices), LINKS_CHECKED))
    unknown = [(a, b) for a in some for b in some if a != b and cluster.j_per_bit(a, b) is None]
    missing = missing_power(cluster.devices) or missing_links(cluster, unknown)
    if missing:
        raise scenario.error(field, f"energy cannot be computed: {missing}")


def _costs(scenario: Scenario, model: Model, requests: Sequence[Request]) -> Costs:
    """Return the cost formulas of the scenario."""
    if scenario.cost.formulas == "physical":
        return PhysicalCosts(model.shape)
    if scenario.sharding.collectives == "gather":
        raise scenario.error("cost", "literal costs have no formulas for collectives that gather")
    lengths = {len(request.ids) for request in requests}
    if len(lengths) > 1:
        raise scenario.error("cost", "literal costs need prompts of one length; give all the same number of tokens")
    prompt = lengths.pop()
    try:
        return PaperCosts(model.shape, scenario.cost.value_bytes, prompt_tokens=prompt, length=prompt)
    except RequestError as error:
        raise scenario.error("cost", error.message) from None


def _memory_varies(scenario: Scenario) -> bool:
    """Return whether a placement that fits at the start may not fit later."""
    loaded = any(device.memory_load is not None for device in scenario.devices)
    return loaded or any(event.memory is not None for event in scenario.events)


def _open_model(scenario: Scenario) -> Model:
    """Open the model, reading headers only. Its name is that in the scenario, not that in its file."""
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
    asked = scenario.precision
    try:
        model = model.at_precision(asked.weights, asked.cache, asked.messages)
    except ModelFileError as error:
        raise scenario.error("precision.weights", str(error)) from error
    if scenario.sharding.partials == "messages":
        model = model.with_rounded_partials()
    if asked.hold == "expanded":
        model = model.with_expanded()
    return replace(model, name=weights.name, shape=replace(model.shape, name=weights.name))


def _decision_scale(scenario: Scenario, cluster: Cluster) -> float:
    """Return how many times as long as on this host a decision takes on the device that decides; 1 without one.

    [D] As with `host_fraction`, speeds are in proportion to those of the kernels: operations per second of a matrix
    product on one core of this host, over those of the device. No catalog has the speed of Python on a board.
    """
    if scenario.decisions.on is None:
        return 1.0
    device = cluster.devices[scenario.device_names.index(scenario.decisions.on)]
    if device.compute is None:
        assert device.host_fraction is not None
        return 1.0 / device.host_fraction
    return _this_host().flops_per_s / device.compute.flops_per_s


def _host_speed(cluster: Cluster) -> Compute | None:
    """Measure this machine's speed; None if no device is given as a fraction of it."""
    if all(device.host_fraction is None for device in cluster.devices):
        return None
    return _this_host()


def _this_host() -> Compute:
    """Measure one core of this machine, without what other programs take meanwhile."""
    from edgeemu_kernels.profile.host import measure  # asks the BLAS: only where a figure is this host's

    host = measure(time.thread_time)
    return Compute(host.gflops * 1e9, host.mem_bytes_per_s, 0.0)
