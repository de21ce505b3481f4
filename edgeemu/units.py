"""Units of all quantities: durations, rates, sizes, speeds, power, energy, fractions.

Knows text and numbers. Imports pydantic only when a pydantic model asks for a schema, so that
device processes stay small.

A `Quantity` is one kind of physical value. It is also the pydantic annotation of its type::

    class Link(BaseModel):
        delay: Seconds            # accepts "25 ms"; holds 0.025; serialises to JSON as "25 ms"

Arithmetic is exact: text becomes a rational number, is scaled, and is rounded once, so that
`parse(format_exact(x)) == x` to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction as Rational
from typing import Annotated

from edgeemu.quantity import Quantity


def _si(base: str, prefixes: str) -> dict[str, Rational]:
    """Factors of `base` with each SI prefix of `prefixes`; a space stands for no prefix."""
    powers = {"p": -12, "n": -9, "u": -6, "m": -3, " ": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
    return {f"{prefix.strip()}{base}": Rational(10) ** powers[prefix] for prefix in prefixes}


def _sizes(suffix: str) -> dict[str, Rational]:
    binary = {f"{prefix}iB{suffix}": Rational(1024) ** n for n, prefix in enumerate("KMGT", start=1)}
    sizes = _si(f"B{suffix}", " kMGT") | binary
    return dict(sorted(sizes.items(), key=lambda item: item[1]))


_PREFIXES = "kMGT"
_BYTES = _sizes("")
_BITS = _si("bit", " kMGT") | _si("b", "kMGT")

DURATION = Quantity(
    noun="a duration",
    units=_si("s", "num ") | {"min": Rational(60), "h": Rational(3600)},
    aliases={"µs": "us", "μs": "us", "sec": "s", "second": "s", "seconds": "s", "msec": "ms", "usec": "us"},
    example="25 ms",
)
BIT_RATE = Quantity(
    noun="a bit rate",
    units=_si("bit/s", " kMGT"),
    aliases={f"{p}{spelling}": f"{p}bit/s" for p in ("", *_PREFIXES) for spelling in ("bps", "b/s")}
    | {"Kbit/s": "kbit/s", "Kbps": "kbit/s"},
    example="100 Mbit/s",
    mistaken={
        f"{unit}{suffix}": 8 * factor
        for unit, factor in (_BYTES | _si("byte", " kMGT") | {"KB": Rational(1000)}).items()
        for suffix in ("/s", "ps")
    },
)
SIZE = Quantity(
    noun="a size",
    units=_sizes(""),
    aliases={"KB": "kB", "bytes": "B", "byte": "B"},
    example="512 MiB",
    whole=True,
    mistaken={unit: factor / 8 for unit, factor in _BITS.items()},
)
FLOP_RATE = Quantity(
    noun="a compute speed",
    units=_si("FLOPS", " kMGTP"),
    aliases={f"{p}{spelling}": f"{p}FLOPS" for p in ("", *_PREFIXES, "P") for spelling in ("FLOP/s", "flops")},
    example="12 GFLOPS",
)
BYTE_RATE = Quantity(
    noun="a memory bandwidth",
    units=_sizes("/s"),
    aliases={"KB/s": "kB/s", **{f"{p}Bps": f"{p}B/s" for p in _PREFIXES}},
    example="4 GB/s",
    mistaken={f"{unit}{suffix}": factor / 8 for unit, factor in _BITS.items() for suffix in ("/s", "ps")},
)
RATE = Quantity(
    noun="a rate",
    units={"/h": Rational(1, 3600), "/min": Rational(1, 60), "/s": Rational(1)},
    aliases={"per second": "/s", "Hz": "/s", "per minute": "/min", "per hour": "/h"},
    example="0.5 /s",
)
POWER = Quantity(
    noun="a power",
    units=_si("W", "um k"),
    aliases={"µW": "uW", "μW": "uW", "watt": "W", "watts": "W"},
    example="4 W",
)
ENERGY = Quantity(
    noun="an energy",
    units=_si("J", "num kM"),
    aliases={"µJ": "uJ", "μJ": "uJ", "joule": "J", "joules": "J"},
    example="2 J",
)
ENERGY_PER_BIT = Quantity(
    noun="an energy per bit",
    units=_si("J/bit", "pnum "),
    aliases={"µJ/bit": "uJ/bit", "μJ/bit": "uJ/bit", **{f"{p}J/b": f"{p}J/bit" for p in ("p", "n", "u", "m", "")}},
    example="50 nJ/bit",
)
FRACTION = Quantity(
    noun="a fraction",
    units={"%": Rational(1, 100)},
    aliases={"percent": "%"},
    example="1 %",
    bare=True,
    maximum=1.0,
)
PROBABILITY = replace(
    FRACTION,
    noun="a loss rate",
    maximum=math.inf,
    below=1.0,
    why_below="nothing would ever arrive; an outage is a fault: down, or a rate of 0 in a bandwidth_trace",
)

Seconds = Annotated[float, DURATION]
BitsPerSecond = Annotated[float, BIT_RATE.above_zero()]
Bytes = Annotated[int, SIZE.above_zero()]
FlopsPerSecond = Annotated[float, FLOP_RATE.above_zero()]
BytesPerSecond = Annotated[float, BYTE_RATE.above_zero()]
PerSecond = Annotated[float, RATE.above_zero()]
Watts = Annotated[float, POWER]
Joules = Annotated[float, ENERGY.above_zero()]
JoulesPerBit = Annotated[float, ENERGY_PER_BIT]
Fraction = Annotated[float, FRACTION]
PositiveFraction = Annotated[float, FRACTION.above_zero()]
LossRate = Annotated[float, PROBABILITY]
