"""Executions of kernels that a profile measures: which, what each must compute and read, and how often it is run.

Knows shapes and the host's speed; no arrays. Counts follow the arrays that a kernel has: every weight, key and value is
read once, what comes in is read, what goes out is written. They are made apart from the cost model of the emulator, to
be compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Literal, NamedTuple, get_args

from edgeemu_kernels.precision import FORMATS, VECTOR_BYTES
from edgeemu_kernels.profile.host import HostSpeed
from edgeemu_kernels.shape import ModelShape

Kernel = Literal["qkv", "attention", "proj", "ffn", "norm", "lm_head", "decode"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)

PASSES = 3  # times that all is measured, so that samples of an execution are seconds apart
SAMPLE_S = 1e-4  # least duration of a sample: far above what reading the clock takes
ROUND_S = 1e-3  # of samples between two reads of the memory
CYCLE_S = 0.05  # of samples in a round without one
CALL_S = 5e-6  # what a call of a kernel takes at least
NORM_CALLS = 64  # in a sample
LEAD_S = 2.5e-3  # what runs so soon after a read of the memory takes some 10 % longer, and the first 0.2 ms
LONG_S = 5e-3  # a kernel of which that is little
MAX_LAYERS_HELD = 32
LAYERS_BYTES = 320 * 1024**2  # no more for several layers; one layer may take more
EVICTING_SHARE = 0.5  # of what a read of the memory reads: layers of that size leave no caches to each other
MIN_ROUNDS, MAX_ROUNDS = 2, 10  # in a pass
KERNEL_S = 0.15  # processor time of an execution in a pass, if the least number of rounds takes no longer
SLOWER = 2.0  # times the roofline: what is expected of a kernel, to say how long it all takes
DRAWN_BYTES_PER_S = 1e9  # random weights and caches, at least


class Case(NamedTuple):
    """Execution of a kernel on `rows` new positions; attention after `past` cached ones. Decoding knows no rows."""

    kernel: Kernel
    rows: int
    past: int


class Count(NamedTuple):
    """Work that one execution cannot avoid."""

    flops: int  # of matrix products, 2 for a multiplication and an addition; of a norm 4 for each value, of decoding 2
    bytes_moved: int

    def roofline_s(self, host: HostSpeed) -> float:
        """Duration at which arithmetic or memory is at its limit (Williams, Waterman, Patterson, CACM 2009)."""
        return max(self.flops / (host.gflops * 1e9), self.bytes_moved / host.mem_bytes_per_s)

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.flops / self.bytes_moved


class Effort(NamedTuple):
    """Executions in a pass: rounds, each after a read of the memory where the layers would else stay in the caches.

    A round runs the kernel of `lead` layers without timing it, so that code, page tables and prefetchers are as within
    a step; then it takes `samples`, each of `calls` layers, one after the other. Rounds go round `layers`, because
    where a layer's weights lie in memory has an effect. Layers that are far more than the caches hold need neither:
    they follow each other as in a step.
    """

    evicts: bool
    lead: int
    samples: int
    calls: int
    layers: int
    rounds: int
    expected_s: float  # processor time, without making the layers


def all_cases(shape: ModelShape, rows: Sequence[int], pasts: Sequence[int]) -> list[Case]:
    """Executions of all kernels of a layer and of the output matrix, which runs on one row only.

    With packed weights also what a product of many rows does first: decoding the feed-forward's first matrix.
    """
    found = []
    for kernel in KERNELS:
        if kernel == "attention":
            found += [Case(kernel, t, past) for past in pasts for t in rows if past + t <= shape.max_context]
        elif kernel == "lm_head":
            found.append(Case(kernel, 1, 0))
        elif kernel == "decode":
            found += [Case(kernel, 1, 0)] if shape.precision.up != "f32" else []
        else:
            found += [Case(kernel, t, 0) for t in rows]
    return found


def held_bytes(shape: ModelShape, case: Case) -> int:
    """Weights that the kernel holds, or the cache that it reads; norms and biases are float32."""
    s, rows_of = shape, shape.precision.weights
    width, queries = s.d_model, s.n_heads * s.head_dim
    qkv = queries + 2 * s.n_kv_heads * s.head_dim
    halves, vector = 2 if s.activation == "swiglu" else 1, VECTOR_BYTES
    norm = width * (1 if s.norm == "rms" else 2) * vector
    match case.kernel:
        case "qkv":
            return qkv * (rows_of("query").row_bytes(width) + s.bias * vector)
        case "attention":
            return 2 * s.n_kv_heads * (case.past + case.rows) * FORMATS[s.precision.cache].row_bytes(s.head_dim)
        case "proj":
            return width * (rows_of("proj").row_bytes(queries) + s.bias * vector)
        case "ffn":
            up = halves * s.d_ff * (rows_of("up").row_bytes(width) + s.bias * vector)
            return up + width * (rows_of("down").row_bytes(s.d_ff) + s.bias * vector) + norm
        case "norm":
            return norm
        case "decode":
            return halves * s.d_ff * rows_of("up").row_bytes(width)
        case "lm_head":
            return s.vocab_size * rows_of("lm_head").row_bytes(width) + norm


def count(shape: ModelShape, case: Case) -> Count:
    """Count operations and bytes of one execution."""
    s, t = shape, case.rows
    width, queries = s.d_model, s.n_heads * s.head_dim
    qkv = queries + 2 * s.n_kv_heads * s.head_dim
    match case.kernel:
        case "qkv":
            flops, values = 2 * t * width * qkv, t * (width + qkv)
        case "attention":
            seen = t * case.past + t * (t + 1) // 2  # causal: row i sees past + i + 1 positions
            flops, values = 4 * queries * seen, t * (qkv + queries)
        case "proj":
            flops, values = 2 * t * queries * width, t * (queries + 2 * width)  # the residual is read, too
        case "ffn":
            matrices = 3 if s.activation == "swiglu" else 2
            flops, values = 2 * t * width * s.d_ff * matrices, 2 * t * width
        case "norm":
            flops, values = 4 * t * width, 2 * t * width
        case "lm_head":
            flops, values = 2 * width * s.vocab_size, width + s.vocab_size
        case "decode":  # the numbers go into a buffer that stays in a cache
            flops, values = 2 * s.d_ff * width * (2 if s.activation == "swiglu" else 1), 0
    return Count(flops, held_bytes(shape, case) + values * VECTOR_BYTES)


def layers_held(shape: ModelShape, case: Case) -> int:
    """Layers whose weights, or caches, are in memory at a time; one is enough if it is large."""
    if case.kernel == "lm_head":
        return 1
    return max(1, min(shape.n_layers, MAX_LAYERS_HELD, LAYERS_BYTES // held_bytes(shape, case)))


def effort(shape: ModelShape, case: Case, host: HostSpeed, evict_s: float) -> Effort:
    """Choose samples and rounds of an execution, so that a pass takes about `KERNEL_S` for it.

    `evict_s`: what a read of the memory takes.
    """
    one_s = CALL_S + SLOWER * count(shape, case).roofline_s(host)
    layers = layers_held(shape, case)
    evicts = layers * held_bytes(shape, case) < EVICTING_SHARE * evict_s * host.mem_bytes_per_s
    lead = min(ceil(LEAD_S / one_s), max(1, layers // 2)) if evicts and one_s < LONG_S else 0
    rest = max(1, layers - lead)
    calls = NORM_CALLS if case.kernel == "norm" else min(rest, ceil(SAMPLE_S / one_s))
    samples = max(1, min(rest // calls, ceil((ROUND_S if evicts else CYCLE_S) / (calls * one_s))))
    round_s = (lead + samples * calls) * one_s + (evict_s if evicts else 0.0)
    rounds = min(MAX_ROUNDS, max(MIN_ROUNDS, int(KERNEL_S / round_s)))
    return Effort(evicts, lead, samples, calls, layers, rounds, (rounds + 1) * round_s)


def made_bytes(shape: ModelShape, cases: Sequence[Case]) -> int:
    """Weights, or caches, of the layers that executions of one kernel need."""
    return max(layers_held(shape, case) * held_bytes(shape, case) for case in cases)


def expected_s(shape: ModelShape, cases: Sequence[Case], host: HostSpeed, evict_s: float) -> float:
    """Processor time that measuring all of it will take, within a factor of two or so."""
    a_pass_s = sum(effort(shape, case, host, evict_s).expected_s for case in cases)
    a_pass_s += sum(made_bytes(shape, group) for group in by_blocks(cases)) / DRAWN_BYTES_PER_S
    return PASSES * a_pass_s


def by_blocks(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """Group executions that the same weights, or caches, serve."""
    groups: dict[tuple[Kernel, int], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.kernel, case.past), []).append(case)
    yield from groups.values()
