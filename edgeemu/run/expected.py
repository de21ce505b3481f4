"""Expected time of a run on the timeline, as far as it is known before the run starts. Starts no device."""

from collections.abc import Callable, Sequence

from edgeemu.run.plan import Plan
from edgeemu.run.planned import OF_ONE_RUN, planned
from edgeemu.scenario.scenario import Scenario

TOKENS = 500  # of all sequences, that are simulated; the others are taken to be like them


def expected_s(scenario: Scenario, policies: Sequence[str], done: Callable[[int, int], None]) -> dict[str, float]:
    """Seconds of emulated time that a run of each policy takes; those that find no placement are left out.

    Raises:
        RequestError: the scenario is wrong, whatever the policy.
    """
    found: dict[str, float] = {}
    for number, name in enumerate(policies):
        done(number, len(policies))
        try:
            with planned(scenario, name, trust=False, on_devices=True) as plan:
                found[name] = _emulated_s(plan)
        except OF_ONE_RUN:
            continue  # the comparison says why
    done(len(policies), len(policies))
    return found


def _emulated_s(plan: Plan) -> float:
    """Time from the beginning to the last token, without moves."""
    few = max(2, TOKENS // len(plan.requests))  # two have a time between them
    lengths = [min(few, request.max_tokens) for request in plan.requests]
    times = plan.predictions(lengths)
    rest = zip(plan.requests, lengths, times, strict=True)
    later_s = sum((request.max_tokens - length) * (each.tpot_s or 0.0) for request, length, each in rest)
    return max(each.sampled_s[-1] for each in times) + later_s / plan.concurrency
