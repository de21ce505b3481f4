"""Commands that list entries of the catalog, or show one with its sources: devices, links, engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from edgeemu.cli.answers import Form, answer, in_forms, only

if TYPE_CHECKING:
    from edgeemu.report.formats import Table
    from edgeemu.scenario.validation import Strict

EntryT = TypeVar("EntryT", bound="Strict")

_SHOW_ONE = "each figure with its label (measured, derived, peak) and source."


@in_forms
def devices(
    name: Annotated[
        str | None, typer.Argument(metavar="[DEVICE]", help=f"Show one device profile, {_SHOW_ONE}")
    ] = None,
    form: Form = Form.PAGE,
) -> None:
    """List device profiles that a scenario can name (`profile:`), or show one with its sources.

    "decoding" is the rate at which an engine has really read weights while it generated tokens, where somebody has
    measured that; every engine but ideal uses it, which takes that of the memory. "memory" is for runs:
    without what the system keeps, as far as that is known. Where it is "–", the scenario has to give it. "busy" is the
    power while all cores compute.

    \b
    Examples:
      edgeemu devices
      edgeemu devices raspberry-pi-5
      edgeemu devices --json
    """
    from edgeemu.report.catalog_tables import device_table, figures_table
    from edgeemu.scenario.catalog import device_profile, device_profiles

    _answer(name, device_profile, device_profiles, figures_table, device_table, form)


@in_forms
def links(
    name: Annotated[str | None, typer.Argument(metavar="[LINK]", help=f"Show one link type, {_SHOW_ONE}")] = None,
    form: Form = Form.PAGE,
) -> None:
    """List link types that a scenario can name (`network: {default: ethernet-1g}`), or show one with its sources.

    Figures are what software sees of one direction: the bytes that TCP carries, and the delay of a small message on a
    link that is otherwise idle. One link is shown with the energy of a bit at either end, too, where that is known.

    \b
    Examples:
      edgeemu links
      edgeemu links ethernet-2.5g
      edgeemu links --json
    """
    from edgeemu.report.catalog_tables import figures_table, link_table
    from edgeemu.scenario.catalog import link_type, link_types

    _answer(name, link_type, link_types, figures_table, link_table, form)


@in_forms
def engines(
    name: Annotated[
        str | None, typer.Argument(metavar="[ENGINE]", help="Show one engine, each figure with its source.")
    ] = None,
    form: Form = Form.PAGE,
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

    _answer(name, engine_entry, engine_entries, engine_table, engines_table, form)


def _answer(
    name: str | None,
    find: Callable[[str], EntryT],
    entries: Callable[[], Mapping[str, EntryT]],
    one: Callable[[EntryT], Table],
    every: Callable[[Iterable[EntryT]], Table],
    form: Form,
) -> None:
    """Show the entry of that name, or list all of them."""
    if name is not None:
        entry = find(name)
        answer(entry.model_dump(mode="json", exclude_none=True), form, only(one(entry)))
        return
    found = entries().values()
    answer([entry.model_dump(mode="json", exclude_none=True) for entry in found], form, only(every(found)))
