"""The self-test of links as a verdict of the certificate, and as a table for people. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeemu.links.self_test import MIN_STREAM_WALL_S, LinkTest
from edgeemu.report.evidence import Finding, Level
from edgeemu.report.formats import path_text, percent_text
from edgeemu.report.thresholds import (
    INVALID_TRIP_OF_TOKEN,
    WARN_DELAY,
    WARN_DELAY_WALL_S,
    WARN_RATE,
    WARN_TRANSPORT,
    WARN_TRIP_OF_TOKEN,
)


def judge_links(
    tests: Sequence[LinkTest], dilation: float, tpot_ms: float | None, tpot_off: float | None
) -> Iterator[Finding]:
    """Judge how far kernel links were what the scenario asks for.

    `tpot_ms` is the run's; `tpot_off` its deviation from that of stamped links, where it is known.
    """
    for test in tests:
        for level, reason in _deviations(test, dilation, tpot_ms):
            yield Finding(level, f"{path_text(test.source, test.target)}: {reason}")
    if tpot_off is not None and abs(tpot_off) > WARN_TRANSPORT:
        yield Finding(
            "WARN", f"TPOT is {percent_text(tpot_off, 1, signed=True)} off that of stamped links{_transport(tests)}"
        )


def _deviations(test: LinkTest, dilation: float, tpot_ms: float | None) -> Iterator[tuple[Level, str]]:
    allowed_s = WARN_DELAY_WALL_S / dilation + WARN_DELAY * test.asked_delay_s + test.jitter_s
    if abs(test.delay_off_s) > allowed_s and not test.loss:
        yield "WARN", f"the delay is {_ms(test.delay_s)}, not {_ms(test.asked_delay_s)}"
    if abs(test.rate_off) > WARN_RATE and not test.loss and test.streamed_s * dilation >= MIN_STREAM_WALL_S:
        why = "; raise time.dilation, or the messages are too short to fill the link" if test.rate_off < 0 else ""
        yield "WARN", f"the throughput is {percent_text(test.rate_off, signed=True)} off{why}"
    off_s = abs(test.round_trip_off_s) - 2 * test.jitter_s
    if tpot_ms and not test.loss and off_s > WARN_TRIP_OF_TOKEN * tpot_ms / 1000:
        level: Level = "INVALID" if off_s > INVALID_TRIP_OF_TOKEN * tpot_ms / 1000 else "WARN"
        trip = f"{_ms(test.round_trip_s)}, not {_ms(test.asked_round_trip_s)}"
        yield level, f"a round trip of the run's messages takes {trip}: {off_s * 1e5 / tpot_ms:.0f} % of a token"


def _transport(tests: Sequence[LinkTest]) -> str:
    """Tell how much longer a message takes on real TCP, by the self-test."""
    if not tests:
        return ""
    extra_s = sum(test.round_trip_off_s * test.stands_for for test in tests) / sum(t.stands_for for t in tests) / 2
    return f": a message takes {_ms(extra_s)} longer than on an idle link (ZeroMQ, the kernel, slow start)"


def links_document(tests: Sequence[LinkTest], dilation: float, tpot_off: float | None) -> dict[str, Any]:
    """Make the part of the certificate about links: the worst deviations, and the run against the timeline."""

    def worst(values: Sequence[float]) -> float | None:
        return max(values, key=abs, default=None)

    return {
        "tested": len(tests),
        "delay_off_ms": _times_1000(worst([test.delay_off_s for test in tests])),
        "throughput_off": worst([t.rate_off for t in tests if t.streamed_s * dilation >= MIN_STREAM_WALL_S]),
        "round_trip_off_ms": _times_1000(worst([test.round_trip_off_s for test in tests])),
        "tpot_off": tpot_off,
    }


def profile_document(kind: str, why_not_kernel: str, dilation: float, tests: Sequence[LinkTest]) -> dict[str, Any]:
    """Make the document of `edgeemu profile links --json`."""
    return {
        "links": kind,
        "why_not_kernel": why_not_kernel,
        "dilation": dilation,
        "tests": [
            {
                "source": test.source,
                "target": test.target,
                "stands_for": test.stands_for,
                "delay_ms": {"asked": 1000 * test.asked_delay_s, "measured": 1000 * test.delay_s},
                "throughput_bps": {"asked": test.asked_bps, "measured": test.bps},
                "round_trip_ms": {"asked": 1000 * test.asked_round_trip_s, "measured": 1000 * test.round_trip_s},
                "message_bytes": test.size_bytes,
                "jitter_ms": 1000 * test.jitter_s,
                "loss": test.loss,
                "late_ms": 1000 * test.late_s,
            }
            for test in tests
        ],
    }


def profile_table(document: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Make the table of that document: columns and rows."""
    columns = ("link", ">links like it", ">delay", ">asked", ">throughput", ">asked", ">round trip", ">asked", ">late")
    rows = [
        [
            path_text(test["source"], test["target"]),
            str(test["stands_for"]),
            *(f"{test['delay_ms'][key]:.2f} ms" for key in ("measured", "asked")),
            *(f"{test['throughput_bps'][key] / 1e6:.1f} Mbit/s" for key in ("measured", "asked")),
            *(f"{test['round_trip_ms'][key]:.2f} ms" for key in ("measured", "asked")),
            f"{test['late_ms']:.2f} ms",
        ]
        for test in document["tests"]
    ]
    return columns, rows


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"


def _times_1000(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
