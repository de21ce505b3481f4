"""The commands. Thin: each reads its options, calls one function of the package and shows what comes back.

Libraries that take long to load are imported inside the commands. How a command ends is in `shell.py`.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from edgeemu.cli.exit import FAILED, call, until_signal
from edgeemu.errors import RequestError

if TYPE_CHECKING:
    from edgeemu.cli.page import Page
    from edgeemu.report.formats import Table
    from edgeemu.scenario.scenario import Scenario


INVALID = 5

app = typer.Typer(
    name="edgeemu",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="""\b
Exit status:
  0    done
  2    the request is wrong: the scenario, an option
  3    the cluster cannot do it: no room for the model, no feasible placement
  4    the run failed
  5    done, but the certificate is INVALID: the host could not keep up
  130  ended by Ctrl-C; 143 by SIGTERM; 129 by SIGHUP

\b
Environment:
  EDGEEMU_DEBUG=1  show the traceback of an error
  NO_COLOR=1       no colours on a terminal
""",
)

ScenarioFile = Annotated[Path, typer.Argument(metavar="SCENARIO", help="A scenario in YAML.", show_default=False)]
PolicyName = Annotated[
    str | None,
    typer.Option("--policy", metavar="NAME", help="Not the scenario's; see: edgeemu policies.", show_default=False),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Change a field of the scenario; may be repeated.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, and all else on standard error.")]
OutDirectory = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the run's directory is made.")]


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


@app.command()
def run(
    scenario: ScenarioFile,
    policy: PolicyName = None,
    settings: Settings = None,
    out: OutDirectory = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Run a scenario on emulated devices.

    Every device is a process that executes real kernels, and every link has its bandwidth and delay.

    Shows the text as it is generated and how long it took. What the run leaves (summary.json, scenario.yaml,
    meta.json; tokens, sequences, ops and migrations as .parquet) is in a directory of its own below --out.

    \b
    Examples:
      edgeemu run scenarios/quickstart.yaml
      edgeemu run scenarios/quickstart.yaml --policy layers --set workload.max_tokens=16
      edgeemu run scenarios/quickstart.yaml --policy mdi --set workload.concurrency=3
      edgeemu run scenarios/quickstart.yaml --set time.mode=virtual --json > summary.json
      edgeemu run scenarios/quickstart.yaml --set network.backend=hybrid
    """
    _run(scenario, policy, settings, out, as_json, simulate=False)


