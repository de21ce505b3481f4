"""Changes to a scenario that could make it faster, each as settings; which of them are combined. Pure.

A change that the scenario or its policy cannot take is made all the same: whoever reads the scenario with it says why.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import inf
from typing import Any

import yaml

from edgeemu.report.advice import ChangeKind, Option, ScenarioChange
from edgeemu.run.advise.replacements import faster_boards, price_usd
from edgeemu.scenario.catalog import LinkType, link_types
from edgeemu.scenario.catalog.profile_files import profile_of
from edgeemu.scenario.devices import DeviceSpec
from edgeemu.scenario.scenario import Scenario

MAX_SINGLE = 40  # changes of one kind that are simulated, and at most so many …
MAX_PAIRS = 20  # … of two
MORE_BOARDS = (1, 2, 3, 4)  # and twice as many
STEPS_UP = 3  # changes of a kind that are combined with those of another
WORTH = 0.005  # share by which a change is faster that is combined
POLICIES = (  # others are baselines and searches for a single cluster
    *("lookahead", "galaxy", "exo-tensor", "distributed-llama", "layers"),
    *("edgeshard-latency", "edgeshard-throughput", "mdi", "single"),
)
MATRIX_FORMATS = ("f32", "f16", "q8_0", "q4_0")  # of weights, from the largest to the smallest …
BETWEEN = {"bf16": "f16", "q6_k": "q8_0", "q4_k": "q4_0", "q4_1": "q8_0", "file": "f32"}  # … and what stands for others
FAMILIES = {  # kinds of links that can be in place of one; of a link by hand: ""
    "ethernet": ("ethernet",),
    "thunderbolt": ("thunderbolt",),
    "wifi": ("wifi", "ethernet"),
    "bluetooth": ("bluetooth", "wifi"),
    "lte": ("lte", "5g"),
    "5g": ("5g",),
    "": ("wifi", "ethernet"),
}
FRAME_SHARE = 1448 / 1538  # of the line rate of Ethernet that is left for data (`links.yaml`)


@dataclass(frozen=True, slots=True)
class _Boards:
    """The devices of a scenario, to be written with one entry changed."""

    scenario: Scenario

    def written(self, index: int, *entries: dict[str, Any]) -> str:
        """A setting that writes all devices, with these in place of one."""
        specs = self.scenario.devices
        listed = [_entry(spec) for spec in specs]
        return f"devices={_flow([*listed[:index], *entries, *listed[index + 1 :]])}"

    def with_count(self, index: int, count: int) -> Iterator[str]:
        """Settings that change the number of devices of a kind."""
        yield f"devices[{index}].count={count}"
        yield from self.with_source(index, count)

    def with_source(self, index: int, count: int) -> Iterator[str]:
        """A setting that names the source anew, if it is the first of a kind, of which there are now so many."""
        spec = self.scenario.devices[index]
        first = spec.name if count == 1 else f"{spec.name}-1"  # a count changes names
        if self.scenario.source == spec.device_names[0] != first:
            yield f"source={first}"


def single_changes(scenario: Scenario) -> list[ScenarioChange]:
    """Changes of one kind each: those of fewest things first."""
    every = [*_policies(scenario), *_formats(scenario), *_links(scenario), *_boards(scenario)]
    return sorted(every, key=lambda change: change.things)


def pairs(singles: Sequence[Option]) -> list[tuple[ScenarioChange, ScenarioChange]]:
    """Pairs of changes of different kinds, made of those that are steps up alone; at most `MAX_PAIRS`, least first.

    More boards that a policy could not use alone are tried with another policy.
    """
    by_kind = {kind: [each for each in singles if each.changes and each.changes[0].kind is kind] for kind in ChangeKind}
    unchanged = next((each for each in singles if not each.changes and each.figures), None)
    token_s = inf if unchanged is None or unchanged.figures is None else unchanged.figures.token_s
    steps = {kind: _steps_up(options, token_s) for kind, options in by_kind.items()}
    found = [pair for a, b in combinations(ChangeKind, 2) for pair in product(steps[a], steps[b])]
    refused = [each.changes[0] for each in by_kind[ChangeKind.BOARDS] if each.figures is None]
    policies = steps[ChangeKind.POLICY] or [each.changes[0] for each in by_kind[ChangeKind.POLICY] if each.figures]
    found += product(refused, policies[:STEPS_UP])
    least_first = sorted(dict.fromkeys(found), key=lambda pair: Option(pair, None).cost)
    return least_first[:MAX_PAIRS]


def _steps_up(options: Sequence[Option], token_s: float) -> list[ScenarioChange]:
    """Changes from the least to the fastest, each faster than all that are less; at most `STEPS_UP` of them."""
    steps = []
    for option in sorted(options, key=lambda option: option.cost):
        if option.figures is not None and option.figures.token_s < (1 - WORTH) * token_s:
            steps.append(option.changes[0])
            token_s = option.figures.token_s
    if len(steps) <= STEPS_UP:
        return steps
    last = len(steps) - 1
    return [steps[round(n * last / (STEPS_UP - 1))] for n in range(STEPS_UP)]


def _policies(scenario: Scenario) -> Iterator[ScenarioChange]:
    for name in POLICIES:
        if name != scenario.policy and len(scenario.device_names) > 1:
            yield ScenarioChange(ChangeKind.POLICY, f"policy {name}", 1, (f"policy={name}",))


def _formats(scenario: Scenario) -> Iterator[ScenarioChange]:
    """Formats that are smaller than those in use; each step down is a thing."""
    if scenario.cost.formulas == "literal":
        return
    alone = len(scenario.device_names) == 1
    for key in ("weights", "cache", "messages"):
        used = str(getattr(scenario.precision, key))
        below = MATRIX_FORMATS[MATRIX_FORMATS.index(BETWEEN.get(used, used)) + 1 :]
        for steps, name in enumerate(below, 1):
            if not (alone and key == "messages"):
                yield ScenarioChange(ChangeKind.PRECISION, f"{key} {name}", steps, (f"precision.{key}={name}",))


def _links(scenario: Scenario) -> Iterator[ScenarioChange]:
    """Types of links that are faster than the default one, with interfaces for them. What they cost is not known."""
    default = scenario.network.default
    if default is None or len(scenario.device_names) == 1 or default.bandwidth_trace is not None:
        return
    types = link_types()
    known = types[default.type].bandwidth.value if default.type is not None else None
    bandwidth_bps = default.bandwidth if isinstance(default.bandwidth, float) else known or 0.0
    families = FAMILIES.get((default.type or "").partition("-")[0], ())
    for kind in sorted(types.values(), key=lambda kind: kind.bandwidth.value):
        if kind.name.partition("-")[0] in families and kind.bandwidth.value > bandwidth_bps:
            settings = (f"network.default={kind.name}", *_interfaces(scenario, kind))
            yield ScenarioChange(ChangeKind.LINK, f"links {kind.name}", 1, settings, None)


def _interfaces(scenario: Scenario, kind: LinkType) -> Iterator[str]:
    """Settings of interfaces that are slower than a link of Ethernet: adapters for it."""
    if not kind.name.startswith("ethernet"):
        return
    line_bps = float(f"{kind.bandwidth.value / FRAME_SHARE:.2g}")
    for index, spec in enumerate(scenario.devices):
        profile = profile_of(spec.profile)
        nic = spec.nic if spec.nic is not None else profile and profile.nic and profile.nic.value
        if isinstance(nic, float) and nic < kind.bandwidth.value:
            yield f"devices[{index}].nic={line_bps / 1e9:g} Gbit/s"


def _boards(scenario: Scenario) -> Iterator[ScenarioChange]:
    """More and fewer boards of each kind, and others in place of one and of all of a kind."""
    boards, last = _Boards(scenario), len(scenario.devices) - 1
    for index, spec in enumerate(scenario.devices):
        price = price_usd(spec.profile)
        for more in dict.fromkeys((*MORE_BOARDS, spec.count)):
            settings = tuple(boards.with_count(index, spec.count + more))
            yield ScenarioChange(ChangeKind.BOARDS, f"{more} more {spec.name}", more, settings, _times(more, price))
        for fewer in dict.fromkeys((1, spec.count // 2)):
            if 0 < fewer < spec.count:
                settings = tuple(boards.with_count(index, spec.count - fewer))
                yield ScenarioChange(
                    ChangeKind.BOARDS, f"{fewer} fewer {spec.name}", fewer, settings, _times(-fewer, price)
                )
        if spec.count == 1 and last:
            setting = boards.written(index)
            yield ScenarioChange(ChangeKind.BOARDS, f"without {spec.name}", 1, (setting,), _times(-1, price))
        yield from _others(boards, index, spec)


def _others(boards: _Boards, index: int, spec: DeviceSpec) -> Iterator[ScenarioChange]:
    """Boards of the catalog in place of one of a kind, and of all. All keep their name, and so their links."""
    scenario, before = boards.scenario, price_usd(spec.profile)
    named = {end for link in scenario.network.links for end in link.ends}
    for board in faster_boards(spec, scenario.engine):
        after = None if board.price_usd is None else board.price_usd.value
        each = None if before is None or after is None else after - before
        other = _entry(spec, without_figures=True) | {"profile": board.name}
        if spec.count > 1 and not named.intersection((spec.name, *spec.device_names)):
            one = {key: value for key, value in other.items() if key != "count"} | {"name": board.name}
            rest = spec.count - 1
            settings = boards.written(index, _entry(spec) | {"count": rest}, one), *boards.with_source(index, rest)
            yield ScenarioChange(ChangeKind.BOARDS, f"1 {board.name} for 1 {spec.name}", 1, settings, each)
        plain = _entry(spec) | {"profile": board.name} == other
        setting = f"devices[{index}].profile={board.name}" if plain else f"devices[{index}]={_flow(other)}"
        words = f"{spec.count} {board.name} for {spec.count} {spec.name}"
        yield ScenarioChange(ChangeKind.BOARDS, words, spec.count, (setting,), _times(spec.count, each))


def _entry(spec: DeviceSpec, *, without_figures: bool = False) -> dict[str, Any]:
    """Entry of a device as a scenario writes it; without figures, only what is of no board in particular."""
    entry = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    kept = ("name", "profile", "count", "load", "memory_load", "throttle")
    return {key: value for key, value in entry.items() if key in kept} if without_figures else entry


def _times(number: int, price: float | None) -> float | None:
    return None if price is None else number * price


def _flow(data: Any) -> str:
    """Write data as YAML in one line."""
    return yaml.safe_dump(data, default_flow_style=True, sort_keys=False, allow_unicode=True, width=inf).strip()
