"""Self-test of a run's links, on its devices and through its connections. The arithmetic is in `links.self_test`."""

from collections.abc import Callable, Sequence
from itertools import count

from edgeemu.device import protocol_in, protocol_out
from edgeemu.links.interface import ProbeRecord
from edgeemu.links.self_test import SMALL_BYTES, SMALL_MESSAGES, Burst, LinkTest, bulk, distinct_pairs, measured
from edgeemu.run.processes.installed_program import InstalledProgram
from edgeemu.run.processes.session import Session


class _Prober:
    """Has devices send each other test messages."""

    def __init__(self, session: Session, installed: InstalledProgram) -> None:
        self._session = session
        self._installed = installed
        self._numbers = count(1)

    async def burst(self, source: int, target: int, burst: Burst) -> Sequence[ProbeRecord]:
        """Send messages one after the other, and wait for all of them."""
        number, peer = next(self._numbers), self._installed.peer(source, target)
        await self._session.send(source, protocol_in.Probe(number, (burst.payload_bytes,) * burst.messages, peer))
        while True:
            probed = await self._session.receive(protocol_out.Probed)
            if probed.number == number:
                return probed.records

    async def one_by_one(self, source: int, target: int, size_bytes: int) -> list[ProbeRecord]:
        """Send small bursts of one message, each when the one before has arrived."""
        return [(await self.burst(source, target, Burst(1, size_bytes)))[0] for _ in range(SMALL_MESSAGES)]


async def test_links(
    session: Session,
    installed: InstalledProgram,
    payload_bytes: int,
    dilation: float,
    on_progress: Callable[[int, int], None],
    *,
    real_packets: bool,
) -> list[LinkTest]:
    """Measure one path of each kind that messages take, one after the other. The devices' timeline must run.

    `payload_bytes` is the size of the run's own messages.
    """
    tests, cluster, prober = [], installed.cluster, _Prober(session, installed)
    chosen = distinct_pairs(cluster, installed.known_paths)
    for done, ((source, target), stands_for) in enumerate(chosen):
        on_progress(done, len(chosen))
        there, back = cluster.path(source, target), cluster.path(target, source)
        small = await prober.one_by_one(source, target, SMALL_BYTES)
        stream = await prober.burst(source, target, bulk(there, dilation))
        own_there = await prober.one_by_one(source, target, payload_bytes)
        own_back = await prober.one_by_one(target, source, payload_bytes)
        tests.append(
            measured(
                (cluster.devices[source].name, cluster.devices[target].name),
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
