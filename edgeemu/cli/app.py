"""The `edgeemu` command: its subcommands in the order of the help, and its exit statuses.

Commands are thin: each reads its options, calls one function of the package and shows the result. Libraries that take
long to load are imported inside the commands. `exit.py` has how a command ends.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from edgeemu.cli.exit import call

COMMANDS = {  # the module of each, where a function has its name
    "run": "run_commands",
    "simulate": "run_commands",
    "compare": "compare_command",
    "sweep": "sweep_command",
    "report": "report_command",
    "validate": "inspect_commands",
    "plan": "inspect_commands",
    "advise": "advise_command",
    "calibrate": "calibrate_command",
    "observe": "calibrate_command",
    "devices": "catalog_commands",
    "links": "catalog_commands",
    "models": "inspect_commands",
    "engines": "catalog_commands",
    "policies": "inspect_commands",
    "doctor": "host_commands",
    "clean": "host_commands",
    "schema": "inspect_commands",
}
PROFILE = "profile"  # the command whose commands are these, all of one module
PROFILES = ("kernels", "host", "links")

EPILOG = """\b
Exit status:
  0    done
  2    invalid request: the scenario or an option
  3    infeasible: the model or a placement does not fit the cluster or this host
  4    the run failed
  5    done, but the certificate is INVALID: the host was too slow for the timeline
  130  ended by Ctrl-C; 143 by SIGTERM; 129 by SIGHUP

\b
Environment:
  EDGEEMU_DEBUG=1  show the traceback of an error
  NO_COLOR=1       no colors on a terminal
"""


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"edgeemu {version('edgeemu')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Run a language model split over a cluster of emulated edge devices, on one Linux box.

    \b
    Examples:
      edgeemu run scenarios/quickstart.yaml
      edgeemu plan scenarios/quickstart.yaml --policy layers
      edgeemu COMMAND --help
    """
    del version


def app_of(asked: str | None = None) -> typer.Typer:
    """Make the application. Where a command is asked for, it alone is there: all of them take as long as Python."""
    app = typer.Typer(
        name="edgeemu", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, epilog=EPILOG
    )
    app.callback()(_options)
    known = asked in COMMANDS or asked == PROFILE
    for name, module in COMMANDS.items():
        if name == asked or not known:
            app.command()(getattr(import_module(f"edgeemu.cli.{module}"), name))
    if asked == PROFILE or not known:
        profiles = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
        for name in PROFILES:
            profiles.command()(getattr(import_module("edgeemu.cli.profile_commands"), name))
        app.add_typer(profiles, name=PROFILE, help="Measure kernels, this host, or links.")
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the `edgeemu` command and leave with its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    call(app_of(given[0]), given)
