"""Figures of devices and links under an engine, and with a profile of a file."""

from pathlib import Path

import numpy as np
import pytest

from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.draw.resolve import resolve
from edgeemu.errors import RequestError
from edgeemu.scenario.catalog import device_profile, link_type
from edgeemu.scenario.catalog.engines import engine_entry
from edgeemu.scenario.load import parse_scenario

TEXT = """
model: tinyllama-1.1b
devices: [{name: pi, profile: PROFILE, count: 2}]
network: {default: ethernet-1g}
workload: {prompts: [{tokens: 4}], max_tokens: 4}
policy: single
"""
BOARD = """
title: A board
engine: mdi-llm
gflops: {value: 10 GFLOPS, source: measured by hand, label: measured}
mem_bandwidth: {value: 5 GB/s, source: measured by hand, label: measured}
memory: {value: 4 GiB, source: measured by hand, label: measured}
message_latency: {value: 0.5 ms, source: measured by hand, label: measured}
fit: {data: [by hand], standard_errors: {mem_bandwidth: 2 %}}
"""


def drawn(engine: str, base: Path, profile: str = "raspberry-pi-5", more: str = ""):
    return draw(parse_scenario(TEXT.replace("PROFILE", profile) + f"engine: {engine}\n{more}", base=base))


@pytest.fixture
def board(tmp_path):
    path = tmp_path / "board.yaml"
    path.write_text(BOARD)
    return path


def test_an_engine_takes_its_shares_of_a_profile_of_the_catalog(tmp_path):
    ideal, mdi = drawn("ideal", tmp_path).devices[0].compute, drawn("mdi-llm", tmp_path).devices[0].compute
    profile, engine = device_profile("raspberry-pi-5"), engine_entry("mdi-llm")
    assert ideal.mem_bytes_per_s == profile.mem_bandwidth.value
    assert mdi.mem_bytes_per_s == pytest.approx(profile.decode_bandwidth.value * engine.bandwidth_share.value)
    assert mdi.flops_per_s == pytest.approx(profile.gflops.value * engine.compute_share.value)


def test_weights_are_read_at_the_rate_of_decoding_where_it_is_known_but_under_the_ideal_engine(tmp_path):
    known, unknown = device_profile("raspberry-pi-4"), device_profile("jetson-nano")
    assert (known.bandwidth(ideal=True), known.bandwidth(ideal=False)) == (known.mem_bandwidth, known.decode_bandwidth)
    assert unknown.bandwidth(ideal=False) == unknown.mem_bandwidth
    assert drawn("llama.cpp", tmp_path, known.name).devices[0].compute.mem_bytes_per_s == known.decode_bandwidth.value
    assert drawn("ideal", tmp_path, known.name).devices[0].compute.mem_bytes_per_s == known.mem_bandwidth.value


def test_what_a_device_gives_is_taken_as_it_is(tmp_path):
    text = TEXT.replace("profile: PROFILE", "profile: raspberry-pi-5, mem_bandwidth: 3 GB/s, message_latency: 0 s")
    device = draw(parse_scenario(text + "engine: mdi-llm\n", base=tmp_path)).devices[0]
    assert device.compute.mem_bytes_per_s == 3e9
    assert device.message_latency_s == 0.0


def test_a_message_latency_is_in_the_delay_of_links_and_in_no_other_figure(tmp_path):
    ideal = drawn("ideal", tmp_path)
    late = drawn("distributed-llama", tmp_path)
    latency_s = engine_entry("distributed-llama").message_latency.value
    assert ideal.delay_s(0, 1) == link_type("ethernet-1g").delay.value
    assert late.delay_s(0, 1) == pytest.approx(ideal.delay_s(0, 1) + latency_s)
    assert late.arrays(np.arange(2), np.arange(2))[1][1, 0] == late.delay_s(1, 0)
    assert late.bandwidth_bps(0, 1) == ideal.bandwidth_bps(0, 1)


def test_the_resolved_scenario_has_the_same_cluster_and_stays_as_it_is(tmp_path):
    links = "{default: {bandwidth: 1 Gbit/s, delay: {uniform: {low: 1 ms, high: 2 ms}}}}"
    text = TEXT.replace("PROFILE", "raspberry-pi-5").replace("{default: ethernet-1g}", links)
    scenario = parse_scenario(text + "engine: distributed-llama\n", base=tmp_path)
    resolved = resolve(scenario)
    assert draw(resolved) == draw(scenario)
    assert resolve(resolved) == resolved


def test_a_profile_of_a_file_is_read_and_takes_no_share_of_its_own_engine(tmp_path, board):
    device = drawn("mdi-llm", tmp_path, board.name).devices[1]
    assert (device.compute.mem_bytes_per_s, device.memory_bytes, device.message_latency_s) == (5e9, 4 << 30, 0.5e-3)
    assert device.profile == str(board)


def test_a_profile_of_a_file_takes_the_shares_of_another_engine(tmp_path, board):
    board.write_text(BOARD.replace("engine: mdi-llm", "engine: llama.cpp"))
    device = drawn("mdi-llm", tmp_path, board.name).devices[1]
    assert device.compute.mem_bytes_per_s == pytest.approx(5e9 * engine_entry("mdi-llm").bandwidth_share.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("board.yaml", "bord.yaml"),
            r'devices\[0\].profile: there is no file "bord.yaml" \(did you mean "board.yaml"',
        ),
        (("5 GB/s", "5 GB"), r"board.yaml:5: mem_bandwidth.value: .*is not a memory bandwidth"),
        (("mdi-llm", "mdi-lm"), r'board.yaml:3: engine: there is no engine "mdi-lm"'),
        (("title: A board", "titel: A board"), r'unknown key "titel" \(did you mean "title"'),
    ],
)
def test_a_wrong_profile_file_is_refused_with_file_line_and_reason(tmp_path, board, change, message):
    board.write_text(BOARD.replace(*change))
    name = "bord.yaml" if "bord.yaml" in change else "board.yaml"
    with pytest.raises(RequestError, match=message):
        drawn("mdi-llm", tmp_path, name)
