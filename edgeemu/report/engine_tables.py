"""Tables of engines: all of them in one row each, or one with the source of each figure."""

from collections.abc import Iterable

from edgeemu.report.formats import Table
from edgeemu.scenario.catalog.engines import EngineEntry
from edgeemu.units import DURATION, FRACTION

_TIMES = ("operation_overhead", "remote_overhead", "message_overhead", "byte_overhead", "message_latency")
_SHARES = ("bandwidth_share", "compute_share")


def engines_table(entries: Iterable[EngineEntry]) -> Table:
    """Make the table of all engines."""
    rows = [
        [
            entry.name,
            entry.title,
            entry.policy.value,
            _formats(entry),
            *(DURATION.format_human(getattr(entry, field).value) for field in ("message_overhead", "message_latency")),
            FRACTION.format_human(entry.bandwidth_share.value),
        ]
        for entry in entries
    ]
    costs = (">message, both ends", ">message, shared", ">bandwidth")
    columns = ("engine", "software", "policy", "weights/cache/messages", *costs)
    return Table(columns, rows, ("software", "bandwidth", "weights/cache/messages"))


def engine_table(entry: EngineEntry) -> Table:
    """Make the table of one engine: each figure with its label and source."""
    sharding = entry.sharding.value
    rows = [
        ["title", entry.title, "", ""],
        ["policy", entry.policy.value, "", entry.policy.source],
        ["precision", _formats(entry), "", entry.precision.source],
        ["collectives", sharding.collectives or "the policy's", "", entry.sharding.source],
        ["partial sums", sharding.partials, "", ""],
    ]
    for fields, quantity in ((_TIMES, DURATION), (_SHARES, FRACTION)):
        for field in fields:
            figure = getattr(entry, field)
            if figure is None:
                continue
            rows.append([field, quantity.format_human(figure.value), figure.label, figure.source])
    rows.append(["cost of a message", "", "", entry.where_the_cost_of_a_message_lies])
    return Table((entry.name, "value", "label", "source"), rows, ("label",))


def _formats(entry: EngineEntry) -> str:
    precision = entry.precision.value
    return f"{precision.weights}/{precision.cache}/{precision.messages}"
