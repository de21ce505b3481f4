"""`edgeemu profile kernels`: kernels of a model are timed on this host, beside what the cost model counts for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from edgeemu.cluster.devices import Compute
from edgeemu.errors import RequestError, did_you_mean
from edgeemu.host.available_memory import HostMemory
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.operation_costs import NORM_OPERATIONS
from edgeemu.placement.work import Work, roofline_s
from edgeemu.report.formats import counted, size
from edgeemu.scenario.catalog import model_entries, model_entry
from edgeemu.scenario.catalog.shapes import ShapeFields
from edgeemu.scenario.document import read
from edgeemu.scenario.validation import validate
from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.precision import FORMATS
from edgeemu_kernels.profile.blas import loaded_blas
from edgeemu_kernels.profile.cases import Case, Kernel, all_cases, by_blocks, expected_s, layers_held, made_bytes
from edgeemu_kernels.profile.host import ROUNDS, Clock, HostProbe, HostSpeed, caches, stream_bytes
from edgeemu_kernels.profile.kernels import Measured, measure_kernels
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.open_model import open_model

PRECISIONS = tuple(FORMATS)  # number formats of weights and caches
DEFAULT_PASTS = (0, 1024, 4096)
LONGEST_S = 600.0  # of processor time, for each number of threads and precision
VALUE_BYTES = 4  # of activations
BASE_BYTES = 64 * 2**20  # libraries, and what they take when they compute

KINDS: dict[Kernel, Kind] = {
    "qkv": Kind.HEAD,
    "attention": Kind.HEAD,
    "proj": Kind.PROJ,
    "ffn": Kind.FFN,
    "lm_head": Kind.LM_HEAD,
}


@dataclass(frozen=True, slots=True)
class ProfileRequest:
    """Kernels to measure. Rows after cached positions that are beyond the model's context are left out."""

    shape: ModelShape
    rows: Sequence[int]
    pasts: Sequence[int]
    threads: Sequence[int]
    precisions: Sequence[str] = ("f32",)

    def cases(self) -> list[tuple[str, ModelShape, list[Case]]]:
        """Executions to measure, for each precision: its name, the shape in it, and the executions.

        Raises:
            RequestError: a number of rows, or of cached positions, is beyond the model's context.
        """
        context = self.shape.max_context
        for field, number, beside in (
            ("--rows", max(self.rows), 0),
            ("--past", max(self.pasts), min(self.rows)),
            ("--rows", max(self.rows), min(self.pasts)),
        ):
            if number + beside > context:
                raise RequestError(f"{number} is too many: {self.shape.name} has {context} positions", field=field)
        shapes = [(name, self.shape.at_precision(name, name)) for name in dict.fromkeys(self.precisions)]
        return [(name, shape, all_cases(shape, self.rows, self.pasts)) for name, shape in shapes]


def make_request(
    model: str,
    shape: str | None,
    precisions: Sequence[str],
    rows: Sequence[int],
    pasts: Sequence[int] | None,
    threads: Sequence[int],
) -> ProfileRequest:
    """Make a request from options: `model` names one of the catalog, a file or a directory; `shape` is YAML.

    Raises:
        RequestError: there is no such model, or the shape or the precision is wrong.
    """
    for name in precisions:
        if name not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise RequestError(
                f'"{name[:40]}" cannot be measured{did_you_mean(name, PRECISIONS)}; {known} can', field="--precision"
            )
    if shape is not None:
        found = validate(ShapeFields, read(shape, "--shape")).model_shape("custom")
    elif model in model_entries() or not ("/" in model or Path(model).exists()):
        found = model_entry(model).model_shape()
    else:
        try:
            found = open_model(model).shape
        except ModelFileError as error:
            raise RequestError(str(error), field="--model") from error
    default = [past for past in DEFAULT_PASTS if past < found.max_context]
    return ProfileRequest(found, rows, default if pasts is None else pasts, threads, precisions)


