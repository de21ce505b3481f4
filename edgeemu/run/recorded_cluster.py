"""The cluster of a run, from the scenario that it left."""

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.draw.cluster import draw
from edgeemu.errors import EdgeemuError
from edgeemu.report.run_directory import RunDirectory
from edgeemu.scenario.load import load_scenario


def recorded_cluster(run: RunDirectory) -> Cluster | None:
    """Return the cluster of a run; None where its scenario cannot be read any more."""
    try:
        return draw(load_scenario(run.path / "scenario.yaml"))
    except EdgeemuError:
        return None
