"""Breakdown of the time of tokens by what they waited for: kind of part, device, path and block. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.report.critical.critical_path import CriticalPaths, TimePart
from edgeemu.report.critical.recorded_steps import NONE, Integers
from edgeemu.report.formats import Table, ms_text, path_text, percent_text, share_text

MAX_ROWS = 12  # of devices, and of paths, that a table lists
ON_DEVICES = {TimePart.COMPUTE: "compute", TimePart.MESSAGE_OVERHEAD: "overhead", TimePart.DEVICE_QUEUE: "queue"}
ON_PATHS = {TimePart.TRANSMISSION: "transmission", TimePart.LATENCY: "latency", TimePart.LINK_QUEUE: "queue"}
WORDS: Mapping[TimePart, str] = {
    TimePart.COMPUTE: "computing",
    TimePart.MESSAGE_OVERHEAD: "message overhead",
    TimePart.TRANSMISSION: "transmission",
    TimePart.LATENCY: "latency of links",
    TimePart.LINK_QUEUE: "queueing for links",
    TimePart.DEVICE_QUEUE: "queueing for devices",
    TimePart.ADMISSION: "waiting for other sequences",
    TimePart.CONTROLLER: "decisions",
    TimePart.MIGRATION: "migration",
    TimePart.RECOVERY: "recovery from faults",
    TimePart.UNKNOWN: "not recorded",
}


class WaitingPlace(NamedTuple):
    """A device, or a path from a device to another, on which tokens waited."""

    device: str
    target: str | None  # None: the device alone
    ms: dict[str, float]  # per token, by kind of part

    @property
    def name(self) -> str:
        """Name of the device, or of both ends of the path."""
        return self.device if self.target is None else path_text(self.device, self.target)

    @property
    def total_ms(self) -> float:
        return sum(self.ms.values())


class Breakdown(NamedTuple):
    """Mean time of a token in milliseconds, over those after the first of their sequence where there are any."""

    tokens: int
    first: bool  # there are none but first tokens
    total_ms: float
    parts_ms: dict[TimePart, float]
    devices: list[WaitingPlace]  # most first
    paths: list[WaitingPlace]  # most first
    blocks_ms: dict[str, float]  # that is computed, most first


def breakdown(paths: CriticalPaths) -> Breakdown:
    """Add up the critical paths of a run's tokens."""
    later = paths.step > 0
    first = not later.any()
    counted = np.ones(len(later), np.bool_) if first else later  # [n_tokens]
    n = int(counted.sum())
    chosen = counted[paths.token]  # [n_parts]
    part, device, target, block = (x[chosen] for x in (paths.part, paths.device, paths.target, paths.block))
    ms = 1000 * paths.spent_s[chosen] / max(n, 1)
    by_part = np.bincount(part, ms, len(TimePart))
    computed = (part == TimePart.COMPUTE) & (block != NONE)
    by_block = np.bincount(block[computed], ms[computed], len(paths.blocks))
    return Breakdown(
        n,
        first,
        float(1000 * paths.latency_s[counted].sum() / max(n, 1)),
        {each: float(by_part[each]) for each in TimePart if by_part[each] > 0},
        _places(paths.devices, ON_DEVICES, part, device, np.full(len(part), NONE), ms),
        _places(paths.devices, ON_PATHS, part, device, target, ms),
        dict(sorted(((name, float(by_block[at])) for at, name in enumerate(paths.blocks)), key=lambda item: -item[1])),
    )


def _places(
    names: Sequence[str],
    kinds: Mapping[TimePart, str],
    part: Integers,
    device: Integers,
    target: Integers,
    ms: NDArray[np.float64],
) -> list[WaitingPlace]:
    """Places with their times by kind, those with most first."""
    found: dict[tuple[int, int], dict[str, float]] = {}
    for kind, word in kinds.items():
        mine = (part == kind) & (device != NONE)
        keys, which = np.unique(np.stack([device[mine], target[mine]]), axis=1, return_inverse=True)
        sums = np.bincount(which.ravel(), ms[mine], keys.shape[1])
        for (source, end), spent_ms in zip(keys.T.tolist(), sums.tolist(), strict=True):
            found.setdefault((source, end), {})[word] = spent_ms
    places = [WaitingPlace(names[at], None if to == NONE else names[to], spent) for (at, to), spent in found.items()]
    return sorted(places, key=lambda place: -place.total_ms)


