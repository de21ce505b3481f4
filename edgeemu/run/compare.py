"""Runs one scenario under several policies, one after the other, with repeats. Judges nothing."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from edgeemu.errors import EdgeemuError, RequestError, UnsuitableError
from edgeemu.policies import COLLECTIVES, PARTICULAR, POLICIES, exact
from edgeemu.report.comparison import Entry
from edgeemu.report.formats import counted
from edgeemu.run.ask_policy import NoFirstPlacementError
from edgeemu.run.choose_policy import check_policy
from edgeemu.run.make_plan import unplaced
from edgeemu.run.observer import Observer
from edgeemu.run.planned import OF_ONE_RUN
from edgeemu.run.policy_process.separate_policy import PolicyError
from edgeemu.run.possible import Possible, possible
from edgeemu.run.run_scenario import RunResult, run_scenario
from edgeemu.scenario.scenario import Scenario

ALL = "all"
UNPROVEN = "name it to try (--policies all,exact)"
BLOCKS_STAY = "its blocks stay (collectives: gather), and recovery moves blocks; give recovery: none"


class Watch(Protocol):
    """Factory of the observer of a policy's run, which is number `done` + 1 of `total` runs."""

    def __call__(self, policy: str, done: int, total: int) -> AbstractContextManager[Observer]: ...


def named_policies(names: Sequence[str], *, given: bool = False) -> list[str]:
    """Return the policies that were asked for, each once; `all` stands for those that are built in.

    The policy `given` is among all where a placement is given. `single`, the best single device, is always asked for:
    the baseline that every split has to beat.

    Raises:
        RequestError: there is no such policy, or none is named.
    """
    found = expanded(names, given=given)
    return [*found, *(["single"] if "single" not in found else [])]


def expanded(names: Sequence[str], *, given: bool = False) -> list[str]:
    """Return the policies that were asked for, each once: `named_policies` without the baseline. Raises as it does."""
    if not names:
        raise RequestError("no policy is named; write e.g. layers,mdi, or all", field="--policies")
    every = [policy for policy in POLICIES if given or policy != "given"]
    found = list(dict.fromkeys(each for name in names for each in (every if name == ALL else [name])))
    for name in found:
        check_policy(name)
    return found


def problem_text(problem: EdgeemuError) -> str:
    """Return what a table says of a run that has failed: of a user's policy without the place of its name."""
    return problem.message if isinstance(problem, PolicyError) else str(problem)


def optional(policies: Sequence[str]) -> frozenset[str]:
    """Return the policies that only `all` stands for, and that may be unable to answer."""
    return frozenset({"exact", *PARTICULAR} - set(policies) if ALL in policies else ())


def why_left_out(problem: EdgeemuError | None) -> str:
    """Say why a policy that only `all` stands for is left out, if it gave no first placement; else ""."""
    if isinstance(problem, NoFirstPlacementError):
        return f"left out: {problem}; {UNPROVEN}"
    return f"left out: {problem}" if isinstance(problem, UnsuitableError) else ""


def left_out(scenario: Scenario, policies: Sequence[str]) -> dict[str, str]:
    """Return the policies that `all` stands for and that would not answer, each with the reason.

    Raises: as `make_plan`.
    """
    found = {}
    if scenario.recovery.caches != "none":
        stay = [name for name in optional(policies) if COLLECTIVES.get(name) == "gather"]
        found = dict.fromkeys(stay, f"left out: {BLOCKS_STAY}")
    if "exact" not in optional(policies):
        return found
    setting = unplaced(scenario)
    n_devices, n_layers = len(setting.cluster.devices), setting.model.shape.n_layers
    if exact.answers(n_devices, n_layers):
        return found
    size = f"{counted(n_devices, 'device')} and {counted(n_layers, 'layer')}"
    return {**found, "exact": f"left out: it would prove no optimum of {size} in time; {UNPROVEN}"}


def bounds(scenario: Scenario) -> Possible | None:
    """Return what no placement can beat; None where nothing is known. Takes seconds, where clusters are small.

    Raises: as `make_plan`.
    """
    setting = unplaced(scenario)
    concurrency = min(scenario.workload.concurrency, len(setting.requests))
    return possible(setting.cluster, setting.view, setting.requests, concurrency, thorough=True)


async def compare_scenario(
    scenario: Scenario,
    policies: Sequence[str],
    *,
    repeats: int,
    simulate: bool,
    out: Path,
    watch: Watch,
    share: bool = False,
    without: Mapping[str, str] = MappingProxyType({}),
    may_fail: Collection[str] = (),
    entries: list[Entry],
) -> None:
    """Run a scenario under all policies. One that fails or has no placement is an entry with its reason, as is a run.

    `entries` gets each when the policy has ended, and one that is interrupted with its runs that have. Those of
    `without` are entries with the reason that they have there, and do not run. That one of `may_fail` gives no first
    placement is no failure of the comparison.

    Raises:
        RequestError: the scenario is wrong, whatever the policy.
    """
    entries += [Entry(name, [], problem=without[name]) for name in policies if name in without]
    running = [name for name in policies if name not in without]
    total = len(running) * repeats
    for number, name in enumerate(running):
        results: list[RunResult] = []
        problem: EdgeemuError | None = None
        for repeat in range(repeats):
            try:
                with watch(name, number * repeats + repeat, total) as observer:
                    result = await run_scenario(
                        scenario, policy=name, out=out, observer=observer, simulate=simulate, share=share
                    )
            except OF_ONE_RUN as error:
                problem = error
                break
            except BaseException:
                entries += [_entry(name, results)] if results else []
                raise
            results.append(result)
        if name in may_fail and (why := why_left_out(problem)):
            entries.append(Entry(name, [], problem=why))
            continue
        entries.append(_entry(name, results, problem))


def _entry(policy: str, results: Sequence[RunResult], problem: EdgeemuError | None = None) -> Entry:
    return Entry(
        policy=policy,
        summaries=[result.summary for result in results],
        directories=[str(result.directory) for result in results],
        problem="" if problem is None else problem_text(problem),
        status=problem.exit_status if problem else 0,
    )
