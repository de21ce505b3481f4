"""The warm-up before a run, and the dilation that it suggests."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from statistics import median
from typing import NamedTuple

from edgeemu.run.backend import StepBackend
from edgeemu.run.requests import Request
from edgeemu.timeline.steps import Step

HEADROOM = 1.6  # kernels run a third slower after a sleep than one after the other, and the host may be shared
WARM_UP_TOKENS = 5

# Kernel links multiply the dilation by this: a message takes 0.3 ms of the wall clock through a quiet host, more
# through a busy one (`tools/bench/backends.py`). That time belongs to no link, and is divided by the dilation.
TRANSPORT_FACTOR = 2.0


class WarmUpSpeed(NamedTuple):
    """Time of one step on the timeline, and on the wall clock of a host that does not pace it."""

    emulated_s: float
    wall_s: float


def smallest_dilation(prefill: WarmUpSpeed, decode: Sequence[WarmUpSpeed], *, real_links: bool = False) -> float:
    """Return the least dilation, in tenths and at least 1, at which the host is faster than the emulated cluster.

    Prefill and the median of the decode steps each have to keep up, with `HEADROOM`; `real_links` double the result.
    """
    ratios = [prefill.wall_s / prefill.emulated_s]
    if decode:
        ratios.append(median(step.wall_s / step.emulated_s for step in decode))
    least = max(1.0, ceil(10.0 * HEADROOM * max(ratios)) / 10.0)
    return TRANSPORT_FACTOR * least if real_links else least


async def warm_up(
    devices: StepBackend, requests: Sequence[Request], first: int, cores: int, on_phase: Callable[[str, int, int], None]
) -> list[WarmUpSpeed]:
    """Run requests concurrently as sequences `first` and following; return the speed of each round of their steps.

    Devices that are not paced run one step after the other. Paced, they share `cores`: a round of n steps takes as long
    as n/cores of its steps, and at least one.
    """
    tokens = min(WARM_UP_TOKENS, max(request.max_tokens for request in requests))
    lengths = [min(tokens, request.max_tokens) for request in requests]
    for number, request in enumerate(requests):
        await devices.open(first + number, replace(request, max_tokens=lengths[number]))
    steps = [Step(first + number, 0, len(request.ids), 0) for number, request in enumerate(requests)]
    ids = {first + number: list(request.ids) for number, request in enumerate(requests)}
    at_s, speeds = 0.0, []
    for token in range(tokens):
        on_phase("warm up", token, tokens)
        steps = [step for step in steps if token < lengths[step.sequence - first]]
        speeds.append(await _round(devices, steps, ids, at_s, cores))
        at_s += speeds[-1].emulated_s
        steps = [Step(step.sequence, token + 1, 1, step.past + step.rows) for step in steps]
    on_phase("warm up", tokens, tokens)
    for sequence in ids:
        await devices.close(sequence)
    await devices.settle()
    return speeds


async def _round(
    devices: StepBackend, steps: Sequence[Step], ids: dict[int, list[int]], at_s: float, cores: int
) -> WarmUpSpeed:
    """Run one step of every sequence; return the speed of all together, or of one alone if that needs a faster host."""
    began_s = devices.instant(at_s).wall_s
    for step in steps:
        await devices.start(step, ids[step.sequence], at_s)
    wall_s = devices.instant(at_s).wall_s - began_s
    sampled_s = []
    for _ in steps:
        sampled = await devices.next_token()
        assert sampled is not None
        ids[sampled.step.sequence] = [sampled.token]
        sampled_s.append(sampled.at.emulated_s - at_s)
    together = WarmUpSpeed(max(sampled_s), wall_s / min(len(steps), cores))
    alone = WarmUpSpeed(min(sampled_s), wall_s / len(steps))
    return max(together, alone, key=lambda speed: speed.wall_s / speed.emulated_s)
