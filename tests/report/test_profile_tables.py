"""Tables and picture of a profile: narrow enough for a terminal of 80 columns, and drawn as the suffix says."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from edgeemu.report.profile_tables import host_lines, host_tables, kernel_tables
from edgeemu.report.roofline_figure import draw_roofline

TIME = {"median_s": 1.234e-4, "low_s": 1.2e-4, "high_s": 1.3e-4, "samples": 30, "outliers": 12, "spread": 0.0123}


def kernel(name: str, rows: int, past: int, threads: int = 1) -> dict[str, Any]:
    return {
        **TIME,
        "kernel": name,
        "rows": rows,
        "past": past,
        "precision": "f32",
        "threads": threads,
        "flops": 5e6 * rows,
        "bytes": 1e7,
        "flops_per_s": 4e10,
        "bytes_per_s": 8.1e10,
        "flops_per_byte": rows / 2,
        "roofline_s": 1e-4,
        "roofline_share": 0.81,
        "bound": "memory",
        "cost_model": {"flops": 5e6 * rows, "bytes": 1e7, "roofline_s": 3.5e-8},
    }


KERNELS = {
    "model": "smollm2-135m-instruct",
    "layers": 30,
    "hosts": [
        {"threads": 1, "clock": "processor time", "flops_per_s": 1.3e11, "mem_bytes_per_s": 4.2e10},
        {"threads": 2, "clock": "wall-clock time", "flops_per_s": 2.6e11, "mem_bytes_per_s": 6e10},
    ],
    "kernels": [
        kernel("lm_head", 1, 0),
        kernel("attention", 512, 4096),
        kernel("attention", 1, 0),
        kernel("ffn", 1, 0, threads=2),
    ],
}
HOST = {
    "matrix_product": {"flops_per_s": 1.3e11, **TIME},
    "memory_read": {"bytes_per_s": 4.2e10, "array_bytes": 2**28, **TIME},
    "caches": [{"level": 1, "size_bytes": 48 * 1024, "shared_by": "0"}],
    "reads": [{"working_set_bytes": size, "bytes_per_s": 1e11, **TIME} for size in (2**15, 2**16)],
    "timers": {"used": "no real-time priority", "realtime": False, "late_p50_s": 2e-5, "late_p99_s": 3e-5},
    "messages": [{"message_bytes": 1024, **TIME}],
    "blas": {
        "name": "openblas",
        "version": "0.3",
        "kernels": "Haswell",
        "chosen_by": ["OPENBLAS_CORETYPE"],
        "held_down": "its kernels are old: unset OPENBLAS_CORETYPE",
        "flops_per_s": 1.3e11,
        "flops_per_s_without": 2.6e11,
    },
}


def test_tables_of_each_number_of_threads_fit_in_80_columns() -> None:
    tables = list(kernel_tables(KERNELS))
    assert [len(table.rows) for _, table in tables] == [3, 3, 1, 1]
    assert "2 threads, wall-clock time" in tables[2][0]
    for _, table in tables:
        lines = [[heading.lstrip(">") for heading in table.columns], *table.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        assert sum(widths) + 3 * len(widths) + 1 <= 80, widths
    times, limits = tables[0][1], tables[1][1]
    assert times.rows[0] == ["lm_head", "1", "", "123 us", "1.2 %", "12 of 30", "40", "81"]
    assert limits.rows[1] == ["attention", "512", "4096", "256", "81 %", "2560", "10", "35 ns", "3526 x"]


def test_the_host_is_told_with_what_holds_its_blas_down() -> None:
    speeds, reads = host_tables(HOST)
    assert speeds.rows[0][:2] == ["matrix product, float32", "130 GFLOPS"]
    assert [row[1] for row in reads.rows] == ["L1", "memory"]
    lines = list(host_lines(HOST))
    assert "OPENBLAS_CORETYPE set: without, a matrix product reaches 260 GFLOPS, 2.00 x" in lines
    assert "BLAS is slower than it could be: its kernels are old: unset OPENBLAS_CORETYPE" in lines
    free = {**HOST, "caches": [], "blas": {**HOST["blas"], "held_down": "", "flops_per_s_without": None}}  # type: ignore[dict-item]
    fewer = list(host_lines(free))
    assert fewer[0] == "caches for data: unknown"
    assert len(fewer) == len(lines) - 2


def test_the_roofline_is_drawn_as_png_and_svg_with_units_and_every_kernel(tmp_path: Path) -> None:
    files = [tmp_path / "r.png", tmp_path / "r.svg"]
    draw_roofline(KERNELS, files)
    assert files[0].read_bytes().startswith(b"\x89PNG")
    text = files[1].read_text()
    ElementTree.fromstring(text)
    for words in ("arithmetic intensity (FLOP/byte)", "speed (GFLOP/s)", "attention, past 4096", "lm_head"):
        assert f">{words}<" in text, words
    for threads in ("one thread", "2 threads"):
        assert f">{KERNELS['model']}, f32, {threads}<" in text, "each has a panel"
