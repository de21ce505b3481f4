"""Commands that examine or clear up the host: doctor, clean."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from edgeemu.cli.answers import Form, answer, in_forms
from edgeemu.cli.options import AsJson

if TYPE_CHECKING:
    from edgeemu.cli.page import Page


@in_forms
def doctor(form: Form = Form.PAGE) -> None:
    """Show which features this host supports.

    Tries links, memory caps, real-time priority and the processor; reports the consequences for a scenario and the one
    command that would improve this host most. Needs no privileges and changes nothing.

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
            page.sentence(f"{topic}: {meaning}")
        command, why = found.advice()
        page.line()
        page.line(f"to improve: {command}  ({why})" if command else f"to improve: no command; {why}")

    answer(found.document(), form, show)


def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be removed, and remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove leftovers of this user's ended runs.

    Leftovers are processes, control groups and private directories of a run whose controller has ended: identified by
    process id, start time and boot, never by name. A living run keeps everything. Records (--out of run) stay. A run
    that ends or is killed cleans up after itself; leftovers exist only if its fork server was killed or stopped too.
    What belongs to another user is not touched, also not by root: use sudo -u USER edgeemu clean.

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

    def show(page: Page) -> None:
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

    answer(document, Form.JSON if as_json else Form.PAGE, show)
