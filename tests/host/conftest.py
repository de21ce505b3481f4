"""Fixture of fleet tests: both event loops that the controller may use."""

import asyncio
from collections.abc import Awaitable

import pytest
import uvloop
from support.fleets import Runner


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Runner:
    """Runs a coroutine on each event loop that the controller may use."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def runner(coroutine: Awaitable[None]) -> None:
        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(coroutine)  # type: ignore[arg-type]

    return runner
