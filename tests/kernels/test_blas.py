"""Causes of a slow BLAS are told from its kernels, the processor's features and the environment."""

from pathlib import Path

import pytest

from edgeemu_kernels.profile.blas import Blas, choosing, cpu_flags, held_down, loaded_blas, unused_instructions

HASWELL = Blas("openblas", "0.3.31", "Haswell", 1)
NEW = frozenset({"sse2", "avx", "avx2", "avx512f"})
OLD = frozenset({"sse2", "avx", "avx2"})


@pytest.mark.parametrize(
    ("kernels", "flags", "unused"),
    [
        ("Haswell", NEW, "AVX-512"),
        ("Haswell", OLD, ""),
        ("Zen", NEW, "AVX-512"),
        ("SkylakeX", NEW, ""),
        ("Prescott", OLD, "AVX2"),
        ("Sandybridge", {"avx"}, ""),
        ("Prescott", frozenset(), ""),
        ("neoversen1", frozenset(), ""),  # not x86
        ("", NEW, ""),
    ],
)
def test_instructions_that_the_kernels_leave_unused(kernels: str, flags: frozenset[str], unused: str) -> None:
    assert unused_instructions(HASWELL._replace(kernels=kernels), flags) == unused


def test_the_variable_that_chose_the_kernels_is_to_be_unset() -> None:
    why = held_down(HASWELL, NEW, {"OPENBLAS_CORETYPE": "Haswell", "HOME": "/"})
    assert why == ("its kernels for Haswell do not use AVX-512, which this processor has: unset OPENBLAS_CORETYPE")
    assert "install a newer NumPy" in held_down(HASWELL, NEW, {"OPENBLAS_NUM_THREADS": "1"})
    assert held_down(HASWELL, OLD, {"OPENBLAS_CORETYPE": "Haswell"}) == ""
    assert choosing({"OPENBLAS_L2_SIZE": "512", "OPENBLAS_NUM_THREADS": "1"}) == ["OPENBLAS_L2_SIZE"]


def test_features_are_read_from_the_first_processor(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert cpu_flags(cpuinfo) == {"fpu", "avx2"}
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd\n")  # 64-bit Arm
    assert cpu_flags(cpuinfo) == frozenset()


def test_the_blas_of_numpy_is_found() -> None:
    blas = loaded_blas()
    assert blas.name
    assert blas.threads >= 1
    assert blas.version in str(blas)
