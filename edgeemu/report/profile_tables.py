"""Tables of `edgeemu profile kernels` and `profile host`, from their documents. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from edgeemu.report.formats import Table, percent_text, size
from edgeemu.units import BYTE_RATE, DURATION, FLOP_RATE


def kernel_tables(document: Mapping[str, Any]) -> Iterator[tuple[str, Table]]:
    """Make two tables for each number of threads and each precision, with titles: times and rates, then limits."""
    for host in document["hosts"]:
        mine = [each for each in document["kernels"] if each["threads"] == host["threads"]]
        speed = f"{_rate(host['flops_per_s'])} GFLOP/s, {_rate(host['mem_bytes_per_s'])} GB/s"
        threads = "one thread" if host["threads"] == 1 else f"{host['threads']} threads"
        roof = f"roof: share of this host's roofline ({speed}). What the cost model counts; its time on that roofline"
        for precision in dict.fromkeys(each["precision"] for each in mine):
            kernels = [each for each in mine if each["precision"] == precision]
            yield f"{document['model']}, {precision}, {threads}, {host['clock']}:", _times(kernels)
            yield f"{roof} (model); measured / model (ratio):", _limits(kernels)


def _times(kernels: list[Mapping[str, Any]]) -> Table:
    columns = ("kernel", ">rows", ">past", ">median", ">spread", ">outliers", ">GFLOP/s", ">GB/s")
    rows = [
        [
            *_case(each),
            DURATION.format_human(each["median_s"]),
            percent_text(each["spread"], 1),
            f"{each['outliers']} of {each['samples']}",
            _rate(each["flops_per_s"]),
            _rate(each["bytes_per_s"]),
        ]
        for each in kernels
    ]
    return Table(columns, rows, ("outliers", "spread"))


def _limits(kernels: list[Mapping[str, Any]]) -> Table:
    columns = ("kernel", ">rows", ">past", ">FLOP/B", ">roof", ">MFLOP", ">MB", ">model", ">ratio")
    rows = [
        [
            *_case(each),
            _number(each["flops_per_byte"]),
            percent_text(each["roofline_share"]),
            *_counted(each),
        ]
        for each in kernels
    ]
    return Table(columns, rows)


def _counted(kernel: Mapping[str, Any]) -> list[str]:
    """Work that the cost model counts, its time, and how many times as long the kernel takes."""
    model = kernel["cost_model"]
    if model is None:
        return ["–"] * 4
    return [
        _number(model["flops"] / 1e6),
        _number(model["bytes"] / 1e6),
        DURATION.format_human(model["roofline_s"]),
        f"{_number(kernel['median_s'] / model['roofline_s'])} x",
    ]


def _case(kernel: Mapping[str, Any]) -> list[str]:
    past = str(kernel["past"]) if kernel["kernel"] == "attention" else ""
    rows = "" if kernel["kernel"] == "decode" else str(kernel["rows"])
    return [kernel["kernel"], rows, past]


def _rate(per_s: float) -> str:
    return _number(per_s / 1e9)


def _number(value: float) -> str:
    if value < 1:
        return f"{value:.3f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def host_tables(document: Mapping[str, Any]) -> Iterator[Table]:
    """Make the tables of a profile of the host: speeds, caches, reads of working sets, messages."""
    product, read, timers = document["matrix_product"], document["memory_read"], document["timers"]
    late = " and ".join(f"{1e6 * timers[key]:.0f} us" for key in ("late_p50_s", "late_p99_s"))
    yield Table(
        ("one core", ">measured", ">spread", ">outliers"),
        [
            ["matrix product, float32", FLOP_RATE.format_human(product["flops_per_s"]), *_sampled(product)],
            [f"reading {size(read['array_bytes'])}", BYTE_RATE.format_human(read["bytes_per_s"]), *_sampled(read)],
            *(
                [f"message of {size(each['message_bytes'])}", DURATION.format_human(each["median_s"]), *_sampled(each)]
                for each in document["messages"]
            ),
            ["a sleep is late, p50 and p99", late, "", ""],
        ],
    )
    caches = {each["size_bytes"]: f"L{each['level']}" for each in document["caches"]}
    rows = []
    for each in document["reads"]:
        fits = [name for size_bytes, name in sorted(caches.items()) if each["working_set_bytes"] <= size_bytes]
        held = fits[0] if fits else "memory"
        rows.append(
            [size(each["working_set_bytes"]), held, BYTE_RATE.format_human(each["bytes_per_s"]), *_sampled(each)]
        )
    yield Table((">working set", "fits in", ">read", ">spread", ">outliers"), rows)


def _sampled(time: Mapping[str, Any]) -> list[str]:
    return [percent_text(time["spread"], 1), f"{time['outliers']} of {time['samples']}"]


def host_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Make the sentences below the tables: caches, BLAS and what holds it down, waiting."""
    caches = [f"L{each['level']} {size(each['size_bytes'])} (core {each['shared_by']})" for each in document["caches"]]
    yield f"caches for data: {', '.join(caches) or 'unknown'}"
    blas = document["blas"]
    kernels = f", kernels for {blas['kernels']}" if blas["kernels"] else ""
    yield f"BLAS: {blas['name']} {blas['version']}{kernels}"
    if blas["flops_per_s_without"] is not None:
        names = " and ".join(blas["chosen_by"])
        faster = blas["flops_per_s_without"] / blas["flops_per_s"]
        yield (
            f"{names} set: without, a matrix product reaches {FLOP_RATE.format_human(blas['flops_per_s_without'])}, "
            f"{faster:.2f} x"
        )
    if blas["held_down"]:
        yield f"BLAS is slower than it could be: {blas['held_down']}"
    yield f"waiting: {document['timers']['used']}"
