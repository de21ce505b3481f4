"""The choice of links: as requested, as the run can use it, and as the host supports it."""

import pytest

from edgeemu.cluster.draw.cluster import draw
from edgeemu.errors import RequestError
from edgeemu.links.netns.capabilities import Capabilities
from edgeemu.run.choose_links import LinkChoice, choose_links
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
model: smollm2-135m-instruct
devices: [{name: pi, profile: raspberry-pi-4, count: 2}]
network: {default: {bandwidth: 100 Mbit/s, delay: 2 ms}}
workload: {prompts: [Hello]}
"""
ALL = Capabilities({}, rootless=False)
NO_NETEM = Capabilities({"netem": "the kernel has none"}, rootless=False)
NO_BLACKHOLE = Capabilities({"blackhole": "the kernel has none"}, rootless=False)
NOTHING = Capabilities({"network namespaces": "not allowed"}, rootless=True)
DOWN = "faults=[{at: 1 s, link: [pi-1, pi-2], fault: down, for: 1 s}]"
NO_DELAY = ("network.default.delay=0",)


def choose(backend: str, host: Capabilities, *settings: str, simulate: bool = False) -> LinkChoice:
    scenario = parse_scenario(SCENARIO, "pair", [f"network.backend={backend}", *settings])
    return choose_links(scenario, draw(scenario), simulate=simulate, probe=lambda: host)


def unasked() -> Capabilities:
    raise AssertionError("the host was tried")


def test_stamped_links_try_nothing() -> None:
    scenario = parse_scenario(SCENARIO, "pair")
    assert choose_links(scenario, draw(scenario), simulate=False, probe=unasked) == LinkChoice("stamped")


@pytest.mark.parametrize(
    ("backend", "host", "settings", "kind"),
    [
        ("kernel", ALL, (), "kernel"),
        ("hybrid", ALL, (), "hybrid"),
        ("auto", ALL, (), "kernel"),
        ("hybrid", NO_NETEM, (), "hybrid"),
        ("auto", NO_NETEM, (), "stamped"),
        ("auto", NO_NETEM, NO_DELAY, "kernel"),
        ("kernel", NO_NETEM, NO_DELAY, "kernel"),
        ("auto", NOTHING, NO_DELAY, "stamped"),
        ("auto", ALL, ("time.mode=virtual",), "stamped"),
        ("auto", ALL, ("recovery=reprefill", "faults=[{device: pi-2, at: 1 s, fault: crash}]"), "kernel"),
        ("auto", ALL, ("recovery=reprefill", DOWN), "kernel"),
        ("auto", NO_BLACKHOLE, ("recovery=reprefill", DOWN), "stamped"),
        ("auto", NO_BLACKHOLE, ("recovery=reprefill",), "kernel"),
    ],
)
def test_what_is_asked_for_is_had_where_the_host_can(
    backend: str, host: Capabilities, settings: tuple[str, ...], kind: str
) -> None:
    choice = choose(backend, host, *settings)
    assert choice.kind == kind
    assert bool(choice.why_not_kernel) == (kind == "stamped")


def test_netem_is_used_where_there_is_something_for_it() -> None:
    assert choose("kernel", ALL).netem
    assert not choose("kernel", ALL, *NO_DELAY).netem
    assert not choose("hybrid", ALL).netem
    later = "events=[{at_token: 3, link: [pi-1, pi-2], delay: 5 ms}]"
    assert choose("kernel", ALL, *NO_DELAY, later).netem
    assert choose("kernel", ALL, *NO_DELAY, later.replace("at_token: 3", "at: 1 s")).netem
    assert choose("kernel", ALL, *NO_DELAY, "network.default.loss=0.01").netem
    assert not choose("kernel", ALL, *NO_DELAY, DOWN).netem
    assert choose("kernel", ALL, *NO_DELAY, DOWN.replace("down", "loss, loss: 10 %")).netem


def test_auto_says_why_not() -> None:
    assert str(choose("auto", NO_NETEM)) == "stamped, not kernel: no netem (the kernel has none)"
    assert "a simulation has no links" in str(choose("auto", ALL, simulate=True))


@pytest.mark.parametrize(
    ("backend", "host", "settings", "simulate", "says"),
    [
        ("kernel", NO_NETEM, (), False, "no netem (the kernel has none); hybrid links need no netem"),
        ("hybrid", NOTHING, (), False, "no network namespaces (not allowed); backend: auto would use stamped links"),
        ("hybrid", ALL, ("time.mode=virtual",), False, "time.mode is virtual"),
        ("kernel", ALL, (), True, "a simulation has no links"),
        ("kernel", ALL, ("devices[0].count=300",), False, "300 devices"),
        ("hybrid", NO_BLACKHOLE, (DOWN,), False, "no blackhole (the kernel has none)"),
    ],
)
def test_what_cannot_be_had_is_an_error_that_says_what_to_do(
    backend: str, host: Capabilities, settings: tuple[str, ...], simulate: bool, says: str
) -> None:
    with pytest.raises(RequestError) as caught:
        choose(backend, host, *settings, simulate=simulate)
    assert caught.value.field is not None
    assert caught.value.field.endswith("network.backend")
    assert says in str(caught.value)
