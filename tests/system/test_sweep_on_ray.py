"""`edgeemu sweep --on ray`: the runs of this host, on a cluster of three nodes of which one is killed in the middle."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ray_cluster import RayCluster, ray_cluster
from support.swept import SCENARIO, of_the_run

COMMAND = [sys.executable, "-m", "edgeemu", "sweep", "small.yaml", "--simulate", "--set", "workload.max_tokens=60"]
RUNS_24 = (
    *("--vary", "network.default.bandwidth=1 Mbit/s,10 Mbit/s,100 Mbit/s", "--vary", "devices[0].count=1,2"),
    *("--seeds", "2", "--policies", "layers,round-robin"),
)


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    """A cluster in a directory with a short name: Unix-domain sockets are in it."""
    with (
        tempfile.TemporaryDirectory(prefix="r-", ignore_cleanup_errors=True) as short,
        ray_cluster(Path(short)) as started,
    ):
        yield started


@pytest.mark.long
@pytest.mark.timeout(400)  # three nodes begin, and each of their workers imports all
def test_a_sweep_on_three_nodes_loses_nothing_when_one_is_killed(cluster: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SCENARIO)
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    with subprocess.Popen(
        [*COMMAND, *RUNS_24, "--on", "ray", "--json"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for number in range(1, 6):
            assert process.stderr.readline().startswith(f"run {number} of 24: ")
        cluster.kill_node()
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert "run 24 of 24: " in err
    document = json.loads(out)
    assert [run["problem"] for run in document["runs"]] == [None] * 24
    assert len(list((tmp_path / "runs" / "swept").iterdir())) == 24

    two = ("--vary", "network.default.bandwidth=10 Mbit/s", "--vary", "devices[0].count=1,2", "--policies", "layers")
    here = subprocess.run(
        [*COMMAND, *two, "--json", "--out", "here"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    runs = json.loads(here.stdout)["runs"]
    assert len(runs) == 2
    for run in runs:
        other = tmp_path / "runs" / "swept" / Path(run["directory"]).name
        summaries = [json.loads((path / "summary.json").read_text()) for path in (tmp_path / run["directory"], other)]
        assert of_the_run(summaries[0]) == of_the_run(summaries[1])
        assert {path.name for path in other.iterdir()} == {
            path.name for path in (tmp_path / run["directory"]).iterdir()
        }
        assert other.stat().st_mode & 0o777 == 0o700
