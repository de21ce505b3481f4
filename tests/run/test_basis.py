"""Basis of figures, collected from scenarios: labels of what is used, and measurements that predictions met."""

import pickle
from pathlib import Path

import pytest

from edgeemu.report.basis import basis_document, basis_line
from edgeemu.run import basis
from edgeemu.run.basis import basis_of
from edgeemu.scenario.catalog.validated import ValidatedEntry
from edgeemu.scenario.load import parse_scenario

TEXT = """
model: tinyllama-1.1b
devices: [{name: pi, profile: raspberry-pi-5, count: 2}]
network: {default: ethernet-1g}
workload: {prompts: [{tokens: 4}], max_tokens: 4}
"""
BOARD = """
title: "Raspberry Pi 4B, ours"
engine: distributed-llama-0.1
gflops: {value: 10 GFLOPS, source: measured by hand, label: measured}
mem_bandwidth: {value: 3 GB/s, source: measured by hand, label: measured}
memory: {value: 4 GiB, source: measured by hand, label: derived}
"""


def entry(name: str, worst: float, boards: str = "Raspberry Pi 4") -> ValidatedEntry:
    return ValidatedEntry(
        name=name,
        title=name,
        engine="distributed-llama-0.1",
        boards=boards,
        data="somewhere",
        fitted_on="1 and 2 nodes",
        predicted=3,
        median_error=worst / 4,
        worst_error=worst,
        direction="both ways",
    )


def test_figures_are_named_by_label_from_the_worst_to_the_best():
    found = basis_of(parse_scenario(TEXT))
    assert (found.label, list(found.figures), found.held) == ("peak", ["peak", "derived"], None)
    assert found.figures["peak"] == ["mem_bandwidth of raspberry-pi-5"]
    assert "bandwidth of ethernet-1g" in found.figures["derived"]


def test_an_engine_uses_the_bandwidth_of_decoding_and_brings_figures_of_its_own():
    found = basis_of(parse_scenario(TEXT + "engine: distributed-llama\n"))
    assert found.label == "derived"
    assert "decode_bandwidth of raspberry-pi-5" in found.figures["derived"]
    assert "message_latency of distributed-llama" in found.figures["derived"]


def test_what_the_scenario_gives_is_given():
    own = TEXT.replace("ethernet-1g", "{type: ethernet-1g, delay: 1 ms}").replace(
        "count: 2", "count: 2, gflops: 9 GFLOPS"
    )
    given = basis_of(parse_scenario(own)).figures["given"]
    assert given == ["gflops of pi", "delay of links"]
    share = basis_of(parse_scenario(TEXT.replace("profile: raspberry-pi-5", "host_fraction: 0.5, memory: 1 GiB")))
    assert share.figures["given"] == ["host_fraction of pi"]


def test_power_is_a_part_where_energy_is_asked_for():
    named = [name for names in basis_of(parse_scenario(TEXT)).figures.values() for name in names]
    assert not any(name.startswith("power") for name in named)
    asked = basis_of(parse_scenario(TEXT + "objective: energy\n")).figures
    assert "power.busy of raspberry-pi-5" in asked["measured"]


def test_one_device_uses_no_link():
    alone = basis_of(parse_scenario(TEXT.replace("count: 2", "count: 1")))
    assert not any("ethernet" in name for names in alone.figures.values() for name in names)


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch):
    entries = {e.name: e for e in (entry("V1", 0.04), entry("V9", 0.11), entry("V2", 0.3, "Raspberry Pi 5"))}
    monkeypatch.setattr(basis, "validated_entries", lambda: entries)


@pytest.mark.usefixtures("validated")
@pytest.mark.parametrize(
    ("devices", "engine", "worst"),
    [
        ("{name: pi, profile: raspberry-pi-4}", "distributed-llama-0.1", "V9"),
        ("{name: a, profile: raspberry-pi-4}, {name: b, profile: raspberry-pi-5}", "distributed-llama-0.1", "V2"),
        ("{name: pi, profile: raspberry-pi-4}", "ideal", None),
        ("{name: pi, profile: raspberry-pi-400}", "distributed-llama-0.1", None),
        ("{name: a, profile: raspberry-pi-4}, {name: b, profile: jetson-nano}", "distributed-llama-0.1", None),
        ("{name: pi, profile: raspberry-pi-4, gflops: 99 GFLOPS}", "distributed-llama-0.1", None),
    ],
)
def test_the_worst_data_set_of_these_boards_under_this_engine_counts(devices, engine, worst):
    text = TEXT.replace("{name: pi, profile: raspberry-pi-5, count: 2}", devices)
    held = basis_of(parse_scenario(text + f"engine: {engine}\n")).held
    assert (held and held.data) == worst
    assert held is None or not held.calibrated


@pytest.mark.usefixtures("validated")
def test_boards_that_were_calibrated_for_the_engine_are_as_those_that_were_validated(tmp_path: Path):
    (tmp_path / "board.yaml").write_text(BOARD)
    text = TEXT.replace("raspberry-pi-5", "board.yaml") + "engine: distributed-llama-0.1\n"
    held = basis_of(parse_scenario(text, base=tmp_path)).held
    assert held is not None
    assert (held.data, held.calibrated) == ("V9", True)


@pytest.mark.usefixtures("validated")
@pytest.mark.parametrize(
    ("fit", "is_validated", "told"),
    [
        ("worst_error: 8 %", True, "fitted to their own data within 8 %; "),
        ("worst_error: 81 %", False, "fitted to their own data within 81 %; "),
        ("not_told_apart: {}", True, "no error is known of the fit of board; "),
    ],
)
def test_boards_that_are_far_from_their_own_data_are_not_as_those(
    tmp_path: Path, fit: str, is_validated: bool, told: str
):
    (tmp_path / "board.yaml").write_text(BOARD + f"fit: {{data: [ours.csv], {fit}}}\n")
    text = TEXT.replace("raspberry-pi-5", "board.yaml") + "engine: distributed-llama-0.1\n"
    found = basis_of(parse_scenario(text, base=tmp_path))
    assert found.is_validated == is_validated
    assert told in basis_line(basis_document(found))


@pytest.mark.parametrize(
    ("given", "overrides", "formats", "told"),
    [
        ("", [], {}, "engine ideal; "),
        (
            "",
            ["engine=distributed-llama"],
            {"weights": "q4_0", "messages": "q8_0"},
            "engine distributed-llama, whose formats these are: weights q4_0, messages q8_0 (precision); ",
        ),
        (
            "engine: distributed-llama\nprecision: {weights: q4_0}\n",
            [],
            {"messages": "q8_0"},
            "engine distributed-llama, whose formats these are: messages q8_0 (precision); ",
        ),
        ("precision: {weights: q4_0, messages: f32}\n", ["engine=distributed-llama"], {}, "engine distributed-llama; "),
    ],
)
def test_formats_that_the_engine_chose_are_told(
    given: str, overrides: list[str], formats: dict[str, str], told: str
) -> None:
    scenario = parse_scenario(TEXT + given, "choice", overrides)
    document = basis_document(basis_of(scenario))
    assert document is not None
    assert document["formats"] == formats
    assert told in basis_line(document)
    for copied in (pickle.loads(pickle.dumps(scenario)), scenario.model_copy(update={"seed": 7})):
        assert basis_of(copied).formats == formats
