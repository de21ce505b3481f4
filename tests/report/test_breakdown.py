"""The breakdown of critical paths adds up to the time of a token, and says where most is lost."""

import pytest
from support.critical import CASES, by_hand, run_of

from edgeemu.report.critical.breakdown import breakdown, breakdown_document, breakdown_lines, breakdown_tables
from edgeemu.report.critical.critical_path import TimePart, critical_paths
from edgeemu.report.rows_in_memory import RowsInMemory


def test_the_breakdown_of_a_path_by_hand() -> None:
    made = breakdown(critical_paths(by_hand()))
    assert (made.tokens, made.first, made.total_ms) == (1, True, 14000.0)
    assert made.parts_ms == {
        TimePart.COMPUTE: 10250.0,
        TimePart.TRANSMISSION: 1000.0,
        TimePart.LATENCY: 250.0,
        TimePart.LINK_QUEUE: 500.0,
        TimePart.DEVICE_QUEUE: 500.0,
        TimePart.ADMISSION: 750.0,
        TimePart.CONTROLLER: 250.0,
        TimePart.MIGRATION: 500.0,
    }
    assert [(place.name, place.ms) for place in made.devices] == [
        ("b", {"compute": 6250.0}),
        ("a", {"compute": 4000.0, "queue": 500.0}),
    ]
    assert [(place.name, place.ms) for place in made.paths] == [
        ("a → b", {"transmission": 1000.0, "latency": 250.0, "queue": 500.0})
    ]
    assert breakdown_lines(made) == [
        "of 14000.0 ms per first token: 73.2 % computing, 7.1 % transmission, 5.4 % waiting for other sequences",
        "the device on which most is lost is b: 44.6 %, 6250.0 ms of compute",
        "the path on which most is lost is a → b: 12.5 %, 1000.0 ms of transmission, 250.0 ms of latency, "
        "500.0 ms of queue",
    ]
    parts, blocks, devices, paths = breakdown_tables(made, {"a": {"mbu": 0.5, "mfu": None}})
    assert parts.rows[0] == ["computing", "10250.0 ms", "73.2 %"]
    assert blocks.rows[0] == ["lm_head", "4000.0 ms", "28.6 %"]
    assert devices.columns == ("device", ">compute", ">queue", ">share", ">MBU", ">MFU")
    assert devices.rows[1] == ["a", "4000.0 ms", "500.0 ms", "32.1 %", "50 %", "–"]
    assert paths.rows == [["a → b", "1000.0 ms", "250.0 ms", "500.0 ms", "12.5 %"]]


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_parts_places_and_blocks_add_up(changes: tuple[str, ...]) -> None:
    controller = run_of(*changes)
    document = breakdown_document(breakdown(critical_paths(controller.recorded)))
    later = [row.latency_s for row in controller.tokens if row.step]
    assert document["of"] == "tokens after the first"
    assert document["tokens"] == len(later)
    assert document["ms_per_token"] == pytest.approx(1000 * sum(later) / len(later))
    parts = document["parts_ms"]
    assert sum(parts.values()) == pytest.approx(document["ms_per_token"], abs=1e-6)
    assert sum(document["computed_ms"].values()) == pytest.approx(parts["compute"], abs=1e-6)
    on_devices = sum(parts.get(part, 0.0) for part in ("compute", "message_overhead", "device_queue"))
    assert sum(place["total_ms"] for place in document["devices"]) == pytest.approx(on_devices, abs=1e-6)
    on_paths = sum(parts.get(part, 0.0) for part in ("transmission", "latency", "link_queue"))
    assert sum(place["total_ms"] for place in document["paths"]) == pytest.approx(on_paths, abs=1e-6)


def test_no_token_is_no_breakdown() -> None:
    made = breakdown(critical_paths(RowsInMemory()))
    assert breakdown_tables(made, {}) == []
    assert breakdown_lines(made) == ["no token is recorded"]
