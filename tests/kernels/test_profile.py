"""Profiles of the host and of the kernels: samples, counts and what runs; the clocks are the tests' own."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count as counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kernel_shapes import GPT2, SMALL

from edgeemu_kernels.profile import cases as casing
from edgeemu_kernels.profile import host as hosting
from edgeemu_kernels.profile.cases import Case, all_cases, by_blocks, count, effort, expected_s, held_bytes
from edgeemu_kernels.profile.executions import hold
from edgeemu_kernels.profile.host import (
    Cache,
    HostProbe,
    HostSpeed,
    cache_bandwidths,
    caches,
    measure,
    stream_bytes,
)
from edgeemu_kernels.profile.kernels import measure_kernels
from edgeemu_kernels.profile.timing import timing
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

HOST = HostSpeed(gflops=100.0, mem_bytes_per_s=10e9)
PACKED = replace(SMALL, d_model=64, head_dim=32, d_ff=96, n_heads=6, n_kv_heads=3).at_precision("q8_0", "q8_0")
SHAPES = pytest.mark.parametrize("shape", [SMALL, GPT2, PACKED], ids=["llama", "gpt2", "packed"])


def seconds() -> Callable[[], float]:
    """A clock on which every stretch of work takes one second."""
    ticks = counter()
    return lambda: float(next(ticks))


def test_disturbed_samples_are_told_and_do_not_count() -> None:
    quiet = [1.0, 1.01, 1.02, 1.03, 1.04]
    found = timing([*quiet, 1.5, 9.0])
    assert (found.median_s, found.samples, found.outliers) == (1.02, 7, 2)
    assert (found.low_s, found.high_s) == (1.01, 1.03)
    assert found.spread == pytest.approx(0.01 / 1.02)
    assert found.each(2).median_s == 0.51


def test_one_sample_is_enough() -> None:
    assert timing([2.0]) == (2.0, 2.0, 2.0, 1, 0)
    assert timing([0.0, 0.0]).spread == 0.0


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40))
def test_figures_lie_among_the_samples(times_s: list[float]) -> None:
    found = timing(times_s)
    assert min(times_s) <= found.low_s <= found.median_s <= found.high_s <= max(times_s)
    assert 0 <= found.outliers < found.samples == len(times_s)


def test_the_host_is_measured_by_the_clock_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "caches", list)
    speed = measure(seconds(), rounds=2)
    assert speed.gflops == pytest.approx(2 * 768**3 / 1e9)
    assert speed.mem_bytes_per_s == hosting.MIN_STREAM_BYTES


def test_several_threads_read_together() -> None:
    probe = HostProbe(seconds(), 2**16, threads=2)
    probe.sample()
    assert probe.speed.mem_bytes_per_s == 2**16


def test_an_array_is_read_that_no_cache_holds() -> None:
    assert stream_bytes([Cache(2, 2**20, "0"), Cache(3, 2**24, "0-3")]) == 8 * 2**24
    assert stream_bytes([Cache(3, 2**30, "0-63")]) == hosting.MAX_STREAM_BYTES
    assert stream_bytes([]) == hosting.MIN_STREAM_BYTES


def test_caches_are_those_that_sysfs_has_for_data(tmp_path: Path) -> None:
    for number, (kind, level, size) in enumerate(
        [("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "1024K"), ("Unified", 3, "")]
    ):
        index = tmp_path / f"index{number}"
        index.mkdir()
        for name, text in {"type": kind, "level": str(level), "size": size, "shared_cpu_list": "0-1"}.items():
            (index / name).write_text(f"{text}\n")
    (tmp_path / "index4").mkdir()  # without its files
    assert caches(tmp_path) == [Cache(1, 48 * 1024, "0-1"), Cache(2, 2**20, "0-1")]
    assert caches(tmp_path / "none") == []


def test_working_sets_double_and_small_ones_are_read_often() -> None:
    found = list(cache_bandwidths(seconds(), 32 * 1024, rounds=2))
    assert [each.working_set_bytes for each in found] == [8 * 1024, 16 * 1024, 32 * 1024]
    assert {each.bytes_per_s for each in found} == {float(hosting.CACHE_SAMPLE_BYTES)}  # read in the one second


@SHAPES
def test_counted_bytes_are_those_of_the_arrays(shape: ModelShape) -> None:
    source, rows = SeededSource(shape, 0), 3
    heads, proj, ffn, head = source.heads(0, range(shape.n_groups)), source.proj(0), source.ffn(0), source.lm_head()
    cache = heads.new_cache(7)
    cache.append(*np.zeros((2, shape.n_groups, 7, shape.head_dim), np.float32))
    expected = {
        "qkv": heads.weight_bytes - heads.norm.weight_bytes,
        "attention": cache.nbytes_used,
        "proj": proj.weight_bytes,
        "ffn": ffn.weight_bytes,
        "norm": ffn.norm.weight_bytes,
        "lm_head": head.norm.weight_bytes + head.weight.nbytes,
        "decode": ffn.up.nbytes,
    }
    assert {k: held_bytes(shape, Case(k, rows, 4)) for k in casing.KERNELS} == expected


def test_attention_counts_what_a_row_sees() -> None:
    one = count(SMALL, Case("attention", 1, 9)).flops
    assert one == 4 * SMALL.n_heads * SMALL.head_dim * 10
    assert count(SMALL, Case("attention", 2, 8)).flops == one + one * 9 // 10


def test_the_roofline_is_bound_by_arithmetic_or_by_memory() -> None:
    made = casing.Count(flops=10**9, bytes_moved=10**6)
    assert made.roofline_s(HOST) == 0.01
    assert made._replace(flops=1).roofline_s(HOST) == 1e-4
    assert made.intensity == 1000


def test_cases_stay_within_the_context_and_the_output_matrix_has_one_row() -> None:
    shape = replace(SMALL, max_context=16)
    found = all_cases(shape, [1, 8], [0, 12])
    assert [case for case in found if case.kernel == "lm_head"] == [Case("lm_head", 1, 0)]
    assert [case[1:] for case in found if case.kernel == "attention"] == [(1, 0), (8, 0), (1, 12)]
    assert [len(group) for group in by_blocks(found)] == [2, 2, 1, 2, 2, 2, 1]


def test_what_takes_long_is_sampled_seldom_and_one_large_layer_is_enough() -> None:
    huge = replace(SMALL, d_model=8192, d_ff=28672, n_layers=80)
    long, short = (effort(huge, Case("ffn", rows, 0), HOST, 6e-3) for rows in (512, 1))
    assert long[:6] == (False, 0, 1, 1, 1, casing.MIN_ROUNDS)
    assert short.layers == 1
    small = effort(SMALL, Case("ffn", 1, 0), HOST, 6e-3)
    assert small.layers == SMALL.n_layers
    assert small.rounds == casing.MAX_ROUNDS
    cases = [Case("ffn", 512, 0)]
    assert expected_s(huge, cases, HOST, 6e-3) > 3 * casing.PASSES


def test_layers_that_no_cache_holds_follow_each_other_without_a_read_of_the_memory() -> None:
    many = replace(SMALL, d_model=1024, d_ff=4096, n_layers=30)
    small, large = (effort(replace(many, d_ff=d_ff), Case("ffn", 1, 0), HOST, 6e-3) for d_ff in (32, 4096))
    assert small.evicts
    assert small.lead
    assert not large.evicts
    assert large.layers * held_bytes(many, Case("ffn", 1, 0)) > 6e-3 * HOST.mem_bytes_per_s / 2
    assert large.lead == 0


@SHAPES
def test_every_kernel_runs_again_and_again_on_the_same_input(shape: ModelShape) -> None:
    for group in by_blocks(all_cases(shape, [1, 3], [0, 5])):
        held = hold(shape, group, 2)
        for case in group:
            for execution in held.executions(case.rows):
                execution.prepare()
                first = np.array(execution.run())
                execution.prepare()
                np.testing.assert_array_equal(np.array(execution.run()), first)
                assert np.isfinite(first).all()


@pytest.mark.parametrize("keep", [True, False])
def test_a_measurement_is_the_mean_of_the_layers_of_a_sample(keep: bool) -> None:
    probe = HostProbe(seconds(), 2**16)
    probe.sample()
    seen: list[tuple[int, int]] = []
    wanted = [Case("ffn", 1, 0), Case("attention", 2, 3)]
    found = measure_kernels(SMALL, wanted, probe, seconds(), lambda *at: seen.append(at), keep=keep)
    assert [each.case for each in found] == wanted
    for each in found:
        wanted_of = effort(SMALL, each.case, probe.speed, probe.read.median_s)
        assert each.time.median_s == pytest.approx(1 / wanted_of.calls)
        assert each.time.samples == casing.PASSES * wanted_of.rounds * wanted_of.samples
    assert seen == [(n, 6) for n in range(1, 7)]
