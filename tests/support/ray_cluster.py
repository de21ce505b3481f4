"""A Ray cluster of three nodes on this machine, in a process of its own: what Ray keeps in a process ends with it.

As a program: prints the cluster's address, takes a node away for each line of its input, and ends with that.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NODE = {"num_cpus": 1, "memory": 2**31, "object_store_memory": 80 * 2**20}
SOON_LOST = {  # a node that is killed is noticed in some seconds, and not in half a minute
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


class RayCluster:
    """Cluster for a test: its address, and nodes that can be killed."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.address = self._said()
        assert self.address, "there is no cluster"

    def kill_node(self) -> None:
        """Kill a node and all that runs on it."""
        assert self._process.stdin is not None
        self._process.stdin.write("kill\n")
        self._process.stdin.flush()
        assert self._said() == "killed"

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def ray_cluster(directory: Path) -> Iterator[RayCluster]:
    """Start a cluster, whose files are in the directory, which needs a short name; end it with the block."""
    environment = {**os.environ, **SOON_LOST, "RAY_USAGE_STATS_ENABLED": "0", "TMPDIR": str(directory)}
    command = [sys.executable, __file__, str(directory)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        try:
            yield RayCluster(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=60)


def main(directory: str) -> None:
    from ray.cluster_utils import Cluster

    head = {**NODE, "include_dashboard": False, "temp_dir": f"{directory}/ray"}  # where Ray has it by TMPDIR
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(**NODE) for _ in range(2)]
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
