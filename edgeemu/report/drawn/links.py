"""Picture of the messages of a run: what they took on the paths that took most time."""

from __future__ import annotations

from edgeemu.report.critical.critical_path import TimePart
from edgeemu.report.drawn.latency import bars
from edgeemu.report.drawn.run_data import RunData
from edgeemu.report.drawn.sheet import Drawing, Sheet
from edgeemu.report.formats import path_text

MAX_PATHS = 12


def link_drawing(data: RunData) -> Drawing | None:
    """Mean time of a message on the paths whose messages took most time in all; None: there were none."""
    uses = sorted(data.links, key=lambda use: -use.transit_s)[:MAX_PATHS]
    if not uses:
        return None
    of = "" if len(uses) == len(data.links) else f", the {len(uses)} of {len(data.links)} paths that took most time"
    caption = f"Mean time of a message on each path, by what it consists of, in milliseconds{of}"

    def draw(sheet: Sheet) -> None:
        rows = [
            (
                path_text(use.source, use.target),
                {
                    TimePart.TRANSMISSION: 1000 * use.transfer_s / use.messages,
                    TimePart.LATENCY: 1000 * use.delay_s / use.messages,
                    TimePart.LINK_QUEUE: 1000 * max(0.0, use.queue_s) / use.messages,
                },
            )
            for use in uses
        ]
        bars(sheet, rows, "time of a message (ms)")

    return Drawing("links", "Messages", caption, draw)
