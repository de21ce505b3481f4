"""Pictures of one run by topic, in the order of a page."""

from collections.abc import Mapping
from enum import Enum

from edgeemu.cluster.cluster import Cluster
from edgeemu.report.drawn.devices import (
    conditions_drawing,
    memory_drawing,
    occupation_drawing,
    one_token_drawing,
)
from edgeemu.report.drawn.latency import breakdown_drawing, latency_drawing, time_parts_drawing
from edgeemu.report.drawn.links import link_drawing
from edgeemu.report.drawn.placement import placement_drawing
from edgeemu.report.drawn.run_data import RunData
from edgeemu.report.drawn.sheet import Drawing
from edgeemu.report.drawn.topology import topology_drawing


class Topic(Enum):
    """Part of a page that pictures belong to."""

    LATENCY = "latency"
    TIME = "time"
    DEVICES = "devices"
    MEMORY = "memory"
    PLACEMENT = "placement"
    LINKS = "links"


def run_drawings(data: RunData, cluster: Cluster | None) -> Mapping[Topic, list[Drawing]]:
    """Choose the pictures of a run that there is something to see on; `cluster` is None where it is not known."""
    found = {
        Topic.LATENCY: [latency_drawing(data)],
        Topic.TIME: [breakdown_drawing(data), time_parts_drawing(data), one_token_drawing(data)],
        Topic.DEVICES: [occupation_drawing(data), conditions_drawing(data)],
        Topic.MEMORY: [memory_drawing(data)],
        Topic.PLACEMENT: [placement_drawing(data)],
        Topic.LINKS: [link_drawing(data), None if cluster is None else topology_drawing(cluster, data.colours)],
    }
    return {topic: [drawing for drawing in drawings if drawing is not None] for topic, drawings in found.items()}
