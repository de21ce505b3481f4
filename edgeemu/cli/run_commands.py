"""Commands that run a scenario: run, simulate."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from edgeemu.cli.answers import Form, answer, in_forms
from edgeemu.cli.exit import INVALID
from edgeemu.cli.options import (
    OutDirectory,
    PolicyName,
    Resume,
    ScenarioOrNone,
    Settings,
    Share,
    Trust,
    check_writable,
    load,
)
from edgeemu.cli.without_pandas import without_pandas
from edgeemu.errors import RequestError
from edgeemu.host.limits import check_threads
from edgeemu.host.until_signal import until_signal
from edgeemu.run.few_collections import few_collections

if TYPE_CHECKING:
    from edgeemu.cli.page import Page
    from edgeemu.run.resume.read_run import RunToResume
    from edgeemu.scenario.scenario import Scenario


@in_forms
def run(
    scenario: ScenarioOrNone = None,
    policy: PolicyName = None,
    trust: Trust = False,
    settings: Settings = None,
    resume: Resume = None,
    out: OutDirectory = Path("runs"),
    share: Share = False,
    form: Form = Form.PAGE,
) -> None:
    """Run a scenario on emulated devices.

    Every device is a process that executes real kernels, and every link has its bandwidth and delay.

    Prints the text as it is generated, the latency of its tokens, and where blocks move, what that gained, and why. The
    records (summary.json, scenario.yaml, meta.json, facts.json; tokens, sequences, ops, migrations, decisions,
    placements, faults, recoveries, conditions, devices and links as .parquet) go to a new directory below --out;
    `edgeemu report` shows them again.

    \b
    Examples:
      edgeemu run scenarios/quickstart.yaml
      edgeemu run scenarios/quickstart.yaml --policy layers --set workload.max_tokens=16
      edgeemu run scenarios/quickstart.yaml --policy mdi --set workload.concurrency=3
      edgeemu run scenarios/quickstart.yaml --set time.mode=virtual --json > summary.json
      edgeemu run scenarios/quickstart.yaml --set network.backend=hybrid
      edgeemu run scenarios/quickstart.yaml --policy examples/my_policy.py:FastestFirst
      edgeemu run --resume runs/NAME                   # go on with a run that was killed, from its records
      edgeemu run runs/NAME/scenario.yaml --trust      # again, with the code of the policy file that it names
    """
    _run(_ToRun(scenario, policy, settings, resume), out, form, simulate=False, trust=trust, share=share)


@in_forms
def simulate(
    scenario: ScenarioOrNone = None,
    policy: PolicyName = None,
    trust: Trust = False,
    settings: Settings = None,
    resume: Resume = None,
    out: OutDirectory = Path("runs"),
    share: Share = False,
    form: Form = Form.PAGE,
) -> None:
    """Simulate a scenario: no device processes, no computation, no text.

    A discrete-event simulation with the policies, decisions, migrations, records and emulated time of a run, for
    clusters and models that no host can emulate: 1,000 devices, 80 layers. Every sequence has its full length.

    \b
    Examples:
      edgeemu simulate scenarios/lan-25.yaml
      edgeemu simulate scenarios/lan-25.yaml --policy lookahead --set workload.max_tokens=1000
      edgeemu simulate scenarios/one-layer-25.yaml --set cost=literal
      edgeemu simulate --resume runs/NAME              # go on with a simulation that was killed
      edgeemu simulate scenarios/lan-25.yaml --set model=llama-2-7b --set workload.prompts="[{tokens: 64}]"
    """
    with few_collections():
        _run(_ToRun(scenario, policy, settings, resume), out, form, simulate=True, trust=trust, share=share)


class _ToRun(NamedTuple):
    """Scenario that is to run, with changes; or a run to go on with, as it was."""

    scenario: Path | None
    policy: str | None
    settings: list[str] | None
    resume: Path | None

    def read(self, *, simulate: bool) -> tuple[Scenario, RunToResume | None]:
        """Read the scenario. Raises RequestError, also if not one of both is given."""
        if self.resume is None:
            if self.scenario is None:
                command = "simulate" if simulate else "run"
                raise RequestError(f"name a SCENARIO, or a run with --resume (see: edgeemu {command} --help)")
            return load(self.scenario, self.settings), None
        if self.scenario is not None or self.policy is not None or self.settings:
            raise RequestError(
                "takes the scenario and the policy of its run: no SCENARIO, --policy or --set", field="--resume"
            )
        from edgeemu.run.resume.read_run import run_to_resume

        run = run_to_resume(self.resume, simulate=simulate)
        return run.scenario, run


def _run(
    asked: _ToRun,
    out: Path,
    form: Form,
    *,
    simulate: bool,
    trust: bool,
    share: bool,
) -> None:
    check_threads()
    from edgeemu.cli.observers import watch
    from edgeemu.report.summary_tables import summary_lines, summary_tables
    from edgeemu.run.run_scenario import run_scenario

    wanted, resumed = asked.read(simulate=simulate)
    check_writable(out)
    without_pandas()
    text, several = form.beside, wanted.workload.concurrency > 1
    with watch(text, sys.stderr, words=not simulate, several=several, clock=time.monotonic) as observer:
        running = run_scenario(
            wanted,
            policy=asked.policy,
            out=out,
            observer=observer,
            simulate=simulate,
            trust=trust,
            share=share,
            resume=resumed,
        )
        result = until_signal(running)

    def show(page: Page) -> None:
        for table in summary_tables(result.summary):
            page.table(*table)
            page.line()
        for line in summary_lines(result.summary):
            page.sentence(line)
        page.line(f"records: {result.directory}")

    answer({**result.summary, "directory": str(result.directory)}, form, show)
    if result.summary["certificate"]["verdict"] == "INVALID":
        raise typer.Exit(INVALID)
