"""Profiles of kernels: what they refuse before anything is measured, and the document with the cost model beside it."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from support.kernel_shapes import SMALL

from edgeemu.errors import RequestError
from edgeemu.host.available_memory import HostMemory
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.run import profile_kernels as profiling
from edgeemu.run.profile_kernels import ProfileRequest, counted_by_costs, profile_kernels
from edgeemu_kernels.profile.cases import Case

PLENTY = HostMemory(2**33, "available on this host")
SHAPE = replace(SMALL, max_context=64)


def steps_of_a_second() -> Callable[[], float]:
    ticks = count()
    return lambda: float(next(ticks))


def asked(**fields: object) -> ProfileRequest:
    values = {"shape": SHAPE, "rows": [1], "pasts": [0, 8], "threads": [1]} | fields
    return ProfileRequest(**values)  # type: ignore[arg-type]


def profile(wanted: ProfileRequest, memory: HostMemory = PLENTY) -> dict[str, Any]:
    clock = steps_of_a_second()
    return profile_kernels(wanted, clock, clock, memory, lambda _: None, lambda *_: None)


@pytest.fixture(autouse=True)
def small_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose caches are small enough to be evicted at once."""
    monkeypatch.setattr(profiling, "stream_bytes", lambda _: 2**16)
    monkeypatch.setattr(profiling, "ROUNDS", 1)


def test_the_document_has_rates_roofline_and_cost_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "LONGEST_S", 1e9)  # a host that takes a second to read 64 KiB would take long
    told: list[float] = []
    phases: list[tuple[str, int, int]] = []
    clock = steps_of_a_second()
    document = profile_kernels(asked(), clock, clock, PLENTY, told.append, lambda *phase: phases.append(phase))
    assert len(told) == 1
    assert [each["kernel"] for each in document["kernels"]] == [
        "qkv", "attention", "attention", "proj", "ffn", "norm", "lm_head"
    ]  # fmt: skip
    assert phases[-1] == ("kernels, f32, 1 thread", 21, 21)
    (host,) = document["hosts"]
    assert (host["threads"], host["clock"], host["mem_bytes_per_s"]) == (1, "processor time", 2**16)
    for each in document["kernels"]:
        assert each["flops_per_s"] * each["median_s"] == pytest.approx(each["flops"])
        assert each["bytes_per_s"] * each["median_s"] == pytest.approx(each["bytes"])
        assert each["roofline_share"] == pytest.approx(each["roofline_s"] / each["median_s"])
        assert each["flops_per_byte"] == each["flops"] / each["bytes"]
        assert each["cost_model"]["bytes"] <= each["bytes"]  # it leaves activations out
        if each["kernel"] != "norm":
            assert each["cost_model"]["flops"] == each["flops"]


def test_packed_weights_are_measured_as_they_are_held_and_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "LONGEST_S", 1e9)
    shape = replace(SHAPE, d_model=64, head_dim=32, d_ff=96, n_heads=6, n_kv_heads=3)
    document = profile(asked(shape=shape, precisions=["f32", "q8_0", "f32"], pasts=[8]))
    found = {(each["precision"], each["kernel"]): each for each in document["kernels"]}
    assert [kernel for precision, kernel in found if precision == "f32"] == [*found_kernels(document)][:-1]
    assert found["q8_0", "decode"]["cost_model"] is None
    ratio = found["q8_0", "lm_head"]["bytes"] / found["f32", "lm_head"]["bytes"]
    assert 34 / 128 < ratio < 0.35


def found_kernels(document: dict[str, Any]) -> list[str]:
    return [each["kernel"] for each in document["kernels"] if each["precision"] == "q8_0"]


def test_the_cost_model_is_that_of_the_blocks() -> None:
    costs = PhysicalCosts(SHAPE)
    qkv, attention = (counted_by_costs(SHAPE, Case(kernel, 3, 5)) for kernel in ("qkv", "attention"))
    assert qkv is not None
    assert attention is not None
    assert qkv + attention == costs.work(Kind.HEAD, SHAPE.n_groups, 3, 5)
    assert counted_by_costs(SHAPE, Case("ffn", 3, 0)) == costs.work(Kind.FFN, SHAPE.n_groups, 3, 0)


@pytest.mark.parametrize(
    ("wanted", "memory", "message"),
    [
        (asked(pasts=[64]), PLENTY, "--past: 64 is too many: small has 64 positions"),
        (asked(rows=[65]), PLENTY, "--rows: 65 is too many"),
        (asked(threads=[10_000]), PLENTY, "--threads: 10000 are too many: this process may use"),
        (asked(), HostMemory(2**20, "left in the group"), "too large for this host: the largest kernel of small needs"),
    ],
)
def test_what_cannot_be_measured_is_refused_first(wanted: ProfileRequest, memory: HostMemory, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        profile(replace(wanted, shape=replace(SHAPE, name="small")), memory)
    assert str(caught.value).startswith(message)


def test_what_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "LONGEST_S", 60.0)
    with pytest.raises(RequestError, match="minutes of processor time, and at most 1 are allowed"):
        profile(asked())
