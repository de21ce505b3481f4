"""Faults and recovery as a scenario says them: what is read, what is implied, and how mistakes are answered."""
# ruff: noqa: E501  # one mistake and its message a line

import pytest
from support.scenario_text import TEXT, error_of

from edgeemu.cluster.draw.faults import draw_faults
from edgeemu.scenario.load import parse_scenario, to_yaml
from edgeemu.scenario.reference import scenario_json_schema

OK = "{at: 3 s, device: pi, fault: crash}"


def with_faults(*faults: str, more: str = "") -> str:
    lines = "".join(f"\n  - {fault}" for fault in faults)
    return TEXT.replace("policy: greedy", f"faults:{lines}{more}", 1)


def mistake(*faults: str, more: str = "", settings: tuple[str, ...] = ()) -> str:
    return error_of(with_faults(*faults, more=more), *settings)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        # when
        ("{device: pi, fault: crash}", ": say when: one of at: 2 s, at_token: 20, and at random, rate: 5 per hour"),
        ("{at: 1 s, at_token: 2, device: pi, fault: crash}", ": say when: one of at: 2 s, at_token: 20, and at random, rate: 5 per hour"),
        ("{at_token: 64, device: pi, fault: crash}", ".at_token: 64 never comes: the first sequence has 64 tokens, 0 to 63"),
        ("{rate: 5, device: pi, fault: crash}", '.rate: 5 is not a rate (no unit; write e.g. "0.5 /s")'),
        ("{rate: 0 /h, device: pi, fault: crash}", '.rate: "0 /h" must be more than zero'),
        # what
        ("{at: 1 s, fault: crash}", ": say what fails: one of device: a, link: [a, b], and partition: [[a, b], [c]]"),
        ("{at: 1 s, device: pi, link: [pi, laptop], fault: crash}", ": say what fails: one of device: a, link: [a, b], and partition: [[a, b], [c]]"),
        ("{at: 1 s, device: pi}", ".fault: is missing: crash, out of memory, reboot, leave, hang or join"),
        ("{at: 1 s, link: [pi, laptop]}", ".fault: is missing: down, stall or loss"),
        ("{at: 1 s, device: pi, fault: down}", '.fault: "down" is not of a device, but crash, out of memory, reboot, leave, hang or join is'),
        ("{at: 1 s, link: [pi, laptop], fault: crash}", '.fault: "crash" is not of a link, but down, stall or loss is'),
        ("{at: 1 s, device: pi, fault: crsh}", '.fault: "crsh" is not known here (did you mean "crash"?)'),
        ("{at: 1 s, partition: [[pi], [laptop]], fault: down}", ".fault: is of a device or a link; a partition has none"),
        ("{at: 1 s, device: pie, fault: crash}", '.device: there is no device "pie" (did you mean "pi"?)'),
        ("{at: 1 s, device: [], fault: crash}", ".device: is empty"),
        ("{at: 1 s, link: [pi], fault: down}", ".link: names 1 devices; a link is between two"),
        ("{at: 1 s, link: [pi, laptpo], fault: down}", '.link[1]: there is no device "laptpo" (did you mean "laptop"?)'),
        ("{at: 1 s, link: [laptop, laptop], fault: down}", ': "laptop" and "laptop" are not joined'),
        ("{at: 1 s, partition: [[pi]]}", ".partition: needs two groups or more, as [[a, b], [c]]; the first can be []"),
        ("{at: 1 s, partition: [[pi], []]}", ".partition[1]: is a group without devices"),
        ("{at: 1 s, partition: [[], [pi, laptop]]}", ".partition[0]: is a group without devices: all are named in others"),
        ("{at: 1 s, partition: [[pi], [laptop, pi-2]]}", '.partition[1][1]: "pi-2" is in two groups'),
        ("{at: 1 s, partition: [[pi], [latop]]}", '.partition[1][0]: there is no device "latop" (did you mean "laptop"?)'),
        # how long
        ("{at: 1 s, device: pi, fault: reboot}", ".for: is missing: how long the device is away until it is there again, such as 30 s"),
        ("{at: 1 s, device: pi, fault: hang, for: 0 s}", '.for: "0 s" must be more than zero'),
        ("{at: 1 s, device: laptop, fault: join, for: 3 s}", ".for: is not of a device that joins: it is absent until then, and stays"),
        ("{rate: 1 /h, device: laptop, fault: join}", ".rate: is not of a device that joins, which happens once: give at or at_token"),
        ("{rate: 1 /h, fault: down}", ".for: is missing: how long a link that fails at random is like that, such as 2 s"),
        ("{rate: 1 /h, partition: [[pi], [laptop]]}", ".for: is missing: how long a link that fails at random is like that, such as 2 s"),
        ("{at: 1 s, link: [pi, laptop], fault: loss}", ".loss: is missing: the share of packets that are lost, such as 30 %"),
        ("{at: 1 s, link: [pi, laptop], fault: down, loss: 30 %}", ".loss: is for fault: loss"),
        ("{at: 1 s, link: [pi, laptop], fault: loss, loss: 0}", ".loss: 0 must be more than zero"),
        ("{at: 1 s, link: [pi, laptop], fault: loss, loss: 100 %}", '.loss: "100 %" must be less than 1: nothing would ever arrive; an outage is a fault: down, or a rate of 0 in a bandwidth_trace'),
        # what cannot be
        ("{at: 1 s, device: pi-1, fault: join}", ".device: pi-1 is where prompts arrive: it cannot join later"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_its_place(fault: str, message: str) -> None:
    assert mistake(OK, fault) == f"quickstart.yaml:15: faults[1]{message}"


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (("{at: 3 s, device: laptop, fault: join}", "{at_token: 9, device: laptop, fault: join}"), "15: faults[1]: laptop joins twice; one that was there before has for: at its fault"),
        (("{at: 2 s, device: laptop, fault: leave}", "{at: 3 s, device: laptop, fault: join}"), "14: faults[0].at: laptop is not there at 2 s: it joins at 3 s"),
        (("{at: 9 s, device: pi-2, fault: hang}", "{at: 3 s, device: pi, fault: crash}"), "14: faults[0].at: pi-2 is not there at 9 s: it fails for good at 3 s (without for:)"),
        (("{at: 2 s, device: pi, fault: reboot, for: 5 s}", "{at: 6 s, device: pi, fault: crash}"), "15: faults[1].at: pi-1 is not there at 6 s: it fails at 2 s for 5 s"),
        (("{at_token: 2, device: pi, fault: leave}", "{at_token: 3, device: pi-2, fault: crash}"), "15: faults[1].at_token: pi-2 is not there at token 3: it fails for good at token 2 (without for:)"),
    ],
)  # fmt: skip
def test_a_device_fails_only_while_it_is_there(faults: tuple[str, ...], message: str) -> None:
    assert mistake(*faults).splitlines()[0] == f"quickstart.yaml:{message}"


