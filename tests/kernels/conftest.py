"""SmolLM2's weights, loaded once for all kernel tests."""

from pathlib import Path

import pytest
from support.loaded import Loaded

from edgeemu_kernels.weights.open_model import Model, open_gguf

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture(scope="session")
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf: Path) -> Model:
    return open_gguf(smollm2_gguf)


@pytest.fixture(scope="session")
def smollm2_weights(smollm2: Model) -> Loaded:
    """All blocks, half a gigabyte: never copy them."""
    return Loaded(smollm2.open_source())
