"""Figures are found again in times that they made, and what times do not tell is refused with what would."""

from dataclasses import replace

import pytest

from edgeemu.errors import RequestError
from edgeemu.run.calibrate.fit import Calibration, calibrate
from edgeemu.run.calibrate.measurement import HeldAs, Joined, Measurement
from edgeemu.run.calibrate.predictor import Predictor
from edgeemu.run.calibrate.remarks import remarks
from edgeemu.scenario.catalog import device_profile
from edgeemu.scenario.catalog.engines import engine_entry

LAN = Joined("941 Mbit/s", "40 us")
FIGURES = {"gflops": 40e9, "mem_bandwidth": 9e9, "overhead": 150e-6, "message_latency": 300e-6}


def row(model: str, nodes: int = 1, **fields) -> Measurement:
    link = LAN if nodes > 1 else None
    return Measurement(f"{model}, {nodes}", model, HeldAs("q4_0"), nodes, link, taken_s=0.1, **fields)


def measured(engine: str, rows: list[Measurement], figures: dict[str, float], noise=(0.0,)) -> list[Measurement]:
    """Rows with the times that a board with these figures takes; each with the next of the relative errors."""
    predictor = Predictor(engine)
    times = [predictor.predict(each, figures).taken_s for each in rows]
    return [
        replace(r, taken_s=t * (1 + noise[n % len(noise)])) for n, (r, t) in enumerate(zip(rows, times, strict=True))
    ]


def fit(engine: str, rows: list[Measurement], figures: dict[str, float], noise=(0.0,)) -> Calibration:
    return calibrate(engine_entry(engine), measured(engine, rows, figures, noise))


def test_figures_are_found_again():
    rows = [
        row("llama-3.2-1b"),
        row("llama-3.1-8b"),
        row("llama-3.1-8b", 2),
        row("llama-3.1-8b", 4),
        row("llama-3.2-1b", phase="prefill", context=256),
        row("llama-3.1-8b", phase="prefill", context=512),
    ]
    made = fit("distributed-llama", rows, FIGURES)
    assert made.refused == {}
    assert set(made.figures) == set(FIGURES)
    for field, value in FIGURES.items():
        assert made.figures[field] == pytest.approx(value, rel=1e-3), field
    assert max(map(abs, made.errors(fitted=True))) < 1e-4


def test_two_boards_tell_what_a_message_costs():
    figures = {"gflops": 1e15, "mem_bandwidth": 3e9, "message_latency": 250e-6, "overhead": 0.0}
    made = fit("distributed-llama", [row("llama-2-7b"), row("llama-2-7b", 2)], figures)
    assert made.figures["mem_bandwidth"] == pytest.approx(3e9, rel=1e-3)
    assert made.figures["message_latency"] == pytest.approx(250e-6, rel=1e-2)
    assert "mem_bandwidth and message_latency" in made.refused["overhead"]
    assert "second model" in made.refused["overhead"]


def test_one_row_tells_bandwidth_and_nothing_else():
    made = fit("llama.cpp", [row("llama-3.2-1b")], {"gflops": 1e15, "mem_bandwidth": 9e9})
    assert made.figures == {"mem_bandwidth": pytest.approx(9e9, rel=1e-6)}
    assert "on two, with the link" in made.refused["message_overhead"]
    assert "does not tell it from mem_bandwidth" in made.refused["overhead"].replace("do not", "does not")
    assert made.standard_errors == {}


def test_errors_of_the_rows_are_in_the_standard_errors():
    rows = [row(model) for model in ("llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b", "llama-2-13b")]
    figures = {"gflops": 1e15, "mem_bandwidth": 9e9, "overhead": 400e-6}
    quiet = fit("llama.cpp", rows, figures, (0.01, -0.01))
    loud = fit("llama.cpp", rows, figures, (0.04, -0.04))
    assert 0 < quiet.standard_errors["mem_bandwidth"] < 0.04
    assert loud.standard_errors["mem_bandwidth"] == pytest.approx(4 * quiet.standard_errors["mem_bandwidth"], rel=0.3)
    assert abs(loud.figures["mem_bandwidth"] / 9e9 - 1) < 3 * loud.standard_errors["mem_bandwidth"]


