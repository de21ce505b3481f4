"""Rows of a step, made at once of columns and one by one of records: the same."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.builders import GPT2, even_cluster, scattered

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Link
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement
from edgeemu.report.record_files import RecordWriter, read_table
from edgeemu.report.rows import Row, TableName
from edgeemu.report.usage_rows import ACCOUNTS, StepRows
from edgeemu.timeline.operation_sizes import OperationSizes
from edgeemu.timeline.steps import Step, roofline_durations
from edgeemu.timeline.virtual import VirtualTimeline

N = 3
COMPUTE = Compute(1e8, 1e8, 1e-4)


def timeline(cluster: Cluster, placement: Placement, sequences: int) -> tuple[VirtualTimeline, list[Step]]:
    """Prompts of some sequences at once, and their steps in the order of their tokens."""
    costs = PhysicalCosts(GPT2)
    made = VirtualTimeline(cluster, costs, roofline_durations([COMPUTE] * N, costs))
    program = compile_routes(placement, GPT2)
    for sequence in range(sequences):
        made.start(Step(sequence, 0, 4 + sequence, 0), program, 0.0)
    return made, [token.step for _ in range(sequences) if (token := made.sampled()) is not None]


def some_cluster(link: Link, *, power: bool) -> Cluster:
    """Equal devices, of which the first has no power unless all have."""
    cluster = even_cluster(N, link, compute=COMPUTE)
    devices = tuple(
        replace(device, idle_w=1.0, busy_w=1.5 + 0.1 * device.index) if power or device.index else device
        for device in cluster.devices
    )
    return Cluster(cluster.name, cluster.seed, devices, cluster.topology)


PRICED = Link(1e6, 1e-3, send_j_per_bit=1e-8, receive_j_per_bit=2e-8)


@pytest.mark.parametrize("link", [Link(1e6, 1e-3), PRICED, Link(1e5, 2e-3, jitter_s=1e-3)], ids=str)
@pytest.mark.parametrize("sequences", [1, 2])
@pytest.mark.parametrize("power", [True, False])
def test_columns_give_the_rows_that_records_give(link: Link, sequences: int, power: bool, tmp_path: Path) -> None:
    cluster, chance = some_cluster(link, power=power), random.Random(7)
    made, steps = timeline(cluster, scattered(GPT2, N, 3), sequences)
    held = np.array([[chance.randrange(10**9) for _ in range(N)] for _ in ACCOUNTS])
    peaks = held.sum(0)
    columns, rows = StepRows(), StepRows()
    for number, step in enumerate(steps):
        executed, traffic = made.executions(step), made.traffic(step)
        sizes = OperationSizes(executed.about, PhysicalCosts(GPT2))
        columns.add_executed(cluster, executed, sizes, held, peaks)
        columns.add_traffic(cluster, step[:2], traffic, float(number))
        records = list(executed)
        rows.add_operations(cluster, records, sizes)
        for device in dict.fromkeys(record.op.device for record in records):
            accounts = dict(zip(ACCOUNTS, held[:, device].tolist(), strict=True))
            mine = [record for record in records if record.op.device == device]
            rows.add_device(cluster, mine, accounts, peak_bytes=int(peaks[device]), reordered=0)
        rows.add_links(cluster, step[:2], list(traffic), float(number))
    one_by_one: dict[TableName, Sequence[Row]] = {"ops": rows.ops, "devices": rows.devices, "links": rows.links}
    for name, expected in one_by_one.items():
        assert [row for table, each in columns.columns if table == name for row in each] == expected
        assert expected
    stored = []
    for at, batches in ((tmp_path / "a", columns.columns), (tmp_path / "b", list(one_by_one.items()))):
        at.mkdir()
        with RecordWriter(at) as writer:
            for table, each in batches:
                writer.append(table, each)
        stored.append({name: read_table(at, name).to_pylist() for name in one_by_one})
    assert stored[0] == stored[1]
