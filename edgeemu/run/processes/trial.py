"""A paced trial before a run whose dilation this host may choose: a few tokens, judged as the run will be."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from statistics import fmean

from edgeemu.report.figures import TokenFigures, token_figures
from edgeemu.report.lateness import find_pauses, operation_lateness, passing_dilation
from edgeemu.report.rows import TokenRow
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.report.thresholds import ALLOWED_LAG_OF_TOKEN
from edgeemu.run.backend import Instant, Measurements, SampledToken, StepBackend
from edgeemu.run.decider import Decider, Decision
from edgeemu.run.plan import Plan
from edgeemu.run.policy_process.separate_policy import SeparatePolicy
from edgeemu.run.requests import Request
from edgeemu.timeline.scheduler import Due
from edgeemu.timeline.steps import Step

TRIALS = 3  # each with the dilation that the one before has found
TRIAL_TOKENS = 6
MOST_RAISED = 8.0  # times the least dilation, for the many small kernels of divided layers: beyond, a host is too busy
HEADROOM = 1.5  # the run's tokens are many more: what is late in the trial must be so much less late than it may be

Decide = Callable[[Due, Sequence[Step]], Awaitable[Decision | None]]


async def passing_in_trial(
    devices: StepBackend, requests: Sequence[Request], first: int, dilation: float, least: float, decide: Decide
) -> float:
    """Run the first tokens of requests as sequences `first` and following, on a paced timeline that has just begun.

    `decide` is called before each round of steps, as in a run, because it takes the host's time; nothing is moved.
    Returns the dilation at which the tokens would have passed: `dilation`, or more, up to `MOST_RAISED` times `least`,
    or times what decisions need that take long on this host and not on the timeline.
    """
    rows = RowsInMemory()
    lengths = [min(TRIAL_TOKENS, request.max_tokens) for request in requests]
    for number, request in enumerate(requests):
        await devices.open(first + number, replace(request, max_tokens=lengths[number]))
    steps = [Step(first + number, 0, len(request.ids), 0) for number, request in enumerate(requests)]
    ids = {first + number: list(request.ids) for number, request in enumerate(requests)}
    zero, at_s = devices.instant(0.0), 0.0
    uncharged_s: list[float] = []  # of each decision, the time that the timeline does not have
    while steps:
        began = devices.instant(at_s)
        for step in steps:
            await devices.start(step, ids[step.sequence], at_s)
        for _ in tuple(steps):
            sampled = await devices.next_token()
            assert sampled is not None, "there is no instant to wait for"
            ids[sampled.step.sequence] = [sampled.token]
            rows.append("tokens", [_token_row(sampled, began, zero, dilation)])
            at_s = max(at_s, sampled.at.emulated_s)
        following = [Step(step.sequence, step.step + 1, 1, step.past + step.rows) for step in steps]
        steps = [step for step in following if step.step < lengths[step.sequence - first]]
        if steps and (decision := await decide(Due(steps[0], at_s, at_s), steps)):
            uncharged_s.append(max(0.0, decision.took_s - (decision.at_s - at_s)))
            at_s = decision.at_s
    for sequence in ids:
        await devices.close(sequence)
    await devices.settle()
    rows.append("ops", devices.take_rows().ops)
    tokens = token_figures(rows, [], dilation)
    late = operation_lateness(rows, tokens, find_pauses(tokens, dilation), dilation)
    passing = passing_dilation(tokens, late, dilation, headroom=HEADROOM)
    return min(passing, MOST_RAISED * max(least, _needed(uncharged_s, tokens)))


def _needed(uncharged_s: Sequence[float], tokens: TokenFigures) -> float:
    """Return the dilation at which decisions make operations no later than they may be."""
    later_s = tokens.latency_s[~tokens.first]
    if not uncharged_s or not len(later_s):
        return 0.0
    return HEADROOM * fmean(uncharged_s) / (ALLOWED_LAG_OF_TOKEN * float(later_s.mean()))


def asking(plan: Plan, devices: Measurements) -> Decide:
    """Return what asks the policy in a trial. One in a process of its own is not asked: a user's may remember it."""
    decider = Decider(plan, devices)

    async def decide(due: Due, steps: Sequence[Step]) -> Decision | None:
        if isinstance(plan.decide, SeparatePolicy) or not decider.count_token(1):
            return None
        return await decider.decide(due, steps, plan.placement)

    return decide


def _token_row(sampled: SampledToken, began: Instant, zero: Instant, dilation: float) -> TokenRow:
    step, token, at, _ = sampled
    return TokenRow(
        sequence=step.sequence,
        step=step.step,
        token=token,
        text="",
        released_s=began.emulated_s,
        emulated_s=at.emulated_s,
        latency_s=at.emulated_s - began.emulated_s,
        wall_s=at.wall_s - zero.wall_s,
        wall_latency_s=(at.wall_s - began.wall_s) / dilation,
    )
