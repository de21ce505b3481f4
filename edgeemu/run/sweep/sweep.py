"""Sweep of a scenario: its runs as jobs, each with a place in the design, and their figures as they end."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from edgeemu.report.run_directory import RunDirectory
from edgeemu.report.sweep import SweepDesign, SweptRun, Values, swept_run
from edgeemu.run.compare import expanded, left_out, optional, problem_text, why_left_out
from edgeemu.run.sweep.all_runs import EndedRun, all_runs
from edgeemu.run.sweep.executor import RunExecutor
from edgeemu.run.sweep.identity import key_of
from edgeemu.run.sweep.job import Job
from edgeemu.run.sweep.needs import need_of
from edgeemu.run.sweep.points import SweepPoint
from edgeemu.run.sweep.store import RunStore
from edgeemu.scenario.scenario import Scenario


class SweepPlace(NamedTuple):
    """Place of a run in a sweep."""

    point: Values
    policy: str
    seed: int


class Mode(NamedTuple):
    """How all runs of a sweep are made."""

    simulate: bool
    trust: bool = False
    share: bool = False


class SweepJobs(NamedTuple):
    """The runs of a sweep: jobs, the places by their keys, and the places that have no run, with the reason.

    `optional`: policies that only `all` stands for, and that may be unable to answer.
    """

    jobs: Sequence[Job]
    places: Mapping[str, Sequence[SweepPlace]]
    left_out: Sequence[SweptRun]
    optional: Collection[str]

    def digest(self, judged: str) -> str:
        """Digest of all runs, and of the figure that they are judged by: the same sweep has the same."""
        return blake2b("".join([*sorted(self.places), judged]).encode(), digest_size=4).hexdigest()


def seeds_of(scenario: Scenario, count: int) -> tuple[int, ...]:
    """Return so many seeds, from the scenario's own on: the same for every point and policy, so that runs are pairs."""
    return tuple((scenario.seed + number) % 2**63 for number in range(count))


def columns_of(points: Sequence[SweepPoint], policies: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the policies that are compared: those asked for, each once, or the scenario's own."""
    if not policies:
        own = {point.scenario.policy for point in points}
        return (own.pop() if len(own) == 1 else "own",)  # an engine can bring its policy
    given = any(point.scenario.placement is not None for point in points)
    return tuple(expanded(policies, given=given))


def jobs_of(
    points: Sequence[SweepPoint], policies: Sequence[str], design: SweepDesign, mode: Mode, most_cpus: int
) -> SweepJobs:
    """Make a job of every run of a design. `policies`: as they were asked for; an empty list is the scenario's own.

    Raises:
        RequestError: a scenario is wrong.
    """
    jobs: dict[str, Job] = {}
    places: dict[str, list[SweepPlace]] = {}
    without: list[SweptRun] = []
    for values, scenario in points:
        refused = left_out(scenario, policies)
        for name in design.policies:
            if name in refused:
                without += [SweptRun(values, name, seed, problem=refused[name]) for seed in design.seeds]
                continue
            policy = name if policies else None
            need = need_of(scenario, policy, simulate=mode.simulate, trust=mode.trust, most_cpus=most_cpus)
            for seed in design.seeds:
                drawn = scenario.model_copy(update={"seed": seed})
                key = key_of(drawn, policy, simulate=mode.simulate)
                jobs[key] = Job(key, drawn, policy, mode.simulate, mode.trust, mode.share, need)
                places.setdefault(key, []).append(SweepPlace(values, name, seed))
    return SweepJobs(list(jobs.values()), places, without, optional(policies))


def swept_runs(sweep: SweepJobs, executor: RunExecutor, store: RunStore) -> Iterator[tuple[bool, list[SweptRun]]]:
    """Carry out a sweep: yield each run when it has ended, at every place that it has, and whether it was there before.

    Raises:
        RequestError: a scenario is wrong, whatever the policy.
    """
    for done in all_runs(sweep.jobs, executor, store):
        yield done.reused, [_at(place, done, sweep.optional) for place in sweep.places[done.key]]


def _at(place: SweepPlace, done: EndedRun, optional: Collection[str]) -> SweptRun:
    directory = None if done.directory is None else str(done.directory)
    if place.policy in optional and (why := why_left_out(done.problem)):
        return SweptRun(*place, problem=why)
    if done.problem is not None:
        status = done.problem.exit_status
        return SweptRun(*place, directory=directory, problem=problem_text(done.problem), status=status)
    assert done.directory is not None
    return swept_run(*place, RunDirectory(done.directory).read_summary(), str(done.directory))