def profile_kernels(
    request: ProfileRequest,
    thread: Clock,
    wall: Clock,
    memory: HostMemory,
    on_start: Callable[[float], None],
    on_phase: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Measure the kernels and the host, and make the document of `edgeemu profile kernels --json`.

    `thread` gives this thread's processor time in seconds, and is for one thread of the BLAS; `wall` for several.
    `on_start` is told how many seconds of processor time it will take; `on_phase` how many measurements are done.

    Raises:
        RequestError: it is beyond the model's context, this host's memory or ten minutes, or the BLAS has not so many
            threads.
    """
    asked = request.cases()
    if (most := max(request.threads)) > (cores := len(os.sched_getaffinity(0))):
        raise RequestError(f"{most} are too many: this process may use {counted(cores, 'core')}", field="--threads")
    array_bytes = stream_bytes(caches())
    fit_at_once = [_keeps_all(shape, cases, array_bytes + BASE_BYTES, memory) for _, shape, cases in asked]
    hosts, kernels = [], []
    for threads in request.threads:
        with threadpool_limits(threads, "blas"):
            blas = loaded_blas()
            if blas.threads != threads:
                raise RequestError(f"{blas.name} has {blas.threads} of {threads}", field="--threads")
            clock = thread if threads == 1 else wall
            probe = HostProbe(clock, array_bytes, threads)
            for _ in range(ROUNDS):
                probe.sample()
            on_start(sum(_expected_s(shape, cases, probe) for _, shape, cases in asked))
            for precision, shape, cases in asked:
                on_progress = partial(on_phase, f"kernels, {precision}, {counted(threads, 'thread')}")
                found = measure_kernels(shape, cases, probe, clock, on_progress, keep=all(fit_at_once))
                of_all = {"precision": precision, "threads": threads}
                kernels += [{**_kernel_document(shape, each, probe.speed), **of_all} for each in found]
            hosts.append(_host_document(threads, probe))
            del probe
    return {
        "model": request.shape.name,
        "layers": request.shape.n_layers,
        "blas": {"name": blas.name, "version": blas.version, "kernels": blas.kernels},
        "hosts": hosts,
        "kernels": kernels,
    }


def counted_by_costs(shape: ModelShape, case: Case) -> Work | None:
    """Work that the cost model counts for this execution; of a norm, as it counts that of divided layers.

    None for decoding, which it does not count apart.
    """
    costs = PhysicalCosts(shape)
    match case.kernel:
        case "qkv":
            return costs.qkv_work(shape.n_groups, case.rows)
        case "attention":
            return costs.attention_work(shape.n_groups, case.rows, case.past)
        case "decode":
            return None
        case "norm":
            return costs.rows_work(2, case.rows, NORM_OPERATIONS)
        case kernel:
            return costs.work(KINDS[kernel], shape.n_groups, case.rows, case.past)


def _keeps_all(shape: ModelShape, cases: Sequence[Case], base_bytes: int, memory: HostMemory) -> bool:
    """Return whether all layers fit in memory at once, with as much left; else those of one kernel at a time must.

    Raises:
        RequestError: they do not.
    """
    largest_bytes, all_bytes = 0, 0
    for group in by_blocks(cases):
        case = max(group, key=lambda case: case.rows)
        group_bytes = made_bytes(shape, group) + _arrays_bytes(shape, case)
        largest_bytes, all_bytes = max(largest_bytes, group_bytes), all_bytes + group_bytes
    needed_bytes = base_bytes + largest_bytes
    if needed_bytes > memory.available_bytes:
        room = f"{size(memory.available_bytes)} are {memory.limited_by}"
        raise RequestError(
            f"too large for this host: the largest kernel of {shape.name} needs {size(needed_bytes)} of memory, "
            f"and {room}. Ask for a smaller model, fewer --rows or less --past"
        )
    return base_bytes + all_bytes <= memory.available_bytes / 2


def _arrays_bytes(shape: ModelShape, case: Case) -> int:
    """Inputs, results and what is in between; attention has an input for each layer, because it writes over it."""
    inputs_bytes = 0
    if case.kernel == "attention":
        width = shape.n_groups * (shape.group_size + 2) * shape.head_dim
        inputs_bytes = layers_held(shape, case) * case.rows * width * VALUE_BYTES
    kind = KINDS.get(case.kernel, Kind.PROJ)
    return inputs_bytes + PhysicalCosts(shape).workspace_bytes(kind, shape.n_groups, case.rows, case.past)


def _expected_s(shape: ModelShape, cases: Sequence[Case], probe: HostProbe) -> float:
    """Processor time that it will take. Raises RequestError if that is too much."""
    will_s = expected_s(shape, cases, probe.speed, probe.read.median_s)
    if will_s > LONGEST_S:
        raise RequestError(
            f"this would take about {will_s / 60:.0f} minutes of processor time, and at most {LONGEST_S / 60:.0f} are "
            "allowed: ask for fewer --rows or less --past"
        )
    return will_s


def _host_document(threads: int, probe: HostProbe) -> dict[str, Any]:
    speed = probe.speed
    return {
        "threads": threads,
        "clock": "processor time" if threads == 1 else "wall-clock time",
        "flops_per_s": speed.gflops * 1e9,
        "mem_bytes_per_s": speed.mem_bytes_per_s,
        "products": probe.product._asdict(),
        "reads": probe.read._asdict(),
    }


def _kernel_document(shape: ModelShape, measured: Measured, host: HostSpeed) -> dict[str, Any]:
    case, work, time = measured.case, measured.counted, measured.time
    model = counted_by_costs(shape, case)
    compute = Compute(host.gflops * 1e9, host.mem_bytes_per_s, 0.0)
    roofline = work.roofline_s(host)
    return {
        "kernel": case.kernel,
        "rows": case.rows,
        "past": case.past,
        **time._asdict(),
        "spread": time.spread,
        "flops": work.flops,
        "bytes": work.bytes_moved,
        "flops_per_s": work.flops / time.median_s,
        "bytes_per_s": work.bytes_moved / time.median_s,
        "flops_per_byte": work.intensity,
        "roofline_s": roofline,
        "roofline_share": roofline / time.median_s,
        "bound": "arithmetic" if work.flops * host.mem_bytes_per_s > work.bytes_moved * host.gflops * 1e9 else "memory",
        "cost_model": model
        and {"flops": model.flops, "bytes": model.bytes_read, "roofline_s": roofline_s(compute, model)},
    }
