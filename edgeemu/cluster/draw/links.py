"""Sampling of links: which rules of the scenario apply to a pair of ends, and the values that they give."""

from collections import defaultdict
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from edgeemu.cluster.draw.value import draw_value
from edgeemu.cluster.draw.variation import deliveries_of, rate_factor, trace_factor, variation_of
from edgeemu.cluster.keyed_random import FloatArray, directed_uniforms, draw_lognormals, draw_uniforms, pair_uniforms
from edgeemu.cluster.link_variation import LinkVariation
from edgeemu.cluster.links import Link, LinkEnds
from edgeemu.cluster.topology import Arrays, IntArray
from edgeemu.cluster.variation import product
from edgeemu.scenario.catalog import link_type
from edgeemu.scenario.distributions import Distribution
from edgeemu.scenario.network import LinkOverride, LinkSpec
from edgeemu.scenario.scenario import Scenario
from edgeemu.scenario.time_varying import LinkVariationSpec
from edgeemu.topologies import End

DRAWN_FIELDS = ("bandwidth", "delay", "jitter", "loss", "reorder", "duplicate")
ENERGY_FIELDS = ("energy.send", "energy.receive")  # sampled too, where they are given
VARYING_FIELDS = ("bandwidth_trace", "variation")
_ARRAY_FIELDS = ("bandwidth", "delay")
_PLAIN_FIELDS = (*DRAWN_FIELDS, *VARYING_FIELDS)


class KeyedValue(NamedTuple):
    """A field as the scenario gives it, and the names that are the key of its random number."""

    given: Any
    key: tuple[str, ...] = ()


