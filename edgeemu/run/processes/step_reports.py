"""Reports of devices about one step, joined to rows."""

from dataclasses import dataclass, field

import numpy as np

from edgeemu.device import protocol_out
from edgeemu.placement.program import Program
from edgeemu.run.backend import Instant, SampledToken
from edgeemu.timeline.steps import Step


@dataclass(slots=True)
class Flight:
    """A step between its start and the last device's report of it."""

    step: Step
    program: Program
    owed: int  # reports that are still to come
    token: protocol_out.Token | None = None
    reports: list[protocol_out.Report] = field(default_factory=list)
    cpu_s: dict[int, float] = field(default_factory=dict)  # by operation


def sampled_at(step: Step, token: protocol_out.Token, sampled_s: float) -> SampledToken:
    logits = np.frombuffer(token.logits, dtype=np.float32) if token.logits else None  # [vocab]
    return SampledToken(step, token.token, Instant(sampled_s, token.wall_s), logits)
