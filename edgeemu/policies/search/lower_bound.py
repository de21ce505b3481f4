"""Lower bounds of what any placement can reach, divided or not: step, first token, time between tokens. Pure.

No placement is faster, so a search that is close to a bound is done. Links and devices are as in the view, and each
message is alone in its pipe.

*With hops* (`search.bound_hops`): x must be sent before it is used, and a divided part is ready when its last share is.
Memory counts for each device by itself: what it cannot hold it does not compute.

*With the memory of all devices together*, where some device cannot hold the whole model: on the smallest clusters with
hops (`search.bound_program`), on others without (`search.bound_memory`).

*Between two tokens* of several sequences nothing waits, but each token keeps devices busy: the same program.
"""

import numpy as np

from edgeemu.policies.search.bound_hops import PromptWithHops, StepWithHops
from edgeemu.policies.search.bound_memory import Order, by_memory_s
from edgeemu.policies.search.bound_program import StepProgram
from edgeemu.policies.search.part_times import PartTimes
from edgeemu.policies.view.cluster_view import ClusterView

MANY = 64  # devices; with more, hops do not count
SMALL = 200  # devices cubed x layers; with more, memory and hops are not counted together
MOST = 2_000  # devices; with more, there is no bound


def least_step_s(view: ClusterView, past: int | None = None, *, thorough: bool = False) -> float:
    """Seconds that a decode step takes at least; infinite if it is proven that nothing fits.

    `past`: positions cached, those of the view's next step if not given. With more of them no step is shorter. 0 for
    more than `MOST` devices, of which nothing is known. `thorough`: memory and hops are counted together, if the
    cluster is small enough to do so in seconds.
    """
    n_devices = view.n_devices
    if n_devices > MOST:
        return 0.0
    parts = PartTimes(view, 1, view.past if past is None else past)
    by_hops_s = StepWithHops(parts).least_s() if n_devices <= MANY else 0.0
    if n_devices <= MANY and bool(parts.holds_all.all()):
        return by_hops_s
    together = thorough and n_devices**3 * view.costs.shape.n_layers <= SMALL
    return max(by_hops_s, by_memory_s(parts, Order.STEP), StepProgram(parts).least_s() if together else 0.0)


def least_first_token_s(view: ClusterView, rows: int | None = None) -> float:
    """Seconds from a prompt's release to its first token, at least; as `least_step_s`.

    `rows`: of the prompt, those of the view if not given. With more of them it does not take less.
    """
    n_devices = view.n_devices
    if n_devices > MOST:
        return 0.0
    parts = PartTimes(view, view.prompt_tokens if rows is None else rows, 0)
    by_hops_s = PromptWithHops(parts).least_s() if n_devices <= MANY else 0.0
    if n_devices <= MANY and bool(parts.holds_all.all()):
        return by_hops_s
    return max(by_hops_s, by_memory_s(parts, Order.PROMPT))


def least_token_s(view: ClusterView, tokens: int) -> float:
    """Mean seconds of a sequence's `tokens` at least, the first included, of small clusters: one placement serves all.

    As `least_step_s` and `least_first_token_s`, between which a placement has to choose.
    """
    first_s, step_s = least_first_token_s(view), least_step_s(view, thorough=True)
    total_s = first_s + (tokens - 1) * step_s
    if total_s < np.inf and view.n_devices**3 * view.costs.shape.n_layers <= SMALL:
        step, prompt = PartTimes(view, 1, view.past), PartTimes(view, view.prompt_tokens, 0)
        total_s = max(total_s, StepProgram(step).with_prompt(prompt, first_s, tokens).least_s())
    return total_s / tokens


def least_busy_s(view: ClusterView, past: int) -> float:
    """Seconds between two tokens of however many sequences, at least: each token keeps devices busy.

    As `least_step_s`.
    """
    if view.n_devices > MOST:
        return 0.0
    return by_memory_s(PartTimes(view, 1, past), Order.NONE)
