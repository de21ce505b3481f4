"""Records are their user's alone unless asked otherwise, whatever the umask, and are written through no link."""

import os
from pathlib import Path

import pytest
import uvloop

from edgeemu.report.new_file import new_file
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
model:
  shape: {n_layers: 1, d_model: 8, n_heads: 2, n_kv_heads: 2, head_dim: 4, d_ff: 8, vocab_size: 9, max_context: 64}
devices: [{name: a, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 8 MiB}]
policy: single
workload: {prompts: [{tokens: 2}], max_tokens: 2}
"""


@pytest.mark.parametrize(
    ("umask", "share", "directory_mode", "file_mode"),
    [(0o000, False, 0o700, 0o600), (0o022, False, 0o700, 0o600), (0o027, True, 0o750, 0o640)],
)
def test_who_can_read_records(tmp_path: Path, umask: int, share: bool, directory_mode: int, file_mode: int) -> None:
    os.umask(umask)
    scenario = parse_scenario(SCENARIO, "private")
    running = run_scenario(scenario, policy=None, out=tmp_path, observer=Silent(), simulate=True, share=share)
    directory = uvloop.run(running).directory
    assert directory.stat().st_mode & 0o777 == directory_mode
    files = list(directory.iterdir())
    assert len(files) == 15
    assert {file.stat().st_mode & 0o777 for file in files} == {file_mode}


@pytest.mark.parametrize("text", [True, False])
def test_a_link_in_the_place_of_a_new_file_is_not_followed(tmp_path: Path, text: bool) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("theirs")
    link.symlink_to(target)
    with new_file(link, text=text) as file:
        file.write("é" if text else b"\xc3\xa9")
    assert target.read_text() == "theirs"
    assert link.read_text("utf-8") == "é"
    assert not link.is_symlink()
