"""Links written back as a scenario gives them: exact texts, every random value sampled."""

from collections.abc import Iterator, Mapping
from typing import Any

from edgeemu.cluster.draw.links import DRAWN_FIELDS, ENERGY_FIELDS, VARYING_FIELDS, LinkDraws
from edgeemu.cluster.draw.variation import is_drawn, with_seed
from edgeemu.cluster.links import LinkEnds
from edgeemu.cluster.topology import Topology
from edgeemu.scenario.distributions import Distribution
from edgeemu.scenario.scenario import Scenario
from edgeemu.units import BIT_RATE, DURATION, ENERGY_PER_BIT

PAIRWISE_UP_TO = 100  # ends of links: in larger clusters, links with random values are left to be sampled again


def written_links(scenario: Scenario, draws: LinkDraws, topology: Topology) -> Iterator[dict[str, Any]]:
    """The entries of `network.links`, complete for each pair of ends that has an entry."""
    for a, b in _pairs(scenario, draws, topology):
        there = back = _written_link(scenario.seed, draws, topology, (a, b))
        if topology.link(a, b) != topology.link(b, a) or draws.values(a, b) != draws.values(b, a):
            back = _written_link(scenario.seed, draws, topology, (b, a))
        if there == back:
            yield {"between": [draws.name(a), draws.name(b)], **there}
        else:
            yield {"from": draws.name(a), "to": draws.name(b), **there}
            yield {"from": draws.name(b), "to": draws.name(a), **back}


def written_default(draws: LinkDraws) -> dict[str, Any]:
    """The fields of `network.default` but its energy; random ones are left out."""
    return _written_fields({field: draws.default[field] for field in DRAWN_FIELDS})


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


def _written_link(seed: int, draws: LinkDraws, topology: Topology, ends: LinkEnds) -> dict[str, Any]:
    """All fields of one direction of a link."""
    link, values = topology.link(*ends), draws.values(*ends)
    fields: dict[str, Any]
    fields = {"bandwidth": link.bandwidth_bps, "delay": link.delay_s, "jitter": link.jitter_s, "loss": link.loss}
    fields |= {field: share for field in ("reorder", "duplicate") if (share := getattr(link, field))}
    for field in VARYING_FIELDS:
        if field in values:
            fields[field] = with_seed(values[field].given, seed, *values[field].key)
    energy = _written_energy(dict(zip(ENERGY_FIELDS, (link.send_j_per_bit, link.receive_j_per_bit), strict=True)))
    unpriced = values.get("unpriced")  # a type without energy: its name keeps that of the default from being used
    own_type = {"type": unpriced.given} if unpriced and len(energy) < len(ENERGY_FIELDS) else {}
    return own_type | _written_fields(fields) | ({"energy": energy} if energy else {})


def _written_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Exact texts of fields, without distributions."""
    formats = {"bandwidth": BIT_RATE, "delay": DURATION, "jitter": DURATION}
    return {
        field: formats[field].format_exact(value) if field in formats else value
        for field, value in fields.items()
        if not isinstance(value, Distribution)
    }


def _written_energy(energy: Mapping[str, Any]) -> dict[str, str]:
    """`energy.send` and `energy.receive` as keys of `energy`, where they are known, without distributions."""
    return {
        field.removeprefix("energy."): ENERGY_PER_BIT.format_exact(value)
        for field, value in energy.items()
        if value is not None and not isinstance(value, Distribution)
    }