@app.command()
def simulate(
    scenario: ScenarioFile,
    policy: PolicyName = None,
    settings: Settings = None,
    out: OutDirectory = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Run a scenario on the timeline alone: no process, no kernel, no text.

    The same policies, decisions, migrations and records as in run, and the same emulated time, for clusters and
    models that no host can emulate: 1,000 devices, 80 layers. Sequences go to their full length.

    \b
    Examples:
      edgeemu simulate scenarios/lan-25.yaml
      edgeemu simulate scenarios/lan-25.yaml --policy lookahead --set workload.max_tokens=1000
      edgeemu simulate scenarios/one-layer-25.yaml --set cost=literal
      edgeemu simulate scenarios/lan-25.yaml --set model=llama-2-7b --set workload.prompts="[{tokens: 64}]"
    """
    _run(scenario, policy, settings, out, as_json, simulate=True)


def _run(
    scenario: Path, policy: str | None, settings: list[str] | None, out: Path, as_json: bool, *, simulate: bool
) -> None:
    from edgeemu.cli.observers import watch
    from edgeemu.cli.page import Page
    from edgeemu.report.summary_tables import summary_lines, summary_tables
    from edgeemu.run.run_scenario import run_scenario

    wanted = _load(scenario, settings)
    _check_writable(out)
    text, several = sys.stderr if as_json else sys.stdout, wanted.workload.concurrency > 1
    with watch(text, sys.stderr, words=not simulate, several=several) as observer:
        result = until_signal(run_scenario(wanted, policy=policy, out=out, observer=observer, simulate=simulate))

    def show(page: Page) -> None:
        for table in summary_tables(result.summary):
            page.table(*table)
            page.line()
        for line in summary_lines(result.summary):
            page.line(line)
        page.line(f"records: {result.directory}")

    _answer({**result.summary, "directory": str(result.directory)}, as_json, show)
    if result.summary["certificate"]["verdict"] == "INVALID":
        raise typer.Exit(INVALID)


@app.command()
def compare(
    scenario: ScenarioFile,
    policies: Annotated[
        str, typer.Option("--policies", metavar="A,B,C", help="Names with commas between them, or all.")
    ] = "all",
    repeats: Annotated[int, typer.Option("--repeats", metavar="N", min=1, help="Runs of each policy.")] = 1,
    simulated: Annotated[bool, typer.Option("--simulate", help="On the timeline alone, as simulate does.")] = False,
    settings: Settings = None,
    out: OutDirectory = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Run a scenario under several policies, and show their figures side by side.

    Every policy sees the same cluster, the same draws and the same load. The best single device (single) is always in
    the table. A policy that finds no placement is in it too, with its reason. Each run leaves its records below --out.
    The best comes first in what the scenario is after: its objective, by default latency.

    \b
    Examples:
      edgeemu compare scenarios/lan-5.yaml
      edgeemu compare scenarios/lan-5.yaml --policies lookahead,mdi,galaxy --repeats 3
      edgeemu compare scenarios/lan-25.yaml --simulate --json > comparison.json
      edgeemu compare scenarios/lan-25.yaml --simulate --set objective=throughput
    """
    from edgeemu.cli.observers import watch_one_of
    from edgeemu.report.comparison import JUDGED, comparison, comparison_lines, comparison_table
    from edgeemu.run.compare import compare_scenario, named_policies

    names = named_policies([name.strip() for name in policies.split(",") if name.strip()])
    wanted = _load(scenario, settings)
    _check_writable(out)
    watch = watch_one_of(sys.stderr if as_json else sys.stdout, sys.stderr)
    comparing = compare_scenario(wanted, names, repeats=repeats, simulate=simulated, out=out, watch=watch)
    document = comparison(wanted.name, until_signal(comparing), JUDGED[wanted.objective], words=not simulated)

    def show(page: "Page") -> None:
        page.line()
        page.table(*comparison_table(document))
        for line in comparison_lines(document):
            page.line(line)

    _answer(document, as_json, show)
    status = _comparison_status(document)
    if status:
        raise typer.Exit(status)


def _comparison_status(document: dict[str, Any]) -> int:
    """As of a run: that some policy has no placement is a finding, unless none has one."""
    rows = document["policies"]
    if document["tokens_equal"] is False or any(row["status"] == FAILED for row in rows):
        return FAILED
    if all(row["problem"] for row in rows):
        return max(int(row["status"]) for row in rows)
    return INVALID if any(row["certificate"] == "INVALID" for row in rows) else 0


@app.command()
def validate(
    scenario: ScenarioFile, policy: PolicyName = None, settings: Settings = None, as_json: AsJson = False
) -> None:
    """Check a scenario without running it.

    It can be read, its model is there, and the policy finds room for it.

    \b
    Examples:
      edgeemu validate scenarios/quickstart.yaml
      edgeemu validate scenarios/quickstart.yaml --set devices[0].memory="256 MiB" --json
    """
    from edgeemu.report.formats import counted
    from edgeemu.run.make_plan import make_plan

    plan = make_plan(_load(scenario, settings), policy)
    document = {
        "valid": True,
        "scenario": plan.scenario.name,
        "model": plan.model.name,
        "devices": len(plan.cluster.devices),
        "prompts": len(plan.requests),
        "policy": plan.policy,
    }

    def show(page: "Page") -> None:
        devices, prompts = counted(len(plan.cluster.devices), "device"), counted(len(plan.requests), "prompt")
        page.line(f"{scenario} is valid: {plan.model.name} on {devices}, {prompts}; {plan.policy} finds room for it")

    _answer(document, as_json, show)


@app.command()
def plan(scenario: ScenarioFile, policy: PolicyName = None, settings: Settings = None, as_json: AsJson = False) -> None:
    """Show where a policy places what.

    Who would hold what, the memory that takes, and the latency that the timeline predicts. Runs nothing.

    \b
    Examples:
      edgeemu plan scenarios/quickstart.yaml
      edgeemu plan scenarios/quickstart.yaml --policy round-robin --json
    """
    from edgeemu.report.formats import counted
    from edgeemu.run.make_plan import make_plan
    from edgeemu.run.plan_tables import plan_document, plan_tables

    made = make_plan(_load(scenario, settings), policy)

    def show(page: "Page") -> None:
        page.line(f"{made.model.name} on {counted(len(made.cluster.devices), 'device')}, placed by {made.policy}:")
        for table in plan_tables(made):
            page.table(*table)
            page.line()

    _answer(plan_document(made), as_json, show)


profiles = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
app.add_typer(profiles, name="profile", help="Measure what runs stand on, and compare it with what is asked.")


@profiles.command()
def links(
    scenario: ScenarioFile, policy: PolicyName = None, settings: Settings = None, as_json: AsJson = False
) -> None:
    """Measure a scenario's links, and compare them with what the scenario asks for.

    Starts its devices as a run does, and sends messages over one link of each kind that the run would use: delay of a
    small message, throughput of a long transfer, round trip of the run's own messages. All in emulated time; "late" is
    how long after its arrival a message was let through, by the clock. Of stamped links the figures are those that the
    timeline has computed.

    \b
    Examples:
      edgeemu profile links scenarios/quickstart.yaml
      edgeemu profile links scenarios/quickstart.yaml --set network.backend=hybrid --json
    """
    from edgeemu.cli.observers import watch
    from edgeemu.report.link_certificate import profile_table
    from edgeemu.run.profile_links import profile_links

    wanted = _load(scenario, settings)
    with watch(sys.stderr, sys.stderr, words=False) as observer:
        document = until_signal(profile_links(wanted, policy, observer.phase))

    def show(page: "Page") -> None:
        page.table(*profile_table(document))
        why = f", not kernel: {document['why_not_kernel']}" if document["why_not_kernel"] else ""
        page.line(f"{document['links']} links{why}; dilation {document['dilation']:g}")

    _answer(document, as_json, show)


@app.command()
def devices(as_json: AsJson = False) -> None:
    """List the devices that scenarios may name.

    \b
    Examples:
      edgeemu devices
      edgeemu devices --json
    """
    from edgeemu.report.catalog_tables import device_table
    from edgeemu.scenario.catalog import device_profiles

    profiles = device_profiles()
    document = [profile.model_dump(mode="json", exclude_none=True) for profile in profiles.values()]
    _answer(document, as_json, _shower(device_table(profiles.values())))


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models that scenarios may name.

    \b
    Examples:
      edgeemu models
      edgeemu models --json
    """
    from edgeemu.report.catalog_tables import model_table
    from edgeemu.scenario.catalog import model_entries

    entries = model_entries()
    document = [entry.model_dump(mode="json", exclude_none=True) for entry in entries.values()]
    _answer(document, as_json, _shower(model_table(entries.values())))


@app.command()
def policies(as_json: AsJson = False) -> None:
    """List the policies that place models.

    \b
    Examples:
      edgeemu policies
      edgeemu policies --json
    """
    from edgeemu.policies import POLICIES
    from edgeemu.report.formats import Table

    document = [{"name": name, "description": text} for name, text in POLICIES.items()]
    _answer(document, as_json, _shower(Table(("policy", "places"), list(POLICIES.items()))))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Show what this host can do for a run.

    Tries links, memory caps, real-time priority and the processor, says what that means for a scenario, and which one
    command would improve it most. Needs no privileges and changes nothing.

    \b
    Examples:
      edgeemu doctor
      edgeemu doctor --json
    """
    from edgeemu.cli.page import Page
    from edgeemu.host.doctor import LinkSupport, examine
    from edgeemu.links.netns.capabilities import probe_host
    from edgeemu.report.catalog_tables import host_table

    status = Page(sys.stderr)

    def probe_links() -> LinkSupport:
        able = probe_host()
        return LinkSupport(
            able.why_not("kernel"), able.why_not("hybrid"), able.namespaces, able.user_namespaces, dict(able.missing)
        )

    found = examine(probe_links, lambda step: status.line(f"trying: {step} …", "dim"))

    def show(page: Page) -> None:
        page.table(*host_table(found.document()))
        page.line()
        for topic, meaning in found.meaning().items():
            page.line(f"{topic}: {meaning}")
        command, why = found.advice()
        page.line()
        page.line(f"to improve: {command}  ({why})" if command else f"to improve: no command; {why}")

    _answer(found.document(), as_json, show)


@app.command()
def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what dead runs have left.

    Processes, control groups and private directories whose run is dead, known by its process id, start time and boot;
    never by a name. What belongs to a living run stays. Records (--out of run) are not touched. A run that ends, or is
    killed, clears up after itself: there is something here only if its fork server was killed or stopped as well.

    \b
    Examples:
      edgeemu clean --dry-run
      edgeemu clean --json
    """
    from edgeemu.host.clean import clean as clean_up
    from edgeemu.report.formats import counted

    items = clean_up(dry_run=dry_run)
    removed = [item for item in items if not item.left]
    left = [item for item in items if item.left]
    document = {
        "dry_run": dry_run,
        "removed": [{"kind": item.kind, "what": item.what, "owner_pid": item.owner_pid} for item in removed],
        "left": [
            {"kind": item.kind, "what": item.what, "owner_pid": item.owner_pid, "why": item.left} for item in left
        ],
    }

    def show(page: "Page") -> None:
        for item in removed:
            page.line(
                f"{'would remove' if dry_run else 'removed'} {item.kind} {item.what}: run {item.owner_pid} is dead"
            )
        for item in left:
            page.line(f"left {item.kind} {item.what}: {item.left} (run {item.owner_pid})")
        if not items:
            page.line("nothing is left of any run")
        elif not removed:
            page.line(f"nothing to remove; {counted(len(left), 'thing')} left")

    _answer(document, as_json, show)


@app.command()
def schema(as_json: Annotated[bool, typer.Option("--json", help="Changes nothing: it is JSON.")] = False) -> None:
    """Print the JSON schema of scenarios.

    For editors that complete and check YAML.

    \b
    Examples:
      edgeemu schema > scenario.schema.json
    """
    del as_json
    from edgeemu.scenario.load import scenario_json_schema

    _print_json(scenario_json_schema())


# What the commands share


def _load(path: Path, settings: list[str] | None) -> "Scenario":
    from edgeemu.scenario.load import load_scenario

    return load_scenario(path, settings or ())


def _check_writable(out: Path) -> None:
    """Before anything is started, rather than when the first record is written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f'"{out}" cannot be made: {error.strerror}', field="--out") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise RequestError(f'"{out}" cannot be written to', field="--out")


def _answer(document: Any, as_json: bool, show: "Callable[[Page], None]") -> None:
    if as_json:
        _print_json(document)
        return
    from edgeemu.cli.page import Page

    show(Page(sys.stdout))


def _shower(table: "Table") -> "Callable[[Page], None]":
    return lambda page: page.table(*table)


def _print_json(document: Any) -> None:
    from edgeemu.report.run_directory import to_json

    print(to_json(document), flush=True)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The `edgeemu` command."""
    call(app, list(sys.argv[1:] if arguments is None else arguments) or ["--help"])


if __name__ == "__main__":
    main()