def test_an_overhead_that_would_be_negative_is_none():
    """The larger model is relatively faster than one without any overhead."""
    rows = measured("llama.cpp", [row("llama-3.2-1b"), row("llama-3.1-8b")], {"gflops": 1e15, "mem_bandwidth": 9e9})
    made = calibrate(engine_entry("llama.cpp"), [rows[0], replace(rows[1], taken_s=1.1 * rows[1].taken_s)])
    assert made.figures["overhead"] == 0.0
    assert "overhead" not in made.standard_errors


def test_bytes_that_are_read_count_where_a_format_does_not_run():
    wide = replace(row("llama-3.2-1b"), weights=HeldAs("q4_0", 1.2))
    predictor, figures = Predictor("llama.cpp"), {"gflops": 1e15, "mem_bandwidth": 9e9}
    narrow_s = predictor.predict(row("llama-3.2-1b"), figures).taken_s
    assert predictor.predict(wide, figures).taken_s == pytest.approx(1.2 * narrow_s)


def test_several_sequences_make_more_tokens_per_second_in_a_ring():
    one, three = row("nanollama-304m", 3), row("nanollama-304m", 3, sequences=3)
    figures = {"gflops": 1e15, "mem_bandwidth": 9e9, "overhead": 0.0, "message_latency": 0.0}
    predictor = Predictor("mdi-llm")
    assert predictor.predict(three, figures).taken_s < 0.5 * predictor.predict(one, figures).taken_s


def test_rows_that_are_not_fitted_are_only_predicted():
    rows = measured("distributed-llama", [row("llama-2-7b"), row("llama-2-7b", 2), row("llama-2-7b", 4)], FIGURES)
    rows[2] = replace(rows[2], taken_s=9 * rows[2].taken_s, fitted=False)
    made = calibrate(engine_entry("distributed-llama"), rows)
    assert max(map(abs, made.errors(fitted=True))) < 1e-3
    assert made.errors(fitted=False)[0] == pytest.approx(1 / 9 - 1, abs=0.01)


def test_a_division_that_the_engine_does_not_have_is_refused_with_its_row():
    three = [row("llama-2-7b"), row("llama-2-7b", 3)]
    with pytest.raises(RequestError, match=r"llama-2-7b, 3: distributed-llama cannot run it: .*1, 2, 4, 8"):
        calibrate(engine_entry("distributed-llama"), three)
    long = [row("llama-2-7b", context=5000)]
    with pytest.raises(RequestError, match=r"llama-2-7b, 1: llama.cpp cannot run it: .*4096"):
        calibrate(engine_entry("llama.cpp"), long)


def test_prompts_alone_are_refused():
    with pytest.raises(RequestError, match="no row to fit is of decoding"):
        calibrate(engine_entry("llama.cpp"), [row("llama-3.2-1b", phase="prefill", context=128)])


def test_what_speaks_against_figures_is_remarked():
    pi = device_profile("raspberry-pi-5")
    good = [row("llama-3.2-1b"), row("llama-3.2-3b"), row("llama-3.1-8b")]
    figures = {"gflops": 1e15, "mem_bandwidth": 9e9, "overhead": 400e-6}
    assert remarks(fit("llama.cpp", good, figures, (0.01, -0.01)), pi) == []
    (exact,) = remarks(fit("llama.cpp", [row("llama-3.2-1b")], figures), pi)
    assert "cannot be told" in exact
    fast = remarks(fit("llama.cpp", good, figures | {"mem_bandwidth": 30e9}, (0.01, -0.01)), pi)
    assert len(fast) == 1
    assert "data sheet of raspberry-pi-5 says 17.1 GB/s at most" in fast[0]
    assert remarks(fit("llama.cpp", good, figures | {"mem_bandwidth": 30e9}, (0.01, -0.01)), None) == []
    contradicting = remarks(fit("llama.cpp", [*good, row("llama-2-7b")], figures, (0.0, 2.0, -0.6, 1.0)), None)
    assert any("contradicts others" in each for each in contradicting)
