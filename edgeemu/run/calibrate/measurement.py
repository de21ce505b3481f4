"""One measurement of a cluster of equal boards, and the words in which people write models, formats and links."""

import re
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from edgeemu.errors import RequestError, did_you_mean
from edgeemu.placement.model_bytes import model_bytes
from edgeemu.report.figure_texts import exact_text
from edgeemu.scenario.catalog import link_types, model_entries
from edgeemu.scenario.scenario import Scenario
from edgeemu_kernels.precision import FORMATS

Phase = Literal["decode", "prefill"]
CONTEXT = 64  # positions that are cached already, where a measurement does not say

# Bits per weight of formats that edgeemu does not run, of which only the bytes that are read count. Source: llama.cpp,
# examples/quantize/README.md (Llama 2 7B); INT4 as in MLC's q4f16_1: 32 weights with a scale of 16 bits.
BITS = {
    "q2_k": 3.35,
    "q3_k_s": 3.50,
    "q3_k_m": 3.91,
    "q3_k_l": 4.27,
    "q4_k_s": 4.58,
    "q4_k_m": 4.84,
    "q5_0": 5.5,
    "q5_1": 6.0,
    "q5_k_s": 5.52,
    "q5_k_m": 5.68,
    "int4": 4.5,
    "q4f16_1": 4.5,
}
_BLOCK = 256  # weights of the largest block
# Formats that edgeemu runs, with their bits per weight.
RUN = {name: 8 * form.row_bytes(_BLOCK) / _BLOCK for name, form in FORMATS.items()}
_ALIASES = {
    "fp16": "f16",
    "fp32": "f32",
    "q40": "q4_0",
    "q80": "q8_0",
    "8_bit": "q8_0",
    "4_bit": "q4_0",
    "int8": "q8_0",
}
LINK_DELAY = "0 s"  # of a link that is given by its rate: what it delays is then in the cost of a message
_GIGABIT = re.compile(r"\b(gigabit|1000base-t)\b", re.IGNORECASE)
_RATE = re.compile(r"\b(\d+(?:\.\d+)?)\s?([kMGT])bit/s")


class Joined(NamedTuple):
    """Link between any two boards, as a scenario writes it."""

    bandwidth: str
    delay: str


class HeldAs(NamedTuple):
    """Format in which weights are simulated, and how many times as many bytes are read as in it."""

    name: str
    stretch: float = 1.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """Time per token (`decode`), or time of a prompt (`prefill`), that somebody measured on equal boards."""

    where: str  # file and row
    model: str  # of the catalog
    weights: HeldAs
    nodes: int
    link: Joined | None  # None for one board
    taken_s: float  # per token; of a prompt: all of it
    phase: Phase = "decode"
    context: int = CONTEXT  # positions that are cached already, or those of the prompt
    sequences: int = 1  # that are generated at once: `taken_s` is then the inverse of the tokens per second of all
    compute_s: float | None = None  # the part of it in which the first device computes
    device: str = ""
    cache: str | None = None  # format of keys and values; None: the engine's
    engine: str | None = None  # that ran, where its file says so
    scenario: Scenario | None = field(default=None, compare=False)  # of a run of edgeemu's own; None: to be made
    fitted: bool = True  # False: only predicted

    @property
    def label(self) -> str:
        """Name in tables."""
        what = f"{self.model} {self.weights.name}" + (f" ×{self.weights.stretch:.2f}" if self.stretched else "")
        prompt = f", prompt of {self.context}" if self.phase == "prefill" else ""
        return f"{what}, {self.nodes} node{'s' * (self.nodes > 1)}{prompt}"

    @property
    def stretched(self) -> bool:
        return abs(self.weights.stretch - 1.0) > 1e-9


def model_named(text: str) -> str:
    """Name of a model in the catalog from the way people write it ("Llama 2 7B"). Raises `RequestError`."""
    known = model_entries()
    plain = re.sub(r"[^a-z0-9.]+", "-", text.strip().lower()).strip("-")
    for name in (plain, plain.removesuffix("-instruct"), plain.removesuffix("-chat"), plain.removeprefix("meta-")):
        if name in known:
            return name
    raise RequestError(f'there is no model "{text}" in the catalog{did_you_mean(plain, known)}')


def model_of_size(n_weights: float, text: str) -> str:
    """Name of the model in the catalog with this number of weights, within 0.5 %. Raises `RequestError`."""
    for name, entry in model_entries().items():
        if abs(model_bytes(entry.model_shape().at_precision(weights="f32")) / 4 / n_weights - 1) < 0.005:
            return name
    raise RequestError(f'the catalog has no model of {n_weights / 1e9:.3g} billion weights ("{text}"); give --model')


def weight_format(text: str, bits_per_weight: float | None = None) -> HeldAs:
    """Format of weights from the way people write it ("Q40", "fp16", "Q4_K_M (tag default)"), or from its bits.

    Raises `RequestError`.
    """
    plain = re.sub(r"[^a-z0-9]+", "_", text.partition("(")[0].strip().lower()).strip("_")
    name = _ALIASES.get(plain, plain)
    if bits_per_weight is None:
        if name in RUN:
            return HeldAs(name)
        if name not in BITS:
            hint = did_you_mean(name, [*RUN, *BITS])
            raise RequestError(f'"{text}" is no known format of weights{hint}; give its bits_per_weight')
        bits_per_weight = BITS[name]
    nearest = min(RUN, key=lambda known: abs(RUN[known] - bits_per_weight))
    return HeldAs(nearest, bits_per_weight / RUN[nearest])


def link_named(text: str) -> Joined:
    """Link from the way people write it: a type of the catalog, a bit rate, or the word gigabit.

    Raises `RequestError`.
    """
    known, plain = link_types(), text.strip()
    kind = known.get(plain)
    if kind is None and (found := _RATE.search(plain)):
        return Joined(f"{found[1]} {found[2]}bit/s", LINK_DELAY)
    if kind is None and _GIGABIT.search(plain):
        kind = known["ethernet-1g"]
    if kind is None:
        raise RequestError(
            f'"{text}" is neither a link type of the catalog{did_you_mean(plain, known)} nor a bit rate '
            "(100 Mbit/s); give --link"
        )
    return Joined(exact_text("bandwidth", kind.bandwidth.value), exact_text("delay", kind.delay.value))
