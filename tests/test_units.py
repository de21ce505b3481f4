"""Units: what is read, what is refused and how, and that printing loses nothing."""

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from edgeemu.quantity import Quantity, UnitError
from edgeemu.units import (
    BIT_RATE,
    BYTE_RATE,
    DURATION,
    ENERGY,
    ENERGY_PER_BIT,
    FLOP_RATE,
    FRACTION,
    POWER,
    PROBABILITY,
    SIZE,
    Bytes,
    Fraction,
    Seconds,
)

RATES = [DURATION, BIT_RATE, FLOP_RATE, BYTE_RATE, POWER, ENERGY, ENERGY_PER_BIT]


@pytest.mark.parametrize(
    ("quantity", "text", "value"),
    [
        (DURATION, "25 ms", 0.025),
        (DURATION, "25ms", 0.025),
        (DURATION, " 1.5e3 us ", 0.0015),
        (DURATION, "20 µs", 20e-6),
        (DURATION, "2 min", 120.0),
        (DURATION, 0, 0.0),
        (DURATION, "0", 0.0),
        (BIT_RATE, "100 Mbit/s", 1e8),
        (BIT_RATE, "100 Mbps", 1e8),
        (BIT_RATE, "1 Gb/s", 1e9),
        (SIZE, "512 MiB", 536_870_912),
        (SIZE, "512 MB", 512_000_000),
        (SIZE, "1.5 KiB", 1536),
        (SIZE, "1.1 GiB", 1_181_116_006),  # to the nearest byte
        (FLOP_RATE, "12 GFLOPS", 12e9),
        (FLOP_RATE, "3.33 TFLOP/s", 3.33e12),
        (BYTE_RATE, "4 GB/s", 4e9),
        (BYTE_RATE, "1 GiB/s", 2.0**30),
        (POWER, "4 W", 4.0),
        (POWER, "250 mW", 0.25),
        (ENERGY, "2 J", 2.0),
        (ENERGY, "1.5 kJ", 1500.0),
        (ENERGY_PER_BIT, "50 nJ/bit", 50e-9),
        (ENERGY_PER_BIT, "50 nJ/b", 50e-9),
        (ENERGY_PER_BIT, 0, 0.0),
        (FRACTION, "1 %", 0.01),
        (FRACTION, "1%", 0.01),
        (FRACTION, 0.25, 0.25),
        (FRACTION, "2.5e-1", 0.25),
    ],
)
def test_reads(quantity: Quantity, text: str | float, value: float):
    assert quantity.parse(text) == value


@pytest.mark.parametrize(
    ("quantity", "text", "message"),
    [
        (SIZE, "512MB/s", '"512MB/s" is not a size (did you mean "512 MB"?)'),
        (SIZE, "512 mib", '"512 mib" is not a size (did you mean "512 MiB"?)'),
        (SIZE, "512 M", '"512 M" is not a size (did you mean "512 MB"?)'),
        (SIZE, 512, '512 is not a size (no unit; write e.g. "512 MiB")'),
        (SIZE, "0.3 B", '"0.3 B" is not a whole number of bytes'),
        (SIZE, "1e300 TB", '"1e300 TB" is too large'),
        (SIZE, [1], 'a list is not a size (write e.g. "512 MiB")'),
        (SIZE, True, 'true is not a size (write e.g. "512 MiB")'),
        (BYTE_RATE, "4 GB", '"4 GB" is not a memory bandwidth (did you mean "4 GB/s"?)'),
        (BIT_RATE, "100 Mbit", '"100 Mbit" is not a bit rate (did you mean "100 Mbit/s"?)'),
        (BIT_RATE, "100 MB/s", '"100 MB/s" is not a bit rate (did you mean "800 Mbit/s"?)'),
        (BIT_RATE, "1.5 GB/s", '"1.5 GB/s" is not a bit rate (did you mean "12 Gbit/s"?)'),
        (BIT_RATE, "1 MiB/s", '"1 MiB/s" is not a bit rate (did you mean "8.388608 Mbit/s"?)'),
        (BIT_RATE, "10 MBps", '"10 MBps" is not a bit rate (did you mean "80 Mbit/s"?)'),
        (BIT_RATE, "10 MB", '"10 MB" is not a bit rate (did you mean "80 Mbit/s"?)'),
        (BIT_RATE, "10 Mbyte/s", '"10 Mbyte/s" is not a bit rate (did you mean "80 Mbit/s"?)'),
        (BIT_RATE, "100 KB/s", '"100 KB/s" is not a bit rate (did you mean "800 kbit/s"?)'),
        (BIT_RATE, "100 mbit/s", '"100 mbit/s" is not a bit rate (did you mean "100 Mbit/s"?)'),
        (BYTE_RATE, "32 Gbit/s", '"32 Gbit/s" is not a memory bandwidth (did you mean "4 GB/s"?)'),
        (BYTE_RATE, "32 Gbps", '"32 Gbps" is not a memory bandwidth (did you mean "4 GB/s"?)'),
        (BYTE_RATE, "4 gb/s", '"4 gb/s" is not a memory bandwidth (did you mean "4 GB/s"?)'),
        (SIZE, "512 Mbit", '"512 Mbit" is not a size (did you mean "64 MB"?)'),
        (SIZE, "512 Mb", '"512 Mb" is not a size (did you mean "64 MB"?)'),
        (DURATION, "9" * 5000 + " s", '"9999999999999999999999999999999999999999…" is not a duration (too long)'),
        (DURATION, "x" * 5000, '"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…" is not a duration (too long)'),
        (BIT_RATE, "5 ms", '"5 ms" is not a bit rate (write e.g. "100 Mbit/s")'),
        (DURATION, "25", '"25" is not a duration (no unit; write e.g. "25 ms")'),
        (DURATION, "-5 ms", '"-5 ms" is negative; a duration cannot be'),
        (DURATION, "nan", '"nan" is not a duration (write e.g. "25 ms")'),
        (DURATION, "inf s", '"inf s" is not a duration (write e.g. "25 ms")'),
        (DURATION, math.inf, 'inf is not a duration (write e.g. "25 ms")'),
        (DURATION, "1e999 s", '"1e999 s" is too large'),
        (POWER, "4 J", '"4 J" is not a power (write e.g. "4 W")'),
        (ENERGY, "2 W", '"2 W" is not an energy (write e.g. "2 J")'),
        (ENERGY_PER_BIT, "50 nJ", '"50 nJ" is not an energy per bit (write e.g. "50 nJ/bit")'),
        (FLOP_RATE.above_zero(), "0 GFLOPS", '"0 GFLOPS" must be more than zero'),
        (FRACTION, "101 %", '"101 %" must be at most 1'),
        (PROBABILITY, "100 %", f'"100 %" must be less than 1: {PROBABILITY.why_below}'),
    ],
)
def test_refuses(quantity: Quantity, text: Any, message: str):
    with pytest.raises(UnitError) as caught:
        quantity.parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("quantity", RATES, ids=lambda quantity: quantity.noun)
