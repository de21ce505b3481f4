"""Tables of who holds what, and of how links were used. Pure."""

from edgeemu.report.drawn.placement import epoch_title
from edgeemu.report.drawn.run_data import Epoch, RunData
from edgeemu.report.formats import Table, ms_text, path_text, percent_text, size

MAX_ROWS = 32


def placement_tables(data: RunData) -> list[Table]:
    """Make the tables of the first placement and of the last: what each device holds, as a share of all."""
    ends = [data.epochs[0], data.epochs[-1]] if len(data.epochs) > 1 else list(data.epochs)
    return [_placement_table(data, epoch) for epoch in ends]


def _placement_table(data: RunData, epoch: Epoch) -> Table:
    whole: dict[str, float] = {}
    held: dict[str, dict[str, float]] = {}
    for row in epoch.rows:
        share = (row.end - row.first) / row.of
        whole[row.block] = whole.get(row.block, 0.0) + share
        mine = held.setdefault(row.device, {})
        mine[row.block] = mine.get(row.block, 0.0) + share
    kinds = [kind for kind in ("embed", "head", "proj", "ffn", "lm_head") if kind in whole]
    order = [device.name for device in data.facts.devices if device.name in held]
    order.sort(key=lambda device: -held[device].get("ffn", 0.0) - held[device].get("head", 0.0))
    rows = [[name, *(_share(held[name].get(kind, 0.0) / whole[kind]) for kind in kinds)] for name in order[:MAX_ROWS]]
    if len(order) > MAX_ROWS:
        rows.append([f"and {len(order) - MAX_ROWS} more", *[""] * len(kinds)])
    heads = {"head": "heads"}
    return Table((epoch_title(epoch), *(f">{heads.get(kind, kind)}" for kind in kinds)), rows)


def link_table(data: RunData) -> Table:
    """Make the table of paths: what they carried, what a message took, and the share of the run they transmitted."""
    span_s = data.end_s - data.begin_s
    rows = [
        [
            path_text(use.source, use.target),
            str(use.messages),
            size(use.bytes),
            *(ms_text(1000 * each / use.messages) for each in (use.transit_s, use.transfer_s, use.delay_s)),
            ms_text(1000 * max(0.0, use.queue_s) / use.messages),
            _share(use.transfer_s / span_s) if span_s > 0 else "",
        ]
        for use in data.links[:MAX_ROWS]
        if use.messages
    ]
    if len(data.links) > MAX_ROWS:
        rows.append([f"and {len(data.links) - MAX_ROWS} with less", *[""] * 7])
    return Table(
        ("path", ">messages", ">bytes", ">mean time", ">transmission", ">latency", ">queued", ">transmitting"), rows
    )


def _share(share: float) -> str:
    return "" if share == 0 else percent_text(share, 1)
