"""The contract of every kind of link: order, each message once, bounded memory, and a lost peer is noticed.

One body for all kinds, each over processes of their own. `kernel` without delays needs no netem.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.builders import even_cluster
from support.link_peers import Peers, joined, payload_of

from edgeemu.cluster.links import Link
from edgeemu.links.netns.capabilities import Capabilities, probe_host
from edgeemu.run.choose_links import LinkChoice

RATE_BPS = 500e6
DELAY_S = 0.01

pytestmark = pytest.mark.usefixtures("clusters_start_warm")


@pytest.fixture(scope="module")
def host() -> Capabilities:
    return probe_host()


# A kind of links, and what they do to a message beside what their rate does.
KINDS = [
    ("stamped", DELAY_S),
    ("hybrid", DELAY_S),
    ("kernel", 0.0),
    pytest.param(("kernel", DELAY_S), marks=pytest.mark.netem),
]


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]:g}s")
def run(request: pytest.FixtureRequest, host: Capabilities) -> Callable[[Callable[[Peers], Awaitable[None]]], None]:
    """Runs a test with three peers that such links join."""
    kind, delay_s = request.param
    if kind != "stamped" and (why := host.why_not("kernel" if kind == "kernel" and delay_s else "hybrid")):
        pytest.skip(why)
    cluster = even_cluster(3, Link(RATE_BPS, delay_s))
    choice = LinkChoice(kind, rootless=kind != "stamped" and host.rootless, netem=kind == "kernel" and delay_s > 0)

    def with_peers(body: Callable[[Peers], Awaitable[None]]) -> None:
        async def act() -> None:
            async with joined(cluster, choice) as peers:
                await body(peers)

        asyncio.run(act())

    return with_peers


Run = Callable[[Callable[[Peers], Awaitable[None]]], None]


def test_each_message_comes_once_and_in_the_order_of_its_connection(run: Run) -> None:
    sizes = [64 + 4 * (n * n % 5000) for n in range(200)]
    sums = [zlib.crc32(payload_of(step, size).tobytes()) for step, size in enumerate(sizes)]

    async def body(peers: Peers) -> None:
        for source in (0, 1):
            await peers.tell(source, "send", [2, 1 - source], sizes)  # also to each other, at the same time
            await peers.tell(source, "receive", len(sizes))  # as soon as it has sent: the other may wait for room
        came = {2: await peers.ask(2, "receive", 2 * len(sizes))}
        for source in (0, 1):
            assert await peers.answer(source) == ""
            came[source] = await peers.answer(source)
        for source, target in ((0, 2), (1, 2), (0, 1), (1, 0)):
            rows = [row for row in came[target] if row[0] == source]
            assert [row[1] for row in rows] == list(range(len(sizes)))
            assert [row[2] for row in rows] == sums
            arrivals_s = [row[4] for row in rows]
            assert arrivals_s == sorted(arrivals_s)
        for target in range(3):
            assert await peers.ask(target, "nothing_more")

    run(body)


def test_a_message_takes_at_least_what_its_link_takes(run: Run, request: pytest.FixtureRequest) -> None:
    _, delay_s = request.node.callspec.params["run"]
    size_bytes = 1 << 20

    async def body(peers: Peers) -> None:
        await peers.tell(0, "send", [1], [size_bytes])
        ((_, _, _, departure_s, arrival_s),) = await peers.ask(1, "receive", 1)
        assert await peers.answer(0) == ""
        took_s = arrival_s - departure_s
        assert took_s > 0.95 * 8 * size_bytes / RATE_BPS + delay_s  # htb may let a burst pass before it counts

    run(body)


def test_a_receiver_that_does_not_read_holds_the_sender_back(run: Run) -> None:
    sizes = [256 << 10] * 400  # 105 MB

    async def body(peers: Peers) -> None:
        before = [await peers.ask(peer, "resident_bytes") for peer in (0, 1)]
        await peers.tell(0, "send", [1], sizes, True)
        step = 0
        while True:  # until it tells of no more for a second
            try:
                async with asyncio.timeout(1.0):
                    step = await peers.answer(0)
            except TimeoutError:
                break
        assert step < len(sizes) - 1
        assert await resident_bytes(peers, 0) - before[0] < 60 << 20
        assert await resident_bytes(peers, 1) - before[1] < 60 << 20
        await peers.tell(1, "receive", len(sizes))
        while step != "":
            step = await peers.answer(0)
        assert [row[1] for row in await peers.answer(1)] == list(range(len(sizes)))

    run(body)


def test_parcels_never_block_their_sender(run: Run) -> None:
    async def body(peers: Peers) -> None:
        taken = await peers.ask(0, "offer_chunks", 1, 10_000, 64 << 10)
        assert 0 < taken < 10_000
        assert len(await peers.ask(1, "receive", taken)) == taken

    run(body)


def test_a_closed_peer_is_noticed(run: Run) -> None:
    async def body(peers: Peers) -> None:
        await peers.tell(0, "send", [1], [1000])
        assert len(await peers.ask(1, "receive", 1)) == 1
        assert await peers.answer(0) == ""
        await peers.ask(1, "close")
        assert (await peers.ask(0, "send", [1], [64 << 10] * 10_000)).startswith("lost: ")
        assert await peers.ask(0, "send", [2], [1000]) == ""  # the others are still there

    run(body)


async def resident_bytes(peers: Peers, peer: int) -> Any:
    """Resident memory of a process that may be unable to answer."""
    from pathlib import Path

    return int(Path(f"/proc/{peers.pids[peer]}/statm").read_text().split()[1]) * 4096