@given(value=st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_exact_text_reads_back_to_the_last_bit(quantity: Quantity, value: float):
    assert quantity.parse(quantity.format_exact(value)) == value


@given(value=st.integers(min_value=0, max_value=2**63 - 1))
def test_exact_sizes_read_back(value: int):
    assert SIZE.parse(SIZE.format_exact(value)) == value


@given(value=st.floats(min_value=0, max_value=1))
def test_exact_fractions_read_back(value: float):
    assert FRACTION.parse(FRACTION.format_exact(value)) == value


@given(st.integers(1, 999_999), st.integers(-9, 6), st.sampled_from(["ns", "us", "ms", "s"]))
def test_what_a_person_writes_is_exact(digits: int, exponent: int, unit: str):
    """`0.1 ms` is the double nearest to 1e-4, not 0.1 times the double nearest to 1e-3."""
    power = exponent + {"ns": -9, "us": -6, "ms": -3, "s": 0}[unit]
    assert DURATION.parse(f"{digits}e{exponent} {unit}") == float(f"{digits}e{power}")


@pytest.mark.parametrize(
    ("quantity", "value", "exact", "human"),
    [
        (DURATION, 0.025, "25 ms", "25 ms"),
        (DURATION, 0.0, "0 s", "0 s"),
        (DURATION, 1 / 3, "333.3333333333333 ms", "333 ms"),
        (SIZE, 536_870_912, "512 MiB", "512 MiB"),
        (SIZE, 4_000_000_000, "4 GB", "3.73 GiB"),
        (SIZE, 999, "999 B", "999 B"),
        (BIT_RATE, 1e8, "100 Mbit/s", "100 Mbit/s"),
        (FLOP_RATE, 16550432913.327215, "16.550432913327215 GFLOPS", "16.6 GFLOPS"),
        (BYTE_RATE, 5.56e9, "5.56 GB/s", "5.56 GB/s"),
        (POWER, 0.25, "250 mW", "250 mW"),
        (ENERGY, 7.1, "7.1 J", "7.10 J"),
        (ENERGY_PER_BIT, 12.8e-9, "12.8 nJ/bit", "12.8 nJ/bit"),
        (ENERGY_PER_BIT, 0.0, "0 J/bit", "0 J/bit"),
        (FRACTION, 0.01, "0.01", "1 %"),
    ],
)
def test_prints(quantity: Quantity, value: float, exact: str, human: str):
    assert quantity.format_exact(value) == exact
    assert quantity.format_human(value) == human


@pytest.mark.parametrize("quantity", [*RATES, SIZE, FRACTION], ids=lambda quantity: quantity.noun)
@given(value=st.one_of(st.floats(min_value=0, allow_nan=False), st.integers(0, 2**62)))
def test_human_text_is_always_short(quantity: Quantity, value: float):
    assert len(quantity.format_human(value)) < 20


class _Model(BaseModel):
    delay: Seconds
    memory: Bytes = 1
    share: Fraction = 0.5


def test_a_pydantic_field_holds_base_units_and_serialises_to_exact_text():
    model = _Model.model_validate({"delay": "0.1 ms", "memory": "1 GiB"})
    assert (model.delay, model.memory) == (1e-4, 2**30)
    assert json.loads(model.model_dump_json()) == {"delay": "100 us", "memory": "1 GiB", "share": 0.5}
    assert _Model.model_validate_json(model.model_dump_json()) == model


def test_a_pydantic_field_refuses_with_our_words():
    with pytest.raises(ValidationError, match='did you mean "5 ms"'):
        _Model.model_validate({"delay": "5 MS"})


def test_the_json_schema_is_of_texts_with_examples():
    fields = _Model.model_json_schema()["properties"]
    assert fields["memory"]["type"] == "string"
    assert fields["memory"]["examples"] == ["512 MiB"]
    assert fields["share"]["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 1.0}


def test_units_do_not_load_pydantic():
    """Device processes import this module, and must stay small."""
    code = "import sys, edgeemu.units, edgeemu.cluster.cluster; print('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
