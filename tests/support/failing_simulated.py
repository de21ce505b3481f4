"""Simulated runs on four small devices that fail by the scenario."""

import asyncio
from typing import NamedTuple

from edgeemu.placement.placement import Placement
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.run.controller import Controller
from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Silent
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario

TEXT = """
name: failing
seed: 3
model:
  shape:
    {n_layers: 4, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 64, vocab_size: 200, max_context: 64}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}
  - {name: b, count: 3, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 8 MiB}
network:
  default: {bandwidth: 10 Mbit/s, delay: 1 ms}
policy: layers
workload:
  prompts: [{tokens: 7}, {tokens: 3}, {tokens: 5}]
  max_tokens: 12
decisions: {time: 0 ms}
migration: {flash_bandwidth: 100 MB/s}
recovery: {heartbeat: {interval: 0.1 s}}
"""
ALL = 36  # tokens
DEVICES = ("a", "b-1", "b-2", "b-3")


class Ran(NamedTuple):
    """A run that has ended: its records, the placement at its end, and what was told."""

    records: RowsInMemory
    placement: Placement
    told: list[str]

    @property
    def end_s(self) -> float:
        return max(row.emulated_s for row in self.records.rows["tokens"])


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def moved(self, line: str) -> None:
        self.lines.append(line)


def ran(*changes: str) -> Ran:
    plan = make_plan(parse_scenario(TEXT, "failing", changes))
    records, told = RowsInMemory(), Told()
    controller = Controller(plan, SimulatedBackend(plan), told, records)
    asyncio.run(controller.run())
    return Ran(records, controller.migrator.placement, told.lines)