class LinkDraws:
    """The links of a scenario, each sampled when it is asked for. The order of asking does not matter."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._names = [*scenario.device_names, scenario.network.access_point or ""]  # the last is that of the end None
        spec = scenario.network.default
        self.default: dict[str, Any] = dict.fromkeys(DRAWN_FIELDS[2:], 0.0) | (_given(spec) if spec else {})
        self.random_default = {field: given for field, given in self.default.items() if isinstance(given, Distribution)}
        self._overrides = scenario.network.links
        self._for_pair: dict[tuple[int, int], list[int]] = defaultdict(list)
        self._for_groups: list[tuple[range, range, int]] = []
        for n, override in enumerate(self._overrides):
            for a, b in self._directions(override):
                if len(a) == len(b) == 1:
                    self._for_pair[a[0], b[0]].append(n)
                else:
                    self._for_groups.append((a, b, n))

    def name(self, end: End) -> str:
        """The name of a device or of the access point."""
        return self._names[-1 if end is None else end]

    def link(self, a: End, b: End) -> Link:
        """The link from a to b: the default and, field by field, the overrides in their order."""
        values, seed = self.values(a, b), self._scenario.seed
        drawn = {field: draw_value(values[field].given, seed, *values[field].key, field) for field in DRAWN_FIELDS}
        priced = (values.get(field, KeyedValue(None)) for field in ENERGY_FIELDS)
        send, receive = (
            None if value.given is None else draw_value(value.given, seed, *value.key, field)
            for value, field in zip(priced, ENERGY_FIELDS, strict=True)
        )
        bandwidth_bps, delay_s, jitter_s, loss, *packets = (drawn[field] for field in DRAWN_FIELDS)
        link = Link(bandwidth_bps, delay_s, min(jitter_s, delay_s), loss, None, send, receive, *packets)
        if values.keys().isdisjoint(VARYING_FIELDS):
            return link
        trace = values.get("bandwidth_trace", KeyedValue(None)).given
        varied = values.get("variation", KeyedValue(LinkVariationSpec()))
        factor = rate_factor(varied.given.bandwidth, seed, *varied.key, "bandwidth")
        rate = product(trace_factor(trace, link.bandwidth_bps), factor)
        deliveries = deliveries_of(trace, factor)
        added_delay_s = variation_of(varied.given.delay, seed, *varied.key, "delay")
        varies = (
            None if rate is None and added_delay_s is None else LinkVariation(rate, None, added_delay_s, deliveries)
        )
        return replace(link, jitter_s=link.jitter_s if added_delay_s is None else jitter_s, varies=varies)

    def values(self, a: End, b: End) -> dict[str, KeyedValue]:
        """Every field that is given for the link from a to b."""
        first, second = sorted((self.name(a), self.name(b)))
        values = {field: KeyedValue(given, ("link", first, second)) for field, given in self.default.items()}
        for n in self._applying(self._index(a), self._index(b)):
            both_ways = self._overrides[n].between is not None
            key = ("link", first, second) if both_ways else ("link", self.name(a), "to", self.name(b))
            values |= {field: KeyedValue(given, key) for field, given in _given(self._overrides[n]).items()}
        return values

    def drawn_defaults(self) -> dict[str, FloatArray]:
        """The random fields of the default, as `link` samples them where nothing else is given: [n_ends, n_ends] each.

        The access point is the last end.
        """
        ends = np.arange(len(self._names))
        return {field: self._drawn(given, ends, ends, field) for field, given in self.random_default.items()}

    def has_default(self, a: End, b: End) -> bool:
        """Whether nothing but the default is given for the links between two ends."""
        if not self._overrides:
            return True
        i, j = self._index(a), self._index(b)
        return not self._applying(i, j) and not self._applying(j, i)

    def alike(self, a: End, b: End) -> bool:
        """Whether the links between two ends are the same in both directions: they have the same values."""
        return self.has_default(a, b) or self.values(a, b) == self.values(b, a)

    def arrays(self, sources: IntArray, targets: IntArray) -> Arrays:
        """Bandwidths and delays of `link` for sources and targets, [m, k] each; arbitrary from a device to itself."""
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
        """One field of many links, with the keys of `values`: [m, k]. None is given where there is no default link."""
        if not isinstance(given, Distribution):
            return np.full((len(sources), len(targets)), np.inf if given is None else given)
        a, b = ([self._names[i] for i in indexes] for indexes in (sources, targets))
        u = (pair_uniforms if both_ways else directed_uniforms)(self._scenario.seed, "link", a, b, field)
        if given.lognormal is not None:
            return draw_lognormals(u, given.lognormal.low, given.lognormal.high)
        assert given.uniform is not None  # Distribution has made sure
        return draw_uniforms(u, given.uniform.low, given.uniform.high)

    def varying(self) -> frozenset[LinkEnds] | None:
        """The links that change over time by themselves; None: all of them."""
        if any(field in self.default for field in VARYING_FIELDS):
            return None
        ends: list[End] = [*range(len(self._scenario.device_names)), None]
        return frozenset(
            (ends[i], ends[j])
            for override in self._overrides
            if any(getattr(override, field) is not None for field in VARYING_FIELDS)
            for a, b in self._directions(override)
            for i in a
            for j in b
        )

    def _applying(self, a: int, b: int) -> list[int]:
        """The overrides of the link from index a to index b, in their order."""
        single = self._for_pair.get((a, b), [])
        in_groups = {n for left, right, n in self._for_groups if a in left and b in right}
        return sorted({*single, *in_groups}) if in_groups else single

    def _directions(self, override: LinkOverride) -> list[tuple[range, range]]:
        """From which indexes to which an override applies."""
        a, b = (self._indexes(name) for name in override.ends)
        return [(a, b), (b, a)] if override.between is not None else [(a, b)]

    def _indexes(self, name: str) -> range:
        """The indexes of a name in `_names`."""
        last = self._index(None)
        return range(last, last + 1) if name == self._scenario.network.access_point else self._scenario.members(name)

    def _index(self, end: End) -> int:
        return len(self._names) - 1 if end is None else end


def _given(spec: LinkSpec) -> dict[str, Any]:
    """The fields that a link has of its own, after those of its type."""
    fields: dict[str, Any] = {}
    if spec.type is not None:
        kind = link_type(spec.type)
        fields = {"bandwidth": kind.bandwidth.value, "delay": kind.delay.value}
        fields["jitter"] = kind.jitter.value if kind.jitter else 0.0
        fields["loss"] = kind.loss.value if kind.loss else 0.0
        if kind.energy is not None:
            fields |= {"energy.send": kind.energy.send.value, "energy.receive": kind.energy.receive.value}
        else:  # not the energy of the default or of another type: that is another radio's
            fields |= {"unpriced": spec.type, **dict.fromkeys(ENERGY_FIELDS)}
    fields |= {field: given for field in _PLAIN_FIELDS if (given := getattr(spec, field)) is not None}
    if all(isinstance(fields.get(field), float) for field in ("jitter", "delay")) and not spec.delay_varies:
        fields["jitter"] = min(fields["jitter"], fields["delay"])  # what a delay of its own leaves of its type's
    energy = {"energy.send": spec.energy.send, "energy.receive": spec.energy.receive}
    return fields | {field: given for field, given in energy.items() if given is not None}
