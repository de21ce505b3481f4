"""Data of the pictures of one run, from its records in one go, as little as pictures need. Pure; reads tables."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from edgeemu.report.critical.breakdown import Breakdown, breakdown
from edgeemu.report.critical.critical_path import CriticalPaths, critical_paths
from edgeemu.report.critical.recorded_steps import Integers
from edgeemu.report.drawn.bins import Bins, bins, busy_shares
from edgeemu.report.drawn.palette import DeviceColours
from edgeemu.report.facts import RunFacts
from edgeemu.report.figures import RecordTables, TokenFigures, sequence_rows, token_figures
from edgeemu.report.rows import MEMORY_COLUMNS, ConditionRow, DecisionRow, PlacementRow
from edgeemu.report.statistics import Floats
from edgeemu.report.usage_tables import totals_by_name

MAX_NAMED = 25  # devices that pictures show one by one; of more, those that computed most


class Epoch(NamedTuple):
    """A placement, and from when to when it was in force."""

    number: int
    at_s: float
    sequence: int
    step: int
    rows: list[PlacementRow]


class PathUse(NamedTuple):
    """All messages of a run from one device to another, added up."""

    source: str
    target: str
    messages: int
    bytes: int
    transit_s: float
    queue_s: float
    transfer_s: float
    delay_s: float


class ChangeMade(NamedTuple):
    """A change of placement: before which step it was decided, when it began, what it moved, and what came of it."""

    sequence: int
    step: int
    epoch: int
    began_s: float
    pause_s: float
    bytes: int
    outcome: str


class TokenOps(NamedTuple):
    """Operations of one token: [n] each."""

    sequence: int
    step: int
    device: list[str]
    start_s: Floats
    end_s: Floats


@dataclass(frozen=True)
class RunData:
    """Records of a run, as far as they are shown."""

    facts: RunFacts
    tokens: TokenFigures
    paths: CriticalPaths
    begin_s: float
    end_s: float
    time: Bins
    busy_s: Mapping[str, Floats]  # by device: in each bin of `time`
    memory_bytes: Mapping[str, tuple[int, ...]]  # by device: of `MEMORY_COLUMNS`, when it held most
    links: Sequence[PathUse]  # those of most bytes first
    epochs: Sequence[Epoch]
    moved: Sequence[ChangeMade]
    decisions: Sequence[DecisionRow]
    conditions: Sequence[ConditionRow]
    one_token: TokenOps | None

    @cached_property
    def lost(self) -> Breakdown:
        """Where the time of tokens went."""
        return breakdown(self.paths)

    @cached_property
    def computing(self) -> list[str]:
        """Devices that computed, those that did most first."""
        total_s = {device: float(busy_s.sum()) for device, busy_s in self.busy_s.items()}
        return sorted(total_s, key=lambda device: -total_s[device])

    @cached_property
    def shown(self) -> list[str]:
        """Devices that pictures show one by one, in the order of the scenario: those that computed or held most."""
        at = {device.name: number for number, device in enumerate(self.facts.devices)}
        held = sorted(self.memory_bytes, key=lambda device: -sum(self.memory_bytes[device]))
        chosen = list(dict.fromkeys([*self.computing, *held, *at]))[:MAX_NAMED]
        return sorted(chosen, key=lambda device: at.get(device, len(at)))

    @cached_property
    def colours(self) -> DeviceColours:
        named = list(dict.fromkeys([*self.computing, *self.shown]))
        at = {device.name: number for number, device in enumerate(self.facts.devices)}
        return DeviceColours(sorted(named[:8], key=lambda device: at.get(device, len(at))))

    @property
    def one_sequence(self) -> bool:
        """Whether all tokens are of one sequence."""
        return self.tokens.number > 0 and int(self.tokens.sequence.max()) == 0

    @cached_property
    def changes(self) -> list[Epoch]:
        """Placements after the first."""
        return [epoch for epoch in self.epochs if epoch.number]


def run_data(records: RecordTables, facts: RunFacts) -> RunData:
    """Read what pictures show of a run that has ended, was killed, or goes on."""
    tokens = token_figures(records, sequence_rows(records), facts.dilation)
    paths = critical_paths(records)
    first = tokens.emulated_s[tokens.first] - tokens.latency_s[tokens.first]
    begin_s = float(first.min(initial=np.inf)) if len(first) else 0.0
    end_s = float(tokens.emulated_s.max(initial=begin_s))
    time = bins(begin_s, end_s)
    busy_s, one_token = _operations(records, time, _typical(tokens))
    return RunData(
        facts,
        tokens,
        paths,
        begin_s,
        end_s,
        time,
        busy_s,
        _memory(records),
        _links(records),
        _epochs(records),
        _moved(records),
        [DecisionRow(**row) for table in records.read("decisions") for row in table.to_pylist()],
        [ConditionRow(**row) for table in records.read("conditions") for row in table.to_pylist()],
        one_token,
    )


def _typical(tokens: TokenFigures) -> tuple[int, int] | None:
    """Sequence and step of a token of the median latency, of those after the first of their sequence."""
    later = np.flatnonzero(~tokens.first)
    chosen = later if len(later) else np.arange(tokens.number)
    if not len(chosen):
        return None
    order = np.argsort(tokens.latency_s[chosen], kind="stable")
    at = chosen[order[(len(order) - 1) // 2]]
    return int(tokens.sequence[at]), int(tokens.step[at])


def _operations(
    records: RecordTables, time: Bins, wanted: tuple[int, int] | None
) -> tuple[dict[str, Floats], TokenOps | None]:
    """Seconds that devices computed in each bin, and the operations of one token."""
    busy_s: dict[str, Floats] = {}
    device: list[str] = []
    times: list[Floats] = [np.empty((0, 2))]
    for table in records.read("ops", ("device", "sequence", "step", "start_s", "end_s")):
        start_s, end_s = (table.column(name).to_numpy() for name in ("start_s", "end_s"))
        codes = table.column("device").unify_dictionaries().combine_chunks()
        for part in getattr(codes, "chunks", [codes]):
            which, names = part.indices.to_numpy(), part.dictionary.to_pylist()
            for code in np.unique(which).tolist():
                mine = which == code
                spent_s = busy_shares(start_s[mine], end_s[mine], time.edges)
                busy_s[names[code]] = busy_s.get(names[code], np.zeros(time.number)) + spent_s
        if wanted is not None:
            chosen = (table.column("sequence").to_numpy() == wanted[0]) & (table.column("step").to_numpy() == wanted[1])
            if chosen.any():
                rows = table.filter(chosen)
                device += rows.column("device").to_pylist()
                times.append(np.stack([start_s[chosen], end_s[chosen]], axis=1))
    both = np.concatenate(times)
    return busy_s, None if wanted is None else TokenOps(*wanted, device, both[:, 0], both[:, 1])


def _memory(records: RecordTables) -> dict[str, tuple[int, ...]]:
    """Memory of each device by kind, at the token after which it held most."""
    most: dict[str, tuple[int, ...]] = {}
    for table in records.read("devices", ("device", *MEMORY_COLUMNS)):
        held = np.stack([table.column(name).to_numpy() for name in MEMORY_COLUMNS], axis=1)  # [rows, kinds]
        order = np.argsort(held.sum(axis=1), kind="stable")
        names: list[str] = table.column("device").to_pylist()
        largest = {names[at]: at for at in order.tolist()}  # of several of one device the last stays
        for name, at in largest.items():
            now = tuple(int(value) for value in held[at])
            if sum(now) > sum(most.get(name, (-1,))):
                most[name] = now
    return most


def _links(records: RecordTables) -> list[PathUse]:
    columns = PathUse._fields[2:]
    uses = []
    for (source, target), totals in totals_by_name(records, "links", ("source", "target"), columns).items():
        messages, size_bytes, *times_s = (totals[column].sum or 0 for column in columns)
        uses.append(PathUse(source, target, int(messages), int(size_bytes), *times_s))
    return sorted(uses, key=lambda use: -use.bytes)


def _epochs(records: RecordTables) -> list[Epoch]:
    rows: dict[int, list[PlacementRow]] = defaultdict(list)
    for table in records.read("placements"):
        for row in table.to_pylist():
            rows[row["epoch"]].append(PlacementRow(**row))
    return [Epoch(number, of[0].at_s, of[0].sequence, of[0].step, of) for number, of in sorted(rows.items())]


def _moved(records: RecordTables) -> list[ChangeMade]:
    """Changes of placement, in the order in which they began."""
    found: dict[int, list[Any]] = {}
    begin = ("sequence", "step", "epoch", "began_s", "pause_s")
    for table in records.read("migrations", (*begin, "bytes", "outcome")):
        for row in table.to_pylist():
            begun = [row[name] for name in begin]
            found.setdefault(row["epoch"], [*begun, 0, row["outcome"]])[len(begin)] += row["bytes"]
    return sorted((ChangeMade(*values) for values in found.values()), key=lambda each: each.began_s)


def token_axis(data: RunData) -> tuple[Floats, str]:
    """Return the place of each token on the axis of pictures, and its label: tokens of one sequence, or time."""
    if data.one_sequence:
        return data.tokens.step.astype(np.float64) + 1, "token"
    return data.tokens.emulated_s, "time on the timeline (s)"


def places_of_changes(data: RunData) -> Floats:
    """Return where changes of placement are on that axis."""
    if data.one_sequence:
        return np.array([epoch.step + 0.5 for epoch in data.changes], np.float64)
    return np.array([epoch.at_s for epoch in data.changes], np.float64)


def part_totals(data: RunData, n_kinds: int) -> Floats:
    """Seconds of each kind on the critical path of each token: [n_tokens, n_kinds], in the order of `paths`."""
    n = len(data.paths.step)
    where: Integers = data.paths.token * n_kinds + data.paths.part
    totals = np.bincount(where, data.paths.spent_s, n * n_kinds).astype(np.float64).reshape(n, n_kinds)
    return totals[: data.tokens.number]  # the paths of a run that goes on were read later
