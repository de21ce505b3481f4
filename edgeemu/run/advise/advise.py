"""Advice for a scenario: changes are simulated one at a time, then in pairs if none reaches the target."""

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import NamedTuple

from edgeemu.errors import EdgeemuError, RequestError
from edgeemu.report.advice import Option, ScenarioChange, Target, nearest, pareto_front, that_reach
from edgeemu.report.advice_tables import Cut, SpeedAdvice
from edgeemu.report.critical.breakdown import Breakdown, breakdown
from edgeemu.report.critical.critical_path import critical_paths
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.run.advise.changes import MAX_PAIRS, MAX_SINGLE, pairs, single_changes
from edgeemu.run.advise.replacements import unpriced_kinds
from edgeemu.run.advise.simulated_figures import simulated_figures
from edgeemu.run.basis import basis_of
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.run.possible import possible
from edgeemu.run.simulate_plan import shortened, simulate_plan
from edgeemu.scenario.catalog.engines import IDEAL
from edgeemu.scenario.scenario import Scenario

MAX_OPERATIONS = 3_000_000  # of all simulations, some 30 s
EXPLAINED_TOKENS = 16  # of a sequence, whose time is broken down
OPERATIONS_OF_A_LAYER = 6  # on a device, where no placement is known

Read = Callable[[Sequence[str]], Scenario]  # the scenario with settings after those of its user
Told = Callable[[str, int, int], None]  # progress: what is done, how many of it are, of how many


def advise(read: Read, target: Target, told: Told, *, trust: bool = False) -> SpeedAdvice:
    """Simulate changes to a scenario until it is known which is the least that reaches a target.

    Two changes are combined only where none alone reaches it.

    Raises:
        RequestError: the scenario is wrong as it is, or generates one token.
    """
    scenario = read(())
    every = single_changes(scenario)
    changes = every[:MAX_SINGLE]
    told("one change", 0, 1 + len(changes))
    lengths, full = _lengths(scenario, 1 + len(changes) + MAX_PAIRS, trust=trust)
    trial = _Trial(read, lengths, trust)
    options = []
    for number, tried in enumerate([(), *((change,) for change in changes)], 1):
        options.append(trial.of(tried))
        told("one change", number, 1 + len(changes))
    if not that_reach(options, target):
        combined = pairs(options)
        for number, pair in enumerate(combined):
            told("two changes", number, len(combined))
            options.append(trial.of(pair))
        told("two changes", len(combined), len(combined))
    reached = that_reach(options, target)
    shown = next(iter(reached or nearest(options, target)), None)
    wanted = scenario if shown is None else read(shown.settings)
    limit = _Limit(None, None) if reached or shown is None else _limit(wanted, lengths, trust=trust)
    engine = "" if scenario.engine == IDEAL else scenario.engine
    cut = Cut(max(lengths), full, len(every) - len(changes))
    unpriced = tuple(unpriced_kinds(scenario.devices))
    return SpeedAdvice(target, options, reached, pareto_front(options), basis_of(wanted), engine, unpriced, cut, *limit)


class _Limit(NamedTuple):
    """Bound of the speed of the option that comes nearest to a target."""

    lost: Breakdown | None  # where its time goes
    possible_ms: float | None  # per token, which no placement on its devices beats


class _Trial(NamedTuple):
    """Simulation of the scenario with changes."""

    read: Read
    lengths: Sequence[int]
    trust: bool

    def of(self, changes: tuple[ScenarioChange, ...]) -> Option:
        """Simulate the scenario with changes; one that it does not take is an option without figures."""
        settings = Option(changes, None).settings
        try:
            with closing(make_plan(self.read(settings), trust=self.trust)) as plan:
                return Option(changes, simulated_figures(plan, self.lengths))
        except EdgeemuError as error:
            return Option(changes, None, error.message if isinstance(error, RequestError) else str(error))


def _lengths(scenario: Scenario, simulations: int, *, trust: bool) -> tuple[list[int], int]:
    """Lengths of sequences in tokens, so that so many simulations do not take long; and the greatest without that.

    Raises as `make_plan` does, but not where the model does not fit the cluster as it is.
    """
    wanted = [prompt.max_tokens or scenario.workload.max_tokens for prompt in scenario.workload.prompts]
    operations = 0
    try:
        with closing(make_plan(scenario, trust=trust)) as plan:
            wanted = [request.max_tokens for request in plan.requests]
            operations = sum(op.runs_in(step=1, rows=1) for op in plan.program.ops)
    except RequestError:
        raise
    except EdgeemuError:
        operations = OPERATIONS_OF_A_LAYER * 32 * len(scenario.device_names)
    if max(wanted) < 2:
        raise scenario.error("workload.max_tokens", "one token has no speed; advice needs two at least")
    steps = MAX_OPERATIONS // (simulations * operations)
    return fewer_steps(wanted, steps, scenario.workload.concurrency), max(wanted)


def fewer_steps(lengths: Sequence[int], steps: int, concurrency: int) -> list[int]:
    """Shorten sequences until they have so many steps in all, and then leave out the last of them.

    No sequence becomes shorter than `FEWEST_TOKENS`, and as many stay as run at once.
    """
    left, kept = steps, []
    for number, length in enumerate(shortened(lengths, steps / sum(lengths))):
        kept.append(length if left >= length or number < concurrency else 0)
        left -= kept[-1]
    return kept


def _limit(scenario: Scenario, lengths: Sequence[int], *, trust: bool) -> _Limit:
    with closing(make_plan(scenario, trust=trust)) as plan:
        bound = possible(plan.cluster, plan.view, plan.requests, plan.concurrency)
        return _Limit(_lost(plan, lengths), None if bound is None else 1000 * bound.tpot_s)


def _lost(plan: Plan, lengths: Sequence[int]) -> Breakdown:
    """Break down the time of the first tokens of each sequence."""
    records = RowsInMemory()
    simulate_plan(plan, [min(length, EXPLAINED_TOKENS) for length in lengths], records)
    return breakdown(critical_paths(records))
