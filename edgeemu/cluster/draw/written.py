"""Links written back as a scenario gives them: exact texts, every random value sampled."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from edgeemu.cluster.draw.links import DRAWN_FIELDS, ENERGY_FIELDS, VARYING_FIELDS, KeyedValue, LinkDraws
from edgeemu.cluster.draw.variation import is_drawn, with_seed
from edgeemu.cluster.links import Link, LinkEnds
from edgeemu.cluster.topology import Topology
from edgeemu.scenario.distributions import Distribution
from edgeemu.scenario.scenario import Scenario
from edgeemu.topologies import End
from edgeemu.units import BIT_RATE, DURATION, ENERGY_PER_BIT

Texts = Callable[[str, float], str]  # of a field's value
_UNITS = {"bandwidth": BIT_RATE, "delay": DURATION, "jitter": DURATION}
PAIRWISE_UP_TO = 100  # ends of links: in larger clusters, links with random values are left to be sampled again


def written_links(scenario: Scenario, draws: LinkDraws, topology: Topology) -> Iterator[dict[str, Any]]:
    """The entries of `network.links`, complete for each pair of ends that has an entry."""
    text = cache(_text)  # most links have some values of the default

    def whole(a: End, b: End) -> dict[str, Any]:
        return _written_link(scenario.seed, topology.link(a, b), draws.values(a, b), text)

    patterned, pattern, drawn = _by_pattern(draws), dict[str, Any](), dict[str, list[list[float]]]()
    for a, b in _pairs(scenario, draws, topology):
        if patterned and draws.has_default(a, b):
            if not pattern:
                pattern, drawn = whole(a, b), {field: found.tolist() for field, found in draws.drawn_defaults().items()}
            i, j = (-1 if end is None else end for end in (a, b))
            ends = {"between": [draws.name(a), draws.name(b)]}
            yield ends | pattern | _written_fields({field: found[i][j] for field, found in drawn.items()}, _text)
            continue
        there = back = whole(a, b)
        if not draws.alike(a, b):
            back = whole(b, a)
        if there == back:
            yield {"between": [draws.name(a), draws.name(b)], **there}
        else:
            yield {"from": draws.name(a), "to": draws.name(b), **there}
            yield {"from": draws.name(b), "to": draws.name(a), **back}


def written_default(draws: LinkDraws) -> dict[str, Any]:
    """The fields of `network.default` but its energy; random ones are left out."""
    return _written_fields({field: draws.default[field] for field in DRAWN_FIELDS}, _text)


def written_default_energy(draws: LinkDraws) -> dict[str, str]:
    """The energy of `network.default`; random values are left out."""
    return _written_energy({field: draws.default[field] for field in ENERGY_FIELDS if field in draws.default})


def _pairs(scenario: Scenario, draws: LinkDraws, topology: Topology) -> list[LinkEnds]:
    """The pairs of ends that need an entry: those with overrides; all of a small cluster, if the default is random."""
    drawn = any(isinstance(given, Distribution) or is_drawn(given) for given in draws.default.values())
    n_ends = topology.n_devices + (scenario.network.access_point is not None)
    if drawn and n_ends <= PAIRWISE_UP_TO:
        return [(a, b) for a, b in topology.links() if a is not None and (b is None or a < b)]
    found = {
        pair
        for override in scenario.network.links
        for a, b in [[scenario.ends(name) for name in override.ends]]
        for i in a
        for j in b
        if topology.joined(i, j)
        for pair in ((i, j), (j, i))
    }
    return sorted(
        ((a, b) for a, b in found if a is not None and (b is None or a < b)),
        key=lambda pair: tuple(topology.n_devices if end is None else end for end in pair),
    )


def _by_pattern(draws: LinkDraws) -> bool:
    """Whether links that have the default differ by its random fields alone, on which no other field depends."""
    apart = {"bandwidth", "loss"} | ({"delay"} if draws.default["jitter"] == 0.0 else set())
    return draws.random_default.keys() <= apart and draws.default.keys().isdisjoint(VARYING_FIELDS)


def _written_link(seed: int, link: Link, values: Mapping[str, KeyedValue], text: Texts) -> dict[str, Any]:
    """All fields of one direction of a link."""
    fields: dict[str, Any]
    fields = {"bandwidth": link.bandwidth_bps, "delay": link.delay_s, "jitter": link.jitter_s, "loss": link.loss}
    fields |= {field: share for field in ("reorder", "duplicate") if (share := getattr(link, field))}
    for field in VARYING_FIELDS:
        if field in values:
            fields[field] = with_seed(values[field].given, seed, *values[field].key)
    energy = _written_energy(dict(zip(ENERGY_FIELDS, (link.send_j_per_bit, link.receive_j_per_bit), strict=True)))
    unpriced = values.get("unpriced")  # a type without energy: its name keeps that of the default from being used
    own_type = {"type": unpriced.given} if unpriced and len(energy) < len(ENERGY_FIELDS) else {}
    return own_type | _written_fields(fields, text) | ({"energy": energy} if energy else {})


def _written_fields(fields: Mapping[str, Any], text: Texts) -> dict[str, Any]:
    """Exact texts of fields, without distributions."""
    return {
        field: text(field, value) if field in _UNITS else value
        for field, value in fields.items()
        if not isinstance(value, Distribution)
    }


def _text(field: str, value: float) -> str:
    return _UNITS[field].format_exact(value)


def _written_energy(energy: Mapping[str, Any]) -> dict[str, str]:
    """`energy.send` and `energy.receive` as keys of `energy`, where they are known, without distributions."""
    return {
        field.removeprefix("energy."): ENERGY_PER_BIT.format_exact(value)
        for field, value in energy.items()
        if value is not None and not isinstance(value, Distribution)
    }
