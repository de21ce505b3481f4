"""A random change of a random cluster, by its number, for `changes.py`.

The devices of `kinds_of_change.py`, each half to twice as fast, with 0.9 to 1.8 times its memory, and links of 50 to
1,000 Mbit/s and 0.05 to 3 ms. Layers may be divided in three of ten. What changes is a device that the first placement
of `lookahead` uses, or a link between two of them: how much, when, for how long, and in waves of which length is drawn.
"""

import math
from collections.abc import Callable
from typing import Any

from kinds_of_change import SCENARIO, TOKENS, Event, Kind, device, document, link

from edgeemu.cluster.keyed_random import uniform
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import parse_scenario

BUSY = "an idle device becomes the best"
SETTINGS = ("devices", "network", "sharding")
FREE_AFTER_S, FREE_AT = 1, 30  # when other work ends: seconds, and a token by which they have passed


class Draw:
    """The figures of a number, each by its name."""

    def __init__(self, number: int) -> None:
        self._number = number

    def between(self, name: str, low: float, high: float) -> float:
        return low + (high - low) * uniform(self._number, name)

    def magnitude(self, name: str, low: float, high: float) -> float:
        """A figure of which the logarithm is uniform."""
        return low * (high / low) ** uniform(self._number, name)

    def whole(self, name: str, low: int, high: int) -> int:
        """One of the numbers from `low` to below `high`."""
        return int(self.between(name, low, high))


def drawn_kind(number: int) -> tuple[Kind, str]:
    """Draw the change with this number, and whether moves are cheap or dear."""
    draw = Draw(number)
    moves = "cheap" if draw.between("moves", 0, 1) < 0.6 else "dear"
    settings = _cluster(draw)
    name = tuple(CHANGES)[number % len(CHANGES)]
    first = FREE_AT if name == BUSY else draw.whole("first", 10, 40)
    changed = Changed(draw, settings, *_used(draw, settings, moves), first)
    events = CHANGES[name](changed)
    sequences = draw.whole("sequences", 2, 5) if name == "sequences, a device slows" else 1
    return Kind(f"{number}: {name}", events, first, settings, sequences), moves


class Changed:
    """The cluster, and the device and the link that change, from a token on."""

    def __init__(self, draw: Draw, settings: dict[str, Any], name: str, other: str, first: int) -> None:
        self.draw, self.settings, self.device, self.first = draw, settings, name, first
        self.ends = name, other
        self.speed = draw.magnitude("speed", 0.04, 0.7)
        self.back = first + draw.whole("back", 10, 80)
        self.period = int(draw.magnitude("period", 1, 40))
        self.slow = {
            "bandwidth": f"{draw.magnitude('slow rate', 0.5, 40):.3f} Mbit/s",
            "delay": f"{draw.magnitude('slow delay', 2, 60):.3f} ms",
        }
        self.good: dict[str, str] = settings["network"]["default"]

    def devices(self, values: dict[int, float]) -> list[Event]:
        return device(self.device, values)

    def wave(self) -> range:
        """Tokens at which a wave turns."""
        return range(self.first, TOKENS, self.period)


def _cluster(draw: Draw) -> dict[str, Any]:
    devices = []
    for of in SCENARIO["devices"]:
        name = of["name"]
        faster = draw.magnitude(f"{name} faster", 0.5, 2)
        reads, room = draw.magnitude(f"{name} reads", 0.8, 1.25), draw.magnitude(f"{name} memory", 0.9, 1.8)
        devices.append(
            of
            | {
                "gflops": f"{faster * _figure(of['gflops']):.2f} GFLOPS",
                "mem_bandwidth": f"{faster * reads * _figure(of['mem_bandwidth']):.3f} GB/s",
                "memory": f"{room * _figure(of['memory']):.0f} MiB",
            }
        )
    rate, delay = draw.magnitude("rate", 50, 1000), draw.magnitude("delay", 50, 3000)
    network = {"default": {"bandwidth": f"{rate:.1f} Mbit/s", "delay": f"{delay:.0f} us"}}
    divide = draw.between("divide", 0, 1) < 0.3
    return dict(zip(SETTINGS, (devices, network, {"divide": divide}), strict=True))


