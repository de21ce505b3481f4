"""The links' self-test: what it sends, what it concludes, and how the certificate uses that."""

from dataclasses import replace

import pytest
from support.builders import even_cluster

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Link
from edgeemu.cluster.topology import Mesh
from edgeemu.links.interface import ProbeRecord
from edgeemu.links.self_test import BULK_MESSAGES, MAX_LINKS, LinkTest, bulk, distinct_pairs, measured
from edgeemu.report.certificate import with_verdict
from edgeemu.report.evidence import Finding
from edgeemu.report.link_certificate import judge_links, links_document, profile_document, profile_table

GOOD = LinkTest("a", "b", 3, 2368, 0.0, 0.0, 0.002, 0.0021, 95.6e6, 95e6, 0.0044, 0.0045, 0.0001, 0.125)
TPOT_MS = 100.0


def uneven(n_devices: int) -> Cluster:
    """A mesh in which every link is a kind of its own."""
    even = even_cluster(n_devices, Link(1e6, 0.0))
    return Cluster("uneven", 0, even.devices, Mesh(n_devices, lambda a, b: Link(1e6 * (1 + n_devices * a + b), 0.001)))


def test_links_with_the_same_parameters_are_measured_once() -> None:
    ways = [(a, b) for a in range(4) for b in range(4) if a != b]
    assert distinct_pairs(even_cluster(4, Link(1e6, 0.01)), ways) == [((0, 1), 12)]


def test_of_many_kinds_the_slowest_the_fastest_and_some_between_are_measured() -> None:
    cluster = uneven(5)
    ways = [(a, b) for a in range(5) for b in range(5) if a != b]
    chosen = distinct_pairs(cluster, ways)
    rates = [cluster.bandwidth_bps(*way) for way, _ in chosen]
    assert len(chosen) == MAX_LINKS
    assert rates == sorted(rates)
    assert (chosen[0][0], chosen[-1][0]) == ((0, 1), (4, 3))
    assert {number for _, number in chosen} == {1}


@pytest.mark.parametrize(("bandwidth_bps", "dilation"), [(1e4, 1.0), (1e8, 1.0), (1e8, 10.0), (1e11, 1.0)])
def test_a_stream_has_real_messages_at_any_rate(bandwidth_bps: float, dilation: float) -> None:
    burst = bulk(even_cluster(2, Link(bandwidth_bps, 0.01)).path(0, 1), dilation)
    assert burst.messages == BULK_MESSAGES
    assert 100 <= burst.payload_bytes <= 1 << 20


def stamped(path_bps: float, delay_s: float, sizes: list[int], at_s: float = 1.0) -> list[ProbeRecord]:
    """Arrivals of messages sent at once over a link."""
    records, free_s = [], at_s
    for size in sizes:
        free_s += 8 * size / path_bps
        records.append(ProbeRecord(size, at_s, free_s + delay_s, free_s + delay_s + 1e-4))
    return records


@pytest.mark.parametrize("at_s", [1.0, -2e-4])
@pytest.mark.parametrize("real_packets", [False, True])
def test_a_link_that_does_what_is_asked_is_found_to(real_packets: bool, at_s: float) -> None:
    path = even_cluster(2, Link(1e8, 0.01)).path(0, 1)
    rate_bps = 1e8 * (1448 / 1514 if real_packets else 1.0)
    test = measured(
        ("a", "b"),
        1,
        path,
        path,
        2368,
        real_packets=real_packets,
        small=stamped(1e8, 0.01, [72], at_s),
        stream=stamped(rate_bps, 0.01, [10_000] * 32),
        own_there=stamped(rate_bps, 0.01, [2368]),
        own_back=stamped(rate_bps, 0.01, [2368]),
    )
    assert test.delay_off_s == pytest.approx(0.0, abs=1e-9)
    assert test.rate_off == pytest.approx(0.0, abs=1e-6)
    assert test.round_trip_off_s == pytest.approx(0.0, abs=1e-6)
    assert test.late_s == pytest.approx(1e-4)
    assert judged([test], 0.0) == ("PASS", "")


def judged(tests: list[LinkTest], tpot_off: float | None) -> tuple[str, str]:
    """The verdict of tests, and its reasons."""
    made = with_verdict({"verdict": "PASS", "reasons": []}, list(judge_links(tests, 1.0, TPOT_MS, tpot_off)))
    return made["verdict"], "; ".join(made["reasons"])


@pytest.mark.parametrize(
    ("changed", "verdict", "says"),
    [
        ({}, "PASS", ""),
        ({"delay_s": 0.0032}, "WARN", "the delay is 3.20 ms, not 2.00 ms"),
        ({"bps": 80e6}, "WARN", "the throughput is -16 % off"),
        ({"round_trip_s": 0.0064}, "WARN", "takes 6.40 ms, not 4.40 ms: 2 % of a token"),
        ({"round_trip_s": 0.0164}, "INVALID", "12 % of a token"),
        ({"round_trip_s": 0.0164, "bps": 80e6}, "INVALID", "12 % of a token"),
        ({"round_trip_s": 0.0164, "bps": 80e6, "loss": 0.01}, "PASS", ""),
        ({"round_trip_s": 0.0064, "delay_s": 0.003, "jitter_s": 0.002}, "PASS", ""),
        ({"bps": 80e6, "streamed_s": 0.01}, "PASS", ""),
    ],
)
def test_a_link_is_judged_by_what_it_does_to_a_token(changed: dict[str, float], verdict: str, says: str) -> None:
    found, reasons = judged([GOOD, replace(GOOD, **changed)], 0.0)
    assert found == verdict
    assert says in reasons
    assert bool(reasons) == bool(says)


def test_a_run_that_pays_for_transport_is_told_what_it_paid() -> None:
    slow = replace(GOOD, round_trip_s=0.0054)
    found, reasons = judged([slow], 0.2)
    assert found == "WARN"
    assert "TPOT is +20.0 % off that of stamped links: a message takes 0.50 ms longer" in reasons
    assert judged([GOOD], 0.05)[0] == "PASS"
    assert judged([GOOD], None)[0] == "PASS"


def test_the_worse_verdict_counts() -> None:
    certificate = {"verdict": "WARN", "reasons": ["late"]}
    assert with_verdict(certificate, []) == certificate
    worse = {"verdict": "INVALID", "reasons": ["late", "far off"]}
    assert with_verdict(certificate, [Finding("INVALID", "far off")]) == worse


def test_the_worst_deviations_are_kept_with_their_signs() -> None:
    document = links_document([GOOD, replace(GOOD, delay_s=0.001, bps=90e6)], 1.0, 0.05)
    assert document["tested"] == 2
    assert document["delay_off_ms"] == pytest.approx(-1.0)
    assert document["throughput_off"] == pytest.approx(90 / 95.6 - 1)
    assert document["tpot_off"] == pytest.approx(0.05)
    assert links_document([], 1.0, None)["delay_off_ms"] is None


def test_a_profile_is_the_same_for_people_and_programs() -> None:
    document = profile_document("hybrid", "", 2.0, [GOOD])
    columns, rows = profile_table(document)
    assert document["tests"][0]["round_trip_ms"] == {"asked": 4.4, "measured": 4.5}
    assert len(columns) == len(rows[0])
    assert rows[0][:4] == ["a → b", "3", "2.10 ms", "2.00 ms"]
