"""A warm-up: a few tokens of each sequence that will run at once, on devices that wait for nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from edgeemu.backend import Backend
from edgeemu.pace import Tempo
from edgeemu.simulate import Step
from edgeemu.workload import Request

WARM_UP_TOKENS = 5


async def warm_up(
    devices: Backend, requests: Sequence[Request], first: int, cores: int, on_phase: Callable[[str, int, int], None]
) -> list[Tempo]:
    """Runs the requests side by side as sequences `first` and following; returns how each of their rounds went.

    Unpaced devices run one step after the other. Paced, they share `cores`: a round of n steps takes them as long as
    n/cores of its steps, and none less than one.
    """
    tokens = min(WARM_UP_TOKENS, max(request.max_tokens for request in requests))
    lengths = [min(tokens, request.max_tokens) for request in requests]
    for number, request in enumerate(requests):
        await devices.open(first + number, replace(request, max_tokens=lengths[number]))
    steps = [Step(first + number, 0, len(request.ids), 0) for number, request in enumerate(requests)]
    ids = {first + number: list(request.ids) for number, request in enumerate(requests)}
    at_s, tempo = 0.0, []
    for token in range(tokens):
        on_phase("warm up", token, tokens)
        steps = [step for step in steps if token < lengths[step.sequence - first]]
        tempo.append(await _round(devices, steps, ids, at_s, cores))
        at_s += tempo[-1].emulated_s
        steps = [Step(step.sequence, token + 1, 1, step.past + step.rows) for step in steps]
    on_phase("warm up", tokens, tokens)
    for sequence in ids:
        await devices.close(sequence)
    await devices.settle()
    return tempo


async def _round(devices: Backend, steps: Sequence[Step], ids: dict[int, list[int]], at_s: float, cores: int) -> Tempo:
    """One step of every sequence: as long as all take together, or the first alone, whichever needs the faster host."""
    began_s = devices.instant(at_s).wall_s
    for step in steps:
        await devices.start(step, ids[step.sequence], at_s)
    wall_s = devices.instant(at_s).wall_s - began_s
    sampled_s = []
    for _ in steps:
        sampled = await devices.sampled()
        assert sampled is not None
        ids[sampled.step.sequence] = [sampled.token]
        sampled_s.append(sampled.at.emulated_s - at_s)
    together = Tempo(max(sampled_s), wall_s / min(len(steps), cores))
    alone = Tempo(min(sampled_s), wall_s / len(steps))
    return max(together, alone, key=lambda tempo: tempo.wall_s / tempo.emulated_s)
