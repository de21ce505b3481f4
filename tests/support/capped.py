"""Runs of the command line with capped memory, in processes of their own."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeemu.host import cgroups, scratch
from edgeemu.host.owner import Owner
from support.misbehaving import mislead
from support.warm_commands import start_edgeemu


def group_version() -> int | None:
    """Version of the memory groups that can be made here. EDGEEMU_EXPECT_CGROUP says which there must be."""
    directory = scratch.create(os.getpid())
    try:
        version: int | None = cgroups.make_run_group(directory, Owner.of(os.getpid())).version
    except cgroups.NoGroupError:
        version = None
    finally:
        cgroups.remove_recorded(directory)
        scratch.remove(directory)
    expected = os.environ.get("EDGEEMU_EXPECT_CGROUP")
    assert expected in (None, f"v{version}")
    return version


VERSION = group_version()
needs_groups = pytest.mark.skipif(VERSION is None, reason="no memory cgroup can be made here")
MEANS = [pytest.param("cgroup", marks=needs_groups), "rlimit"]


@contextlib.contextmanager
def run_directory() -> Iterator[Path]:
    directory = scratch.create(os.getpid())
    try:
        yield directory
    finally:
        cgroups.remove_recorded(directory)
        scratch.remove(directory)


# Whole runs, as a user starts them

TIGHT = """
model:
  shape: {n_layers: 8, d_model: 256, n_heads: 8, n_kv_heads: 8, head_dim: 32, d_ff: 512, vocab_size: 2000,
    max_context: 999}
devices:
  - {name: a, gflops: 50 GFLOPS, mem_bandwidth: 20 GB/s, memory: 100 MiB}
  - {name: b, gflops: 50 GFLOPS, mem_bandwidth: 20 GB/s, memory: 100 MiB}
network:
  default: {bandwidth: 1 Gbit/s, delay: 1 ms}
policy: layers
workload:
  prompts: [{tokens: 40}]
  max_tokens: 20
time: {mode: virtual, dilation: 2}
"""


def start(tmp_path: Path, entry: str, means: str, *settings: str) -> subprocess.Popen[str]:
    file = tmp_path / "tight.yaml"
    file.write_text(TIGHT)
    options = [option for setting in settings for option in ("--set", setting)]
    return start_edgeemu(
        *("run", str(file), "--json", "--out", str(tmp_path / "runs"), *options),
        before=lambda: mislead(entry, means),
        warm_server=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    with process:
        out, err = process.communicate(timeout=60)
    assert out, err
    return process.returncode, json.loads(out)


def meta(tmp_path: Path) -> dict[str, Any]:
    (directory,) = (tmp_path / "runs").iterdir()
    found: dict[str, Any] = json.loads((directory / "meta.json").read_text())
    return found


def groups_of(pid: int) -> list[Path]:
    return [path for path, owner in cgroups.groups_of_all_runs() if owner.pid == pid]
