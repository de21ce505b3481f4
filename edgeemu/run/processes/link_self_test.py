"""The links' self-test on the devices of a run, through the very connections of the run. The shell of `link_tests`."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count

from edgeemu.cluster.cluster import Cluster
from edgeemu.device import protocol_in, protocol_out
from edgeemu.links.interface import Peer, ProbeRecord
from edgeemu.links.self_test import SMALL_BYTES, SMALL_MESSAGES, Burst, LinkTest, bulk, distinct_ways, measured
from edgeemu.run.processes.session import Session


async def test_links(
    session: Session,
    cluster: Cluster,
    ways: Iterable[tuple[int, int]],
    payload_bytes: int,
    dilation: float,
    peer: Callable[[int, int], Peer],
    on_progress: Callable[[int, int], None],
    *,
    real_packets: bool,
) -> list[LinkTest]:
    """Measures one way of each kind, one after the other. The devices' timeline must run.

    `payload_bytes` is of the run's own messages; `peer` is what a device has to know of another.
    """
    numbers = count(1)

    async def send(source: int, target: int, burst: Burst) -> Sequence[ProbeRecord]:
        number = next(numbers)
        await session.tell(source, protocol_in.Probe(number, *burst, peer(source, target)))
        while True:
            probed = await session.receive(protocol_out.Probed)
            if probed.number == number:
                return probed.records

    async def one_by_one(source: int, target: int, size_bytes: int) -> list[ProbeRecord]:
        return [(await send(source, target, Burst(1, size_bytes)))[0] for _ in range(SMALL_MESSAGES)]

    tests = []
    chosen = distinct_ways(cluster, ways)
    for done, ((source, target), stands_for) in enumerate(chosen):
        on_progress(done, len(chosen))
        there, back = cluster.path(source, target), cluster.path(target, source)
        small = await one_by_one(source, target, SMALL_BYTES)
        stream = await send(source, target, bulk(there, dilation))
        own_there = await one_by_one(source, target, payload_bytes)
        own_back = await one_by_one(target, source, payload_bytes)
        names = cluster.devices[source].name, cluster.devices[target].name
        tests.append(
            measured(
                names,
                stands_for,
                there,
                back,
                own_there[0].size_bytes,
                real_packets=real_packets,
                small=small,
                stream=stream,
                own_there=own_there,
                own_back=own_back,
            )
        )
    on_progress(len(chosen), len(chosen))
    return tests
