"""Fixtures of kernel tests: files with models."""

from pathlib import Path

import pytest

from edgeemu_kernels.weights.open_model import Model, open_gguf

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture(scope="session")
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf: Path) -> Model:
    return open_gguf(smollm2_gguf)