def test_a_device_that_is_there_again_can_fail_again() -> None:
    reboots = [f"{{at: {at_s} s, device: laptop, fault: reboot, for: 4 s}}" for at_s in (3, 9)]
    joins = ("{at: 1 s, device: pi-2, fault: join}", "{at: 1 s, device: pi-2, fault: crash}")
    assert len(parse_scenario(with_faults(*reboots, *joins)).faults) == 4


@pytest.mark.parametrize("backend", ["stamped", "auto", "kernel", "hybrid"])
def test_links_fail_whatever_carries_the_messages(backend: str) -> None:
    down, parted = "{at: 1 s, link: [pi, laptop], fault: down}", "{at: 1 s, partition: [[pi], [laptop]]}"
    assert len(parse_scenario(with_faults(OK, down, parted), overrides=[f"network.backend={backend}"]).faults) == 3


def test_published_formulas_have_no_faults() -> None:
    assert mistake(OK, settings=("cost=literal",)) == (
        "quickstart.yaml:13: faults: need physical costs, which say what is lost and restored; these are literal"
    )


def test_an_event_cannot_stop_a_device() -> None:
    text = TEXT.replace("policy: greedy", "events: [{at: 1 s, device: pi, speed: 0}]")
    expected = "is zero; a device that stands still has a fault (faults: [{…, fault: hang}])"
    assert error_of(text) == f"quickstart.yaml:13: events[0].speed: {expected}"