def _figure(quantity: str) -> float:
    return float(quantity.split()[0])


def _used(draw: Draw, settings: dict[str, Any], moves: str) -> tuple[str, str]:
    """Two different devices, both of the first placement if it has two."""
    text = document(Kind("still", [], settings=settings), moves, "measured")
    plan = make_plan(parse_scenario(text), "lookahead")
    names = [each.name for each in plan.cluster.devices]
    used = [names[at] for at in plan.placement.devices()]
    one = used[draw.whole("device", 0, len(used))]
    others = [name for name in used if name != one] or [name for name in names if name != one]
    return one, others[draw.whole("other", 0, len(others))]


def _link(what: str, *, recovers: bool) -> Callable[[Changed], list[Event]]:
    def events(of: Changed) -> list[Event]:
        return link({of.first: of.slow[what]} | ({of.back: of.good[what]} if recovers else {}), what, of.ends)

    return events


def _link_wave(what: str) -> Callable[[Changed], list[Event]]:
    def events(of: Changed) -> list[Event]:
        values = of.slow[what], of.good[what]
        return link({token: values[n % 2] for n, token in enumerate(of.wave())}, what, of.ends)

    return events


def _memory(of: Changed) -> list[Event]:
    room = next(_figure(each["memory"]) for each in of.settings["devices"] if of.device.startswith(each["name"]))
    left = of.draw.between("memory left", 0.3, 0.8)
    return [{"at_token": of.first, "device": of.device, "memory": f"{left * room:.0f} MiB"}]


def _busy(of: Changed) -> list[Event]:
    """Other work on nano, for a while from the start: an event of no token."""
    for each in of.settings["devices"]:
        if each["name"] == "nano":
            each["load"] = {"trace": [["0 s", "95 %"], [f"{FREE_AFTER_S} s", "0 %"]]}
    return []


def _random_load(of: Changed) -> list[Event]:
    return of.devices({t: 1 - (1 - of.speed) * of.draw.between(f"load {t}", 0, 1) for t in range(of.first, TOKENS)})


def _throttling(of: Changed) -> list[Event]:
    begin, lasts = of.first, 50
    return of.devices({t: 1 - (1 - of.speed) * min(1, (t - begin) / lasts) for t in range(begin, begin + lasts + 5, 2)})


def _trace(of: Changed) -> list[Event]:
    """A rate for every third token: a random walk from the good one, between 1 and 1,000 Mbit/s."""
    found, log_rate = {}, math.log10(_figure(of.good["bandwidth"]))
    for t in range(of.first, TOKENS, 3):
        log_rate = min(3.0, max(0.0, log_rate + of.draw.between(f"trace {t}", -0.8, 0.8)))
        found[t] = f"{10**log_rate:.3f} Mbit/s"
    return link(found, "bandwidth", of.ends)


CHANGES: dict[str, Callable[[Changed], list[Event]]] = {
    "a device slows": lambda of: of.devices({of.first: of.speed}),
    "a device slows and recovers": lambda of: of.devices({of.first: of.speed, of.back: 1.0}),
    "a device is almost lost": lambda of: of.devices({of.first: of.draw.between("left", 0.02, 0.07)}),
    "a link's rate collapses": _link("bandwidth", recovers=False),
    "a link's rate collapses, recovers": _link("bandwidth", recovers=True),
    "a link's delay collapses": _link("delay", recovers=False),
    "a link's delay collapses, recovers": _link("delay", recovers=True),
    "memory shrinks": _memory,
    BUSY: _busy,
    "sequences, a device slows": lambda of: of.devices({of.first: of.speed}),
    "a wave of a device's speed": lambda of: of.devices(
        {token: (of.speed, 1.0)[n % 2] for n, token in enumerate(of.wave())}
    ),
    "a wave of a link's rate": _link_wave("bandwidth"),
    "a wave of a link's delay": _link_wave("delay"),
    "random load at each token": _random_load,
    "throttling": _throttling,
    "a bandwidth trace": _trace,
}
