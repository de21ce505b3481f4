"""The `edgeemu` command: its subcommands in the order of the help, and its exit statuses.

Commands are thin: each reads its options, calls one function of the package and shows the result. Libraries that take
long to load are imported inside the commands. `exit.py` has how a command ends.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, NoReturn

import typer

from edgeemu.cli.advise_command import advise
from edgeemu.cli.calibrate_command import calibrate, observe
from edgeemu.cli.catalog_commands import devices, engines
from edgeemu.cli.catalog_commands import links as link_types
from edgeemu.cli.compare_command import compare
from edgeemu.cli.exit import call
from edgeemu.cli.host_commands import clean, doctor
from edgeemu.cli.inspect_commands import models, plan, policies, schema, validate
from edgeemu.cli.profile_commands import host, kernels, links
from edgeemu.cli.report_command import report
from edgeemu.cli.run_commands import run, simulate
from edgeemu.cli.sweep_command import sweep

app = typer.Typer(
    name="edgeemu",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="""\b
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
""",
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"edgeemu {version('edgeemu')}")
        raise typer.Exit


@app.callback()
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


profiles = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
for command in (kernels, host, links):
    profiles.command()(command)

commands: list[Callable[..., None]] = [
    *(run, simulate, compare, sweep, report, validate, plan, advise, calibrate, observe),
    *(devices, link_types, models, engines, policies, doctor, clean, schema),
]
for command in commands:
    app.command()(command)
app.add_typer(profiles, name="profile", help="Measure kernels, this host, or links.")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the `edgeemu` command and leave with its exit status."""
    call(app, list(sys.argv[1:] if arguments is None else arguments) or ["--help"])