# -- recovery ---------------------------------------------------------------------------------------------------


def test_where_there_are_faults_caches_are_computed_again_unless_the_scenario_says_otherwise() -> None:
    assert parse_scenario(TEXT).recovery.caches == "none"
    assert parse_scenario(with_faults(OK)).recovery.caches == "reprefill"
    heartbeat = parse_scenario(with_faults(OK, more="\nrecovery: {heartbeat: {misses: 5}}")).recovery
    assert (heartbeat.caches, heartbeat.heartbeat.misses, heartbeat.heartbeat.interval) == ("reprefill", 5, 1.0)
    assert parse_scenario(with_faults(OK), overrides=["recovery=none"]).recovery.caches == "none"
    assert (
        parse_scenario(TEXT, overrides=["recovery=replicate", "recovery.weights=laptop"]).recovery.weights == "laptop"
    )


@pytest.mark.parametrize(
    ("recovery", "message"),
    [
        ("replicat", '.caches: "replicat" is not known here (did you mean "replicate"?)'),
        ("5", ": 5 is neither text nor a mapping (put it in quotes)"),
        ("{replicas: 2}", ".replicas: is for caches: replicate; this is reprefill"),
        ("{caches: replicate, replicas: 3}", ".replicas: 3 on other devices need more than 3 devices"),
        ("{weights: laptpo}", '.weights: there is no device "laptpo" (did you mean "laptop"?); give one, or flash'),
        ("{weights: pi}", '.weights: "pi" is 2 devices; name one, pi-1 to pi-2'),
        ("{heartbeat: {misses: 0}}", ".heartbeat.misses: 0 is less than 1"),
        ("{heartbeat: {interval: 0 s}}", '.heartbeat.interval: "0 s" must be more than zero'),
    ],
)
def test_a_mistake_in_recovery(recovery: str, message: str) -> None:
    assert mistake(OK, more=f"\nrecovery: {recovery}") == f"quickstart.yaml:15: recovery{message}"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("nas", 'there is no device "nas"; give one, or flash'),
        ("pi", '"pi" is 2 devices; name one, pi-1 to pi-2'),
    ],
)
def test_the_device_that_has_all_weights_is_known_also_where_none_are_restored(weights: str, message: str) -> None:
    assert error_of(TEXT, f"recovery.weights={weights}") == f"--set recovery.weights: {message}"


def test_a_device_that_is_named_twice_fails_once() -> None:
    twice = parse_scenario(with_faults("{at: 1 s, device: [pi, pi-1], fault: crash}"))
    assert [event.fault.devices for event in draw_faults(twice).events] == [(0, 1)]


def test_weights_are_not_on_a_device_that_is_not_there_yet() -> None:
    later = "{at: 1 s, device: laptop, fault: join}"
    expected = "laptop joins later, and weights can be lost before"
    assert mistake(later, more="\nrecovery: {weights: laptop}") == f"quickstart.yaml:15: recovery.weights: {expected}"


def test_the_schema_knows_one_device_and_several() -> None:
    fault = scenario_json_schema()["$defs"]["FaultSpec"]["properties"]
    assert [form["type"] for form in fault["device"]["anyOf"]] == ["string", "array", "null"]
    assert {"at", "at_token", "rate", "link", "partition", "for", "loss"} <= fault.keys()


def test_what_is_written_is_read_back() -> None:
    faults = (
        OK,
        "{at_token: 3, device: [laptop], fault: out of memory, for: 1 min}",
        "{rate: 5 per hour, link: [pi, laptop], fault: loss, loss: 30 %, for: 2 s}",
        "{rate: 0.5 per minute, fault: hang}",
        "{at: 9 s, partition: [[], [laptop]], for: 2 s}",
    )
    scenario = parse_scenario(with_faults(*faults, more="\nrecovery: replicate"))
    assert scenario.faults[2].rate == pytest.approx(5 / 3600)
    assert scenario.faults[0].device == ("pi",)
    assert parse_scenario(to_yaml(scenario), scenario.name) == scenario