def breakdown_document(made: Breakdown) -> dict[str, Any]:
    """Make the JSON document of a breakdown."""
    return {
        "tokens": made.tokens,
        "of": "first tokens" if made.first else "tokens after the first",
        "ms_per_token": made.total_ms,
        "parts_ms": {part.name.lower(): ms for part, ms in made.parts_ms.items()},
        "devices": [{"device": place.device, "ms": place.ms, "total_ms": place.total_ms} for place in made.devices],
        "paths": [
            {"source": place.device, "target": place.target, "ms": place.ms, "total_ms": place.total_ms}
            for place in made.paths
        ],
        "computed_ms": {name: ms for name, ms in made.blocks_ms.items() if ms > 0},
    }


Utilisation = Mapping[str, Mapping[str, float | None]]  # device -> mbu, mfu -> share; as in summary.json


def breakdown_tables(made: Breakdown, used: Utilisation) -> list[Table]:
    """Make the tables of a breakdown: by kind of part, by block, by device with what it used of its rates, by path."""
    if not made.tokens:
        return []
    parts = sorted(made.parts_ms.items(), key=lambda item: -item[1])
    by_part = [[WORDS[part], ms_text(ms), _share(ms, made)] for part, ms in parts]
    by_block = [[name, ms_text(ms), _share(ms, made)] for name, ms in made.blocks_ms.items() if ms > 0]
    tables = [
        Table(("where a token's time goes", ">per token", ">share"), by_part),
        Table(("block", ">computing", ">share"), by_block),
        _place_table("device", made.devices, ON_DEVICES, made, used),
        _place_table("path", made.paths, ON_PATHS, made, {}),
    ]
    return [table for table in tables if table.rows]


def _place_table(
    heading: str, places: Sequence[WaitingPlace], kinds: Mapping[TimePart, str], made: Breakdown, used: Utilisation
) -> Table:
    words = [word for word in kinds.values() if any(place.ms.get(word, 0.0) > 0 for place in places)]
    rates = ("mbu", "mfu") if used else ()
    rows = [
        [
            place.name,
            *(ms_text(place.ms.get(word, 0.0)) for word in words),
            _share(place.total_ms, made),
            *(share_text(used.get(place.device, {}).get(rate)) for rate in rates),
        ]
        for place in places[:MAX_ROWS]
    ]
    columns = (heading, *(f">{word}" for word in words), ">share", *(f">{rate.upper()}" for rate in rates))
    return Table(columns, rows)


def breakdown_lines(made: Breakdown) -> list[str]:
    """Say in sentences on what the most time is lost, and where."""
    if not made.tokens:
        return ["no token is recorded"]
    whose = "first token" if made.first else "token after the first"
    parts = sorted(made.parts_ms.items(), key=lambda item: -item[1])
    most = ", ".join(f"{_share(ms, made)} {WORDS[part]}" for part, ms in parts[:3])
    lines = [f"of {ms_text(made.total_ms)} per {whose}: {most}"]
    if made.devices:
        place = made.devices[0]
        kinds = sorted(((ms, word) for word, ms in place.ms.items() if ms > 0), reverse=True)
        how = " and ".join(f"{ms_text(ms)} of {word}" for ms, word in kinds[:2])
        lines.append(f"the device on which most is lost is {place.name}: {_share(place.total_ms, made)}, {how}")
    if made.paths:
        place = made.paths[0]
        of = ", ".join(f"{ms_text(ms)} of {word}" for word, ms in place.ms.items() if ms > 0)
        lines.append(f"the path on which most is lost is {place.name}: {_share(place.total_ms, made)}, {of}")
    return lines


def _share(ms: float, made: Breakdown) -> str:
    return percent_text(ms / made.total_ms, 1) if made.total_ms else "–"
