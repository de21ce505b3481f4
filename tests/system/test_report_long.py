"""A page of a long run is small, and made in little time: it has levels of detail."""

import time
from pathlib import Path

import pytest
import uvloop
from support.html_pages import read_page

from edgeemu.report.drawn.run_data import run_data
from edgeemu.report.html.page import write_page
from edgeemu.report.html.run_page import run_page
from edgeemu.report.run_directory import RunDirectory
from edgeemu.report.summary import summarise
from edgeemu.run.observer import Silent
from edgeemu.run.recorded_cluster import recorded_cluster
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

MAX_BYTES, MAX_CPU_S = 8_000_000, 20.0
TOKENS = 20_000
SCENARIO = """
model:
  shape:
    {n_layers: 2, d_model: 64, n_heads: 4, n_kv_heads: 4, head_dim: 16, d_ff: 128, vocab_size: 99, max_context: 30000}
devices:
  - {name: pi, count: 3, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 32 MiB}
network: {default: {bandwidth: 1 Gbit/s, delay: 20 us}}
policy: layers
workload: {prompts: [{tokens: 4}], max_tokens: 20000}
events: [{at_token: 9000, device: pi-1, speed: 0.4}]
"""


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_page_of_20000_tokens(tmp_path: Path) -> None:
    scenario = parse_scenario(SCENARIO)
    made = uvloop.run(run_scenario(scenario, policy=None, out=tmp_path, observer=Silent(), simulate=True))
    run = RunDirectory(made.directory)
    began_s = time.process_time()
    facts = run.read_facts()
    summary, data = summarise(run.records, facts), run_data(run.records, facts)
    write_page(tmp_path / "page.html", run_page(run.records, data, summary, recorded_cluster(run)))
    took_s = time.process_time() - began_s
    assert sum(map(len, summary["tokens"])) == TOKENS
    assert (tmp_path / "page.html").stat().st_size <= MAX_BYTES
    assert took_s <= MAX_CPU_S
    page = read_page(tmp_path / "page.html")
    assert "shortest to longest" in page.texts(0)  # of the tokens in a bin
    assert len(page.pictures) >= 16
