"""The command `engines`: what software a scenario can name, and what it costs."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeemu.cli.answers import answer, only
from edgeemu.cli.options import AsJson


def engines(
    name: Annotated[
        str | None, typer.Argument(metavar="[ENGINE]", help="Show one engine, each figure with its source.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List engines that a scenario can name: what software runs on the devices, and what it costs.

    A scenario names one with `engine:`. It fills in the policy, number formats and collectives that the scenario does
    not give, and what an operation and a message cost where devices have no such figures of their own. The default,
    ideal, costs nothing.

    \b
    Examples:
      edgeemu engines
      edgeemu engines distributed-llama
      edgeemu engines --json
      edgeemu simulate scenarios/quickstart.yaml --set engine=llama.cpp-rpc
    """
    from edgeemu.report.engine_tables import engine_table, engines_table
    from edgeemu.scenario.catalog.engines import engine_entries, engine_entry

    if name is not None:
        entry = engine_entry(name)
        answer(entry.model_dump(mode="json"), as_json, only(engine_table(entry)))
        return
    entries = engine_entries().values()
    answer([entry.model_dump(mode="json") for entry in entries], as_json, only(engines_table(entries)))
