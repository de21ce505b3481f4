"""Commands that list devices and links of the catalog, or show one with its sources: devices, links."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeemu.cli.answers import answer, only
from edgeemu.cli.options import AsJson

_SHOW_ONE = "each figure with its label (measured, derived, peak) and source."


def devices(
    name: Annotated[
        str | None, typer.Argument(metavar="[DEVICE]", help=f"Show one device profile, {_SHOW_ONE}")
    ] = None,
    as_json: AsJson = False,
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

    if name is not None:
        profile = device_profile(name)
        answer(profile.model_dump(mode="json", exclude_none=True), as_json, only(figures_table(profile)))
        return
    profiles = device_profiles().values()
    document = [profile.model_dump(mode="json", exclude_none=True) for profile in profiles]
    answer(document, as_json, only(device_table(profiles)))


def links(
    name: Annotated[str | None, typer.Argument(metavar="[LINK]", help=f"Show one link type, {_SHOW_ONE}")] = None,
    as_json: AsJson = False,
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

    if name is not None:
        kind = link_type(name)
        answer(kind.model_dump(mode="json", exclude_none=True), as_json, only(figures_table(kind)))
        return
    kinds = link_types().values()
    answer([kind.model_dump(mode="json", exclude_none=True) for kind in kinds], as_json, only(link_table(kinds)))
