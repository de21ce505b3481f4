"""Drawing of links: which rules of the scenario hold for a pair of devices, and the values drawn for it."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from edgeemu.cluster.draw.value import draw_value
from edgeemu.cluster.draw.variation import course, factor_course, is_drawn, rate_course, seeded
from edgeemu.cluster.draw.written import written_energy, written_fields
from edgeemu.cluster.keyed_random import FloatArray, directed_uniforms, draw_lognormals, draw_uniforms, pair_uniforms
from edgeemu.cluster.links import End, Link
from edgeemu.cluster.topology import Arrays, IntArray
from edgeemu.cluster.variation import LinkVariation, product
from edgeemu.scenario.catalog import link_type
from edgeemu.scenario.distributions import Distribution
from edgeemu.scenario.network import LinkOverride, LinkSpec
from edgeemu.scenario.scenario import Scenario
from edgeemu.scenario.time_varying import LinkVariationSpec

DRAWN_FIELDS = ("bandwidth", "delay", "jitter", "loss", "reorder", "duplicate")
ENERGY_FIELDS = ("energy.send", "energy.receive")  # drawn too, where they are there
_ARRAY_FIELDS = ("bandwidth", "delay")
_VARYING_FIELDS = ("bandwidth_trace", "variation")
_PLAIN_FIELDS = (*DRAWN_FIELDS, *_VARYING_FIELDS)


WRITTEN_PAIRWISE = 100  # devices; with more, links that are drawn are left to be drawn again


class LinkDraws:
    """The direct link from one device to another, looked up when asked for. In a star, index n is the access point."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._point = scenario.network.access_point
        self._names = [*scenario.device_names, *([self._point] if self._point else [])]
        spec = scenario.network.default
        self.default: dict[str, Any] = dict.fromkeys(DRAWN_FIELDS[2:], 0.0) | (_given(spec) if spec else {})
        self._overrides = scenario.network.links
        self._for_pair: dict[tuple[int, int], list[int]] = defaultdict(list)
        self._for_groups: list[tuple[range, range, int]] = []
        for n, override in enumerate(self._overrides):
            for a, b in self._directions(override):
                if len(a) == len(b) == 1:
                    self._for_pair[a[0], b[0]].append(n)
                else:
                    self._for_groups.append((a, b, n))

    def link(self, a: int, b: int) -> Link:
        """What the default and, field by field, the overrides in their order say of the link from a to b."""
        values, seed = self._values(a, b), self._scenario.seed
        drawn = {field: draw_value(values[field][0], seed, *values[field][1], field) for field in DRAWN_FIELDS}
        priced = (values.get(field, (None, ())) for field in ENERGY_FIELDS)
        send, receive = (
            None if given is None else draw_value(given, seed, *key, field)
            for (given, key), field in zip(priced, ENERGY_FIELDS, strict=True)
        )
        bandwidth_bps, delay_s, jitter_s, loss, *packets = (drawn[field] for field in DRAWN_FIELDS)
        link = Link(bandwidth_bps, delay_s, jitter_s, loss, None, send, receive, *packets)
        if values.keys().isdisjoint(_VARYING_FIELDS):
            return link
        rates, _ = values.get("bandwidth_trace", (None, ()))
        varied, key = values.get("variation", (LinkVariationSpec(), ()))
        rate = product(rate_course(rates, link.bandwidth_bps), factor_course(varied.bandwidth, seed, *key, "bandwidth"))
        added_delay_s = course(varied.delay, seed, *key, "delay")
        varies = None if rate is None and added_delay_s is None else LinkVariation(rate, None, added_delay_s)
        return replace(link, varies=varies)

    def _values(self, a: int, b: int) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """Each field as it was given, and the names for which it is drawn."""
        first, second = sorted((self._names[a], self._names[b]))
        values: dict[str, tuple[Any, tuple[str, ...]]]
        values = {field: (given, ("link", first, second)) for field, given in self.default.items()}
        for n in self._applying(a, b):
            both_ways = self._overrides[n].between is not None
            key = ("link", first, second) if both_ways else ("link", self._names[a], "to", self._names[b])
            values |= {field: (given, key) for field, given in _given(self._overrides[n]).items()}
        return values

    def arrays(self, sources: IntArray, targets: IntArray) -> Arrays:
        """Bandwidths and delays of `link` for all sources and targets, [m, k] each; nothing of a device and itself."""
        made = {field: self._drawn(self.default.get(field), sources, targets, field) for field in _ARRAY_FIELDS}
        row_of, column_of = ({int(i): n for n, i in enumerate(indexes)} for indexes in (sources, targets))
        for override in self._overrides:
            given = _given(override)
            for a, b in self._directions(override):
                rows = [row_of[i] for i in a if i in row_of]
                columns = [column_of[i] for i in b if i in column_of]
                for field in _ARRAY_FIELDS if rows and columns else ():
                    if field in given:
                        both_ways = override.between is not None
                        drawn = self._drawn(given[field], sources[rows], targets[columns], field, both_ways=both_ways)
                        made[field][np.ix_(rows, columns)] = drawn
        return made["bandwidth"], made["delay"]

    def _drawn(
        self, given: Any, sources: IntArray, targets: IntArray, field: str, *, both_ways: bool = True
    ) -> FloatArray:
        """One field of all links, with the keys of `_values`: [m, k]. None, where there is no default, is nowhere."""
        if not isinstance(given, Distribution):
            return np.full((len(sources), len(targets)), np.inf if given is None else given)
        a, b = ([self._names[i] for i in indexes] for indexes in (sources, targets))
        u = (pair_uniforms if both_ways else directed_uniforms)(self._scenario.seed, "link", a, b, field)
        if given.lognormal is not None:
            return draw_lognormals(u, given.lognormal.low, given.lognormal.high)
        assert given.uniform is not None  # Distribution has made sure
        return draw_uniforms(u, given.uniform.low, given.uniform.high)

    def varying(self) -> frozenset[tuple[End, End]] | None:
        """The links that change over time by themselves; None: all of them."""
        if any(field in self.default for field in _VARYING_FIELDS):
            return None
        ends: list[End] = [*range(len(self._scenario.device_names)), *([None] if self._point else [])]
        return frozenset(
            (ends[i], ends[j])
            for override in self._overrides
            if any(getattr(override, field) is not None for field in _VARYING_FIELDS)
            for a, b in self._directions(override)
            for i in a
            for j in b
        )

    def pairs(self) -> list[tuple[int, int]]:
        """The pairs to be written out: those with overrides; all, where the default is drawn for each of a few."""
        everyone = range(len(self._names))
        drawn = any(isinstance(given, Distribution) or is_drawn(given) for given in self.default.values())
        if drawn and len(everyone) <= WRITTEN_PAIRWISE:
            return [(a, b) for a in everyone for b in everyone if a < b and self._joined(a, b)]
        found: set[tuple[int, int]] = set()
        for override in self._overrides:
            a, b = (self._members(end) for end in override.ends)
            found |= {(min(i, j), max(i, j)) for i in a for j in b if self._joined(i, j)}
        return sorted(found)

    def written(self, a: int, b: int) -> Iterator[dict[str, Any]]:
        """The entries of `network.links` that say all of a pair."""
        there, back = self._written(a, b), self._written(b, a)
        if there == back:
            yield {"between": [self._names[a], self._names[b]], **there}
        else:
            yield {"from": self._names[a], "to": self._names[b], **there}
            yield {"from": self._names[b], "to": self._names[a], **back}

    def _written(self, a: int, b: int) -> dict[str, Any]:
        """All fields of the link from a to b, every draw made."""
        link, values = self.link(a, b), self._values(a, b)
        fields: dict[str, Any]
        fields = {"bandwidth": link.bandwidth_bps, "delay": link.delay_s, "jitter": link.jitter_s, "loss": link.loss}
        fields |= {field: share for field in ("reorder", "duplicate") if (share := getattr(link, field))}
        for field in ("bandwidth_trace", "variation"):
            if field in values:
                given, key = values[field]
                fields[field] = seeded(given, self._scenario.seed, *key)
        energy = written_energy(dict(zip(ENERGY_FIELDS, (link.send_j_per_bit, link.receive_j_per_bit), strict=True)))
        unpriced = {"type": values["unpriced"][0]} if "unpriced" in values and len(energy) < len(ENERGY_FIELDS) else {}
        return unpriced | written_fields(fields) | ({"energy": energy} if energy else {})

    def _applying(self, a: int, b: int) -> list[int]:
        single = self._for_pair.get((a, b), [])
        in_groups = {n for left, right, n in self._for_groups if a in left and b in right}
        return sorted({*single, *in_groups}) if in_groups else single

    def _directions(self, override: LinkOverride) -> list[tuple[range, range]]:
        a, b = (self._members(end) for end in override.ends)
        return [(a, b), (b, a)] if override.between is not None else [(a, b)]

    def _members(self, name: str) -> range:
        point = len(self._names) - 1
        return range(point, point + 1) if name == self._point else self._scenario.members(name)

    def _joined(self, a: int, b: int) -> bool:
        if self._point is not None:
            return max(a, b) == len(self._names) - 1 and a != b
        return self._scenario.joined(a, b)


def _given(spec: LinkSpec) -> dict[str, Any]:
    """The fields that a link spells out, after those of its type."""
    fields: dict[str, Any] = {}
    if spec.type is not None:
        kind = link_type(spec.type)
        fields = {"bandwidth": kind.bandwidth.value, "delay": kind.delay.value}
        fields["jitter"] = kind.jitter.value if kind.jitter else 0.0
        fields["loss"] = kind.loss.value if kind.loss else 0.0
        if kind.energy is not None:
            fields |= {"energy.send": kind.energy.send.value, "energy.receive": kind.energy.receive.value}
        else:  # and not what another type or the default says: that is of another radio
            fields |= {"unpriced": spec.type, **dict.fromkeys(ENERGY_FIELDS)}
    fields |= {field: given for field in _PLAIN_FIELDS if (given := getattr(spec, field)) is not None}
    energy = {"energy.send": spec.energy.send, "energy.receive": spec.energy.receive}
    return fields | {field: given for field, given in energy.items() if given is not None}
