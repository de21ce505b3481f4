"""Gains of one change to a cluster each: the scenario of a run with that change, simulated again with its policy."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple, TypeVar

from edgeemu.report.critical.breakdown import Breakdown, WaitingPlace
from edgeemu.run.make_plan import make_plan
from edgeemu.run.simulate_plan import TokenTimes, simulate_plan
from edgeemu.scenario.devices import DeviceSpec
from edgeemu.scenario.network import LinkOverride, LinkSpec
from edgeemu.scenario.scenario import Scenario

MAX_DEVICES = 2  # that are tried twice as fast
WORTH_TRYING = 0.005  # share of a token's time that a kind of part has at least
MAX_OPERATIONS = 2_000_000  # of all simulations, some 30 s


class OneChange(NamedTuple):
    """One change to a scenario: words for it, and the scenario with it."""

    words: str
    changed: Scenario


class Outcome(NamedTuple):
    """Figures of a simulated run. `token_s`: mean latency of tokens after their sequence's first, if there are any."""

    token_s: float
    throughput_tok_s: float


class Gain(NamedTuple):
    """Outcome of a change, and the share by which a token takes less time than without it."""

    words: str
    outcome: Outcome
    gain: float


def worth_trying(scenario: Scenario, lost: Breakdown) -> list[OneChange]:
    """Choose changes of one thing each, by where the time of a run's tokens went; the scenario is a resolved one."""
    changes = [_faster(scenario, place.device) for place in lost.devices[:MAX_DEVICES]]
    of = {word: sum(place.ms.get(word, 0.0) for place in lost.paths) for word in ("transmission", "latency", "queue")}
    least_ms = WORTH_TRYING * lost.total_ms
    if of["transmission"] + of["queue"] > least_ms:
        changes += _wider_link(scenario, lost.paths[0])
        changes.append(_every_link(scenario, "all links twice as wide", wider=2.0))
    if of["latency"] > least_ms:
        changes.append(_every_link(scenario, "half the latency of all links", quicker=0.5))
    for fields, words in (
        (("overhead",), "half the fixed cost of every operation"),
        (("message_overhead", "byte_overhead"), "half the overhead of every message"),
    ):
        if any(isinstance(value := getattr(each, fields[0]), float) and value > 0 for each in scenario.devices):
            devices = tuple(_scaled(each, **dict.fromkeys(fields, 0.5)) for each in scenario.devices)
            changes.append(OneChange(words, scenario.model_copy(update={"devices": devices})))
    more = _one_more(scenario, lost)
    return [*changes, *([more] if more else [])]


def _faster(scenario: Scenario, name: str) -> OneChange:
    """A device twice as fast in all that it does."""
    speeds = {"gflops": 2.0, "mem_bandwidth": 2.0, "host_fraction": 2.0}
    costs = dict.fromkeys(("overhead", "message_overhead", "byte_overhead"), 0.5)
    devices = [_scaled(each, **speeds, **costs) if each.name == name else each for each in scenario.devices]
    return OneChange(f"{name} twice as fast", scenario.model_copy(update={"devices": tuple(devices)}))


def _wider_link(scenario: Scenario, path: WaitingPlace) -> Iterator[OneChange]:
    """The link of a path twice as wide, both ways; only in a mesh, where a path is a link."""
    network, target = scenario.network, path.target
    if network.topology != "mesh" or target is None:
        return
    ends = {path.device, target}
    given = [link for link in network.links if set(link.ends) == ends]
    if given:
        links = tuple(_scaled(link, bandwidth=2.0) if link in given else link for link in network.links)
    elif network.default is not None and isinstance(network.default.bandwidth, int | float):
        wider = {"bandwidth": 2.0 * network.default.bandwidth}
        links = (*network.links, LinkOverride(between=(path.device, target)).model_copy(update=wider))
    else:
        return
    words = f"the link {path.device}-{target} twice as wide"
    yield OneChange(words, scenario.model_copy(update={"network": network.model_copy(update={"links": links})}))


