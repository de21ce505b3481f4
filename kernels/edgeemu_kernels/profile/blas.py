"""The BLAS that NumPy has loaded: its kernels, its threads, and what holds it down. Knows names; measures nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

# Instructions of OpenBLAS's x86 kernels, by the name of the core that they are for (its `driver/others/dynamic.c`).
_SSE = (
    "Prescott Core2 Penryn Dunnington Atom Athlon Opteron Opteron_SSE3 Barcelona Bobcat Nano Nehalem Katmai Coppermine"
)
INSTRUCTIONS = {
    **dict.fromkeys(_SSE.lower().split(), 0),
    **dict.fromkeys(("sandybridge", "bulldozer", "piledriver", "steamroller"), 1),
    **dict.fromkeys(("haswell", "zen", "excavator"), 2),
    **dict.fromkeys(("skylakex", "cooperlake", "sapphirerapids"), 3),
}
LEVELS = (("SSE", ""), ("AVX", "avx"), ("AVX2", "avx2"), ("AVX-512", "avx512f"))  # with the processor's flag for it

# Variables that choose kernels, or their sizes.
CHOOSING = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DEBUG_CPU_TYPE",
    "BLIS_ARCH_TYPE",
    "NPY_DISABLE_CPU_FEATURES",
)


class Blas(NamedTuple):
    """Library of matrix products. `kernels`: the core that its kernels are made for; "" where it does not say."""

    name: str
    version: str
    kernels: str
    threads: int

    def __str__(self) -> str:
        return f"{self.name} {self.version}" + (f", kernels for {self.kernels}" if self.kernels else "")


def loaded_blas() -> Blas:
    """BLAS of NumPy, which this loads."""
    import numpy as np
    from threadpoolctl import threadpool_info

    found = [each for each in threadpool_info() if each["user_api"] == "blas"]
    found.sort(key=lambda each: "numpy" not in each["filepath"])  # SciPy may have loaded another
    if not found:  # a library that threadpoolctl does not know: Apple's Accelerate, NumPy's own
        built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return Blas(built["name"], built["version"], "", 1)
    first = found[0]
    return Blas(first["internal_api"], first["version"] or "", first.get("architecture") or "", first["num_threads"])


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Features of the first processor, as proc(5) names them on x86; elsewhere none."""
    for line in cpuinfo.read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def choosing(environment: Mapping[str, str]) -> list[str]:
    """Variables of the environment that choose kernels of a BLAS."""
    return [name for name in CHOOSING if name in environment]


def unused_instructions(blas: Blas, flags: Collection[str]) -> str:
    """Vector instructions that the processor has and the kernels in use do not use: `AVX-512`; "" if none."""
    used = INSTRUCTIONS.get(blas.kernels.lower())
    if used is None:
        return ""
    has = max(level for level, (_, flag) in enumerate(LEVELS) if not flag or flag in flags)
    return LEVELS[has][0] if has > used else ""


def held_down(blas: Blas, flags: Collection[str], environment: Mapping[str, str]) -> str:
    """Return why the BLAS is slower than it could be, and what to do; "" if nothing is known to hold it down."""
    unused = unused_instructions(blas, flags)
    if not unused:
        return ""
    what = f"its kernels for {blas.kernels} do not use {unused}, which this processor has"
    if names := choosing(environment):
        return f"{what}: unset {' '.join(names)}"
    return f"{what}: install a newer NumPy, or one with another BLAS"
