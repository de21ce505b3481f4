"""The critical path of a token is the chain that it waited for, and its parts add up to the token's latency."""

import numpy as np
import pytest
from support.moving import simulated
from support.several import make

from edgeemu.report.critical.critical_path import NONE, CriticalPaths, TimePart, critical_paths
from edgeemu.report.rows import DecisionRow, LinkRow, MigrationRow, OperationRow, TokenRow
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.scenario.load import parse_scenario

MICROSECOND = 1e-6


def op(
    device: str,
    block: str,
    number: int,
    last: int,
    times: tuple[float, float, float],
    last_bytes: int = 0,
    step: int = 0,
) -> OperationRow:
    return OperationRow(
        *(device, 0, step, 0, block, 0, 2, 0, number, last, last_bytes, 1e6, 1e6), *times, 0.0, 0.0, overrun=False
    )


def by_hand() -> RowsInMemory:
    """One token on two devices: a embeds and has a head, b has the other head, and all the rest.

    The head of b starts late, because b computes something else. Its feed-forward waits for the head of a, whose
    message of 100 bytes takes 1 s at the path's bandwidth, 0.25 s at its delay, and 0.5 s in a queue.
    """
    records = RowsInMemory()
    records.append("tokens", [TokenRow(0, 0, 1, "x", 1.5, 14.0, 14.0, 0.0, 0.0)])
    records.append(
        "ops",
        [
            op("a", "embed", 0, -1, (1.5, 1.5, 2.5)),
            op("a", "head", 1, 0, (2.5, 3.0, 6.0)),
            op("b", "head", 2, 0, (3.75, 4.0, 5.0), 100),
            op("b", "ffn", 3, 1, (7.75, 7.75, 10.0), 100),
            op("b", "lm_head", 4, 3, (10.0, 10.0, 14.0)),
        ],
    )
    records.append("links", [LinkRow("a", "b", 0, 0, 2, 200, 4.5, 1.0, 2.0, 0.5, None)])
    records.append("decisions", [DecisionRow(0, 0, "decided", 0.1, 0.25, "")])
    records.append("migrations", [MigrationRow(0, 0, 2, "ffn(0)", "a", "b", 7, 0.0, 1.0, 0.5, "committed")])
    return records


def named(paths: CriticalPaths) -> list[tuple[str, str, str, float, float]]:
    """Parts from the first to the last: what, on which device or path, of which block, when, how long."""
    devices, blocks = [*paths.devices, ""], [*paths.blocks, ""]
    rows = zip(paths.part, paths.device, paths.target, paths.block, paths.begin_s, paths.spent_s, strict=True)
    return [
        (
            TimePart(part).name,
            devices[device] + (f"-{devices[target]}" if target != NONE else ""),
            blocks[block],
            at_s,
            s,
        )
        for part, device, target, block, at_s, s in reversed(list(rows))
    ]


def test_a_path_by_hand() -> None:
    assert named(critical_paths(by_hand())) == [
        ("CONTROLLER", "", "", 0.0, 0.25),
        ("MIGRATION", "", "", 0.25, 0.5),
        ("ADMISSION", "", "", 0.75, 0.75),
        ("COMPUTE", "a", "embed", 1.5, 1.0),
        ("DEVICE_QUEUE", "a", "head", 2.5, 0.5),
        ("COMPUTE", "a", "head", 3.0, 3.0),
        ("LINK_QUEUE", "a-b", "head", 6.0, 0.5),
        ("TRANSMISSION", "a-b", "head", 6.5, 1.0),
        ("LATENCY", "a-b", "head", 7.5, 0.25),
        ("COMPUTE", "b", "ffn", 7.75, 2.25),
        ("COMPUTE", "b", "lm_head", 10.0, 4.0),
    ]


def test_what_is_not_recorded_is_said_to_be_unknown() -> None:
    records = by_hand()
    records.rows["ops"] = [row for row in records.rows["ops"] if row.block != "head"]
    paths = critical_paths(records)
    assert named(paths)[3] == ("UNKNOWN", "", "", 1.5, 6.25)
    assert paths.spent_s.sum() == pytest.approx(14.0)
    records.rows["ops"].clear()
    assert named(critical_paths(records))[-1] == ("UNKNOWN", "", "", 1.5, 12.5)
    records.rows["tokens"].clear()
    assert not len(critical_paths(records).part)


MOVING = """
seed: 3
model:
  shape: {n_layers: 4, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 128, vocab_size: 200, max_context: 64}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB, message_overhead: 0.2 ms, byte_overhead: 1 ns}
  - {name: b, count: 3, gflops: 1 GFLOPS, mem_bandwidth: 0.08 GB/s, memory: 8 MiB, message_overhead: 0.1 ms}
network:
  default: {bandwidth: 20 Mbit/s, delay: 0.3 ms, jitter: 0.1 ms, loss: 1 %}
events: [{at_token: 5, device: a, speed: 0.2}]
policy: lookahead
decisions: {interval: 2, time: 1 ms}
workload: {prompts: [{tokens: 7, repeat: 3}, {tokens: 5}], max_tokens: 14, concurrency: 2}
"""
CASES = {
    "chain": ("policy=layers", "workload.concurrency=1"),
    "scattered heads with queueing": ("policy=round-robin", "network.topology=line"),
    "shards in a ring": ("policy=galaxy",),
    "shards in a star": ("policy=galaxy", "sharding.collectives=star"),
    "several sequences with a migration": ("workload.concurrency=4",),
    "gathered": ("policy=distributed-llama-0.1", "engine=distributed-llama-0.1"),
}


def planned(*changes: str) -> Plan:
    return make_plan(parse_scenario(MOVING, "moving", changes))


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_parts_add_up_to_the_latency_of_every_token(changes: tuple[str, ...]) -> None:
    controller = simulated(planned(*changes))
    paths = critical_paths(controller.recorded)
    assert len(paths.step) == len(controller.tokens) > 20
    sums = np.bincount(paths.token, paths.spent_s, len(paths.step))
    np.testing.assert_allclose(sums, paths.latency_s, rtol=0, atol=1e-3 * MICROSECOND)
    assert paths.spent_s.min() > -1e-3 * MICROSECOND, "no part ends before it begins"
    assert TimePart.UNKNOWN not in paths.part
    assert {TimePart.COMPUTE, TimePart.TRANSMISSION, TimePart.LATENCY, TimePart.MESSAGE_OVERHEAD} <= set(
        paths.part.tolist()
    )
    if controller.migrations and "several" in str(changes):
        assert TimePart.MIGRATION in paths.part


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_each_part_begins_where_the_one_before_it_ended(changes: tuple[str, ...]) -> None:
    paths = critical_paths(simulated(planned(*changes)).recorded)
    for token in range(0, len(paths.step), 5):
        mine = np.flatnonzero(paths.token == token)[::-1]
        ends = paths.begin_s[mine] + paths.spent_s[mine]
        np.testing.assert_allclose(paths.begin_s[mine][1:], ends[:-1], rtol=0, atol=1e-3 * MICROSECOND)
        assert ends[-1] == pytest.approx(paths.sampled_s[token], abs=1e-3 * MICROSECOND)


def test_a_sequence_that_waits_for_a_slot_says_so() -> None:
    paths = critical_paths(
        simulated(make("workload.concurrency=2", "workload.arrivals={poisson: {rate: 1000 per second}}")).recorded
    )
    assert (paths.part == TimePart.ADMISSION).any()