def _every_link(scenario: Scenario, words: str, *, wider: float = 1.0, quicker: float = 1.0) -> OneChange:
    """All links with another bandwidth, interfaces included, or another latency."""
    network = scenario.network
    update = {
        "default": network.default and _scaled(network.default, bandwidth=wider, delay=quicker, jitter=quicker),
        "links": tuple(_scaled(each, bandwidth=wider, delay=quicker, jitter=quicker) for each in network.links),
    }
    devices = tuple(_scaled(each, nic=wider, message_latency=quicker) for each in scenario.devices)
    changed = {"network": network.model_copy(update=update), "devices": devices}
    return OneChange(words, scenario.model_copy(update=changed))


def _one_more(scenario: Scenario, lost: Breakdown) -> OneChange | None:
    """One more device like that on which most time is lost, with links like its own; not in a chain."""
    by_name = {device.name: device for device in scenario.devices}
    if not lost.devices or scenario.network.topology not in ("mesh", "star") or lost.devices[0].device not in by_name:
        return None
    like = by_name[lost.devices[0].device]
    name = next(name for n in range(2, 1000) if (name := f"{like.name}-{n}") not in by_name)
    links = [*scenario.network.links, *_links_like(scenario.network.links, like.name, name)]
    star = scenario.network.star
    if star is not None and like.name in star.wired:
        star = star.model_copy(update={"wired": (*star.wired, name)})
    network = scenario.network.model_copy(update={"links": tuple(links), "star": star})
    devices = (*scenario.devices, like.model_copy(update={"name": name}))
    words = f"one more device like {like.name}"
    return OneChange(words, scenario.model_copy(update={"devices": devices, "network": network}))


def _links_like(links: Sequence[LinkOverride], name: str, new: str) -> Iterator[LinkOverride]:
    """The links of a device again, for another in its place."""
    for link in links:
        if link.between is not None and name in link.between:
            ends = tuple(new if end == name else end for end in link.between)
            yield link.model_copy(update={"between": ends})
        elif name in (link.source, link.target):
            source, target = (new if end == name else end for end in (link.source, link.target))
            yield link.model_copy(update={"source": source, "target": target})


SpecT = TypeVar("SpecT", DeviceSpec, LinkSpec, LinkOverride)


def _scaled(spec: SpecT, **factors: float) -> SpecT:
    """A device or a link with some of its numbers scaled; what is drawn or not given stays."""
    numbers = {field: getattr(spec, field) for field in factors}
    scaled = {
        field: value * factors[field]
        for field, value in numbers.items()
        if isinstance(value, int | float) and factors[field] != 1.0
    }
    return spec.model_copy(update=scaled)


class WhatIf(NamedTuple):
    """Gains of changes, and the outcome without any; `tokens` is how long sequences were, at most."""

    unchanged: Outcome
    gains: list[Gain]
    tokens: int


def try_changes(
    scenario: Scenario,
    policy: str,
    changes: Sequence[OneChange],
    lengths: Sequence[int],
    done: Callable[[int, int], None],
    *,
    trust: bool = False,
) -> WhatIf:
    """Simulate a scenario as it is and with each change, with sequences of some lengths in tokens.

    Raises as `make_plan` does.
    """
    total = 1 + len(changes)
    outcomes = []
    for number, each in enumerate([scenario, *(change.changed for change in changes)]):
        done(number, total)
        outcomes.append(simulated_outcome(each, policy, lengths, trust=trust))
    done(total, total)
    unchanged, *others = outcomes
    gains = [
        Gain(change.words, outcome, 1 - outcome.token_s / unchanged.token_s)
        for change, outcome in zip(changes, others, strict=True)
    ]
    return WhatIf(unchanged, sorted(gains, key=lambda gain: -gain.gain), max(lengths, default=0))


def simulated_outcome(scenario: Scenario, policy: str, lengths: Sequence[int], *, trust: bool = False) -> Outcome:
    """Simulate a scenario from beginning to end with sequences of some lengths; sequences without one are left out."""
    kept = TokenTimes()
    with closing(make_plan(scenario, policy, trust=trust)) as plan:
        simulate_plan(plan, lengths, kept)
    counted = kept.later_s or kept.first_s
    n_tokens = len(kept.first_s) + len(kept.later_s)
    return Outcome(sum(counted) / len(counted), n_tokens / (kept.end_s - kept.begin_s))
