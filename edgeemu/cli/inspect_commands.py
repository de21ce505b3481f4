"""Commands that look at a scenario or list what one may name: validate, plan, models, policies, schema."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from edgeemu.cli.answers import Form, answer, in_forms, only, print_json
from edgeemu.cli.options import AsJson, PolicyName, ScenarioFile, Settings, Trust, load, shown
from edgeemu.cli.report_files import FiguresDirectory, ReportFiles, write_plan
from edgeemu.errors import InfeasibleError, RequestError
from edgeemu.run.few_collections import few_collections

if TYPE_CHECKING:
    from edgeemu.cli.page import Page
    from edgeemu.run.plan import Plan
    from edgeemu.run.possible import Possible


def validate(
    scenario: ScenarioFile, policy: PolicyName = None, settings: Settings = None, as_json: AsJson = False
) -> None:
    """Check a scenario without running it.

    Reads the scenario, opens its model and lets the policy place it. A policy of a file or of an installed package that
    the scenario names is not run; one that --policy names is.

    \b
    Examples:
      edgeemu validate scenarios/quickstart.yaml
      edgeemu validate scenarios/quickstart.yaml --policy examples/my_policy.py:FastestFirst
      edgeemu validate scenarios/quickstart.yaml --set devices[0].memory="256 MiB" --json
    """
    from edgeemu.report.formats import counted
    from edgeemu.run.make_plan import check

    checked = check(load(scenario, settings), policy)

    def show(page: Page) -> None:
        devices, prompts = counted(checked.devices, "device"), counted(checked.prompts, "prompt")
        room = "finds room for it" if checked.placed else "was not run (--policy runs it)"
        page.line(f"{shown(scenario)} is valid: {checked.model} on {devices}, {prompts}; {checked.policy} {room}")

    answer({"valid": True, **checked._asdict()}, Form.JSON if as_json else Form.PAGE, show)


@in_forms
@few_collections()
def plan(
    scenario: ScenarioFile,
    policy: PolicyName = None,
    trust: Trust = False,
    settings: Settings = None,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the placement as a scenario writes it (placement:), to be changed.")
    ] = False,
    figures: FiguresDirectory = None,
    form: Form = Form.PAGE,
) -> None:
    """Show the first placement of a policy.

    Lists the blocks and memory of each device, the latency that the timeline predicts, what no placement can beat, and
    how far the predicted time per output token is from that ("vs possible"). Runs nothing. Exit status 3, after the
    tables, if this host has too little memory to run it; simulate does not need that.

    With --yaml, prints the placement as the section of a scenario that the policy given reads: append it to the
    scenario, or save it beside the scenario, and name the file there. --figures writes pictures of the cluster and of
    the placement, too.

    \b
    Examples:
      edgeemu plan scenarios/quickstart.yaml
      edgeemu plan scenarios/quickstart.yaml --policy round-robin --json
      edgeemu plan scenarios/star-wifi.yaml --figures figures
      edgeemu plan scenarios/quickstart.yaml --policy lookahead --yaml > scenarios/mine.yaml
      edgeemu run scenarios/quickstart.yaml --set placement=mine.yaml --policy given
    """
    from edgeemu.host.available_memory import available_memory
    from edgeemu.report.printable import printable
    from edgeemu.run.host_memory import why_not_here
    from edgeemu.run.make_plan import make_plan
    from edgeemu.run.plan_tables import plan_document
    from edgeemu.run.possible import possible
    from edgeemu.run.written_placement import placement_yaml

    if as_yaml and form is not Form.PAGE:
        raise RequestError(f"choose one of --yaml and {form.value}")
    files = ReportFiles.checked(None, figures)
    made = make_plan(load(scenario, settings), policy, trust=trust)
    made.close()  # it is not asked again
    why_not = why_not_here(made, available_memory())
    bound = None if as_yaml else possible(made.cluster, made.view, made.requests, made.concurrency)

    def show(page: Page) -> None:
        if as_yaml:
            page.file.write(placement_yaml(made, str(scenario)))
        else:
            _show_plan(page, made, bound)

    # Predicting a large model takes seconds: only for what is printed.
    answer({**plan_document(made, bound), "why_not_here": why_not} if form is Form.JSON else {}, form, show)
    write_plan(files, made)
    if why_not:
        print(printable(f"edgeemu: {why_not}"), file=sys.stderr)
        raise typer.Exit(InfeasibleError.exit_status)


def _show_plan(page: Page, made: Plan, bound: Possible | None) -> None:
    from edgeemu.run.plan_tables import plan_lines, plan_tables, title_line

    page.line(title_line(made))
    for table in plan_tables(made, bound):
        page.table(*table)
        page.line()
    for line in plan_lines(made, bound):
        page.sentence(line)


@in_forms
def models(form: Form = Form.PAGE) -> None:
    """List models that a scenario can name, with the size of their weights in several formats.

    \b
    Examples:
      edgeemu models
      edgeemu models --json
    """
    from edgeemu.report.catalog_tables import model_document, model_table
    from edgeemu.scenario.catalog import model_entries

    entries = model_entries()
    answer(model_document(entries.values()), form, only(model_table(entries.values())))


@in_forms
def policies(form: Form = Form.PAGE) -> None:
    """List placement policies.

    \b
    Examples:
      edgeemu policies
      edgeemu policies --json
    """
    from edgeemu.policies import POLICIES
    from edgeemu.report.formats import Table

    document = [{"name": name, "description": text} for name, text in POLICIES.items()]
    answer(document, form, only(Table(("policy", "places"), list(POLICIES.items()))))


def schema(
    as_json: Annotated[
        bool, typer.Option("--json", help="Accepted for consistency; the output is always JSON.")
    ] = False,
) -> None:
    """Print the JSON schema of scenarios.

    For editors that complete and check YAML.

    \b
    Examples:
      edgeemu schema > scenario.schema.json
    """
    del as_json
    from edgeemu.scenario.reference import scenario_json_schema

    print_json(scenario_json_schema())
