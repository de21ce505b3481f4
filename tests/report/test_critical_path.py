"""The critical path of a token is the chain that it waited for, and its parts add up to the token's latency."""

import numpy as np
import pytest
from support.critical import CASES, by_hand, run_of
from support.moving import simulated
from support.several import make

from edgeemu.report.critical.critical_path import NONE, CriticalPaths, TimePart, critical_paths
from edgeemu.report.critical.recorded_steps import read_tokens

MICROSECOND = 1e-6


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


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_parts_add_up_to_the_latency_of_every_token(changes: tuple[str, ...]) -> None:
    controller = run_of(*changes)
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
    records = run_of(*changes).recorded
    paths, sampled_s = critical_paths(records), read_tokens(records).sampled_s
    for token in range(0, len(paths.step), 5):
        mine = np.flatnonzero(paths.token == token)[::-1]
        ends = paths.begin_s[mine] + paths.spent_s[mine]
        np.testing.assert_allclose(paths.begin_s[mine][1:], ends[:-1], rtol=0, atol=1e-3 * MICROSECOND)
        assert ends[-1] == pytest.approx(sampled_s[token], abs=1e-3 * MICROSECOND)


def test_a_sequence_that_waits_for_a_slot_says_so() -> None:
    paths = critical_paths(
        simulated(make("workload.concurrency=2", "workload.arrivals={poisson: {rate: 1000 per second}}")).recorded
    )
    assert (paths.part == TimePart.ADMISSION).any()


@pytest.mark.parametrize(
    ("last_op", "unknown_s"),
    [({1: 3}, 1.0), ({3: 4, 4: 3}, 6.25), ({3: 3}, 6.25), ({4: 4}, 8.5), ({1: 10**6}, 1.0), ({4: 10**6}, 8.5)],
    ids=["a circle", "the last of all", "itself", "the last itself", "nothing", "the last nothing"],
)
def test_operations_of_damaged_records_that_wait_for_each_other_end(last_op: dict[int, int], unknown_s: float) -> None:
    """Keys of `last_op` are operations, which are said to have waited for its values."""
    records = by_hand()
    ops = records.rows["ops"]
    for number, waits_for in last_op.items():
        ops[number] = ops[number]._replace(last_op=waits_for)
    for step in (1, 2):  # whose operations are not those of the first
        records.append("tokens", [records.rows["tokens"][0]._replace(step=step)])
        records.append("ops", [row._replace(step=step) for row in by_hand().rows["ops"]])
    paths = critical_paths(records)
    sums = np.bincount(paths.token, paths.spent_s, 3)
    np.testing.assert_allclose(sums, paths.latency_s)
    damaged = paths.token == 0
    unknown = paths.part == TimePart.UNKNOWN
    assert paths.spent_s[damaged & unknown].tolist() == [unknown_s]
    assert paths.device[damaged & unknown].tolist() == [NONE]
    assert not unknown[~damaged].any()
