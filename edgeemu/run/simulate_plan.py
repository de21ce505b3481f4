"""Simulation of a plan from beginning to end, with sequences of given lengths. Writes nothing, and judges nothing."""

from collections.abc import Sequence
from dataclasses import replace

from edgeemu.run.controller import Controller
from edgeemu.run.observer import RecordSink, Silent
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend


def simulate_plan(plan: Plan, lengths: Sequence[int], records: RecordSink) -> SimulatedBackend:
    """Simulate a plan with sequences of at most these tokens; those without any are left out. Returns the backend."""
    import uvloop

    requests = [
        replace(request, max_tokens=min(request.max_tokens, length))
        for request, length in zip(plan.requests, lengths, strict=False)
        if length
    ]
    plan = replace(plan, requests=tuple(requests))
    backend = SimulatedBackend(plan)
    uvloop.run(Controller(plan, backend, Silent(), records).run())
    return backend
