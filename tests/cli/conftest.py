"""Fixtures of command-line tests: a small scenario, and the command called in this process."""

from pathlib import Path

import pytest
from support.commands import Edgeemu

from edgeemu.cli import app

TINY = """
model:
  shape: {n_layers: 2, d_model: 32, n_heads: 4, n_kv_heads: 2, head_dim: 8, d_ff: 64, vocab_size: 99, max_context: 4096}
devices:
  - {name: pi, count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}
  - {name: nano, gflops: 20 GFLOPS, mem_bandwidth: 8 GB/s, memory: 64 MiB}
network:
  default: {bandwidth: 100 Mbit/s, delay: 2 ms}
policy: round-robin
workload:
  prompts: [{tokens: 8}, {tokens: 4}]
  max_tokens: 5
time: {mode: virtual, dilation: 2}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """A scenario that runs in a moment."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture
def edgeemu(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edgeemu:
    """Calls the command; exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            app.main(arguments)
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, *capsys.readouterr()

    return call
