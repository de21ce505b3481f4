"""Builders for tests of the pure core: small models, clusters and placements, fixed or drawn by hypothesis."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle

from hypothesis import settings
from hypothesis import strategies as st

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute, Device
from edgeemu.cluster.links import Link
from edgeemu.cluster.topology import Line, Mesh, Star, Topology
from edgeemu.placement.blocks import Block, Kind, all_blocks, shards
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView, WorkloadView
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.oracle import oracle_view
from edgeemu_kernels.precision import LayerFormats, fitting
from edgeemu_kernels.shape import ModelShape

QUICK = settings(derandomize=True, deadline=None, max_examples=100)  # the same examples every time, and no stopwatch
SLOW = settings(QUICK, max_examples=40)  # for tests that execute kernels

LLAMA = ModelShape(
    name="small-llama",
    n_layers=2,
    d_model=32,
    n_heads=6,
    n_kv_heads=3,
    head_dim=8,
    d_ff=48,
    vocab_size=64,
    max_context=64,
)
LLAMA_TIED = replace(LLAMA, name="small-llama-tied", tied_embeddings=True)
GPT2 = ModelShape(
    name="small-gpt2",
    n_layers=2,
    d_model=24,
    n_heads=4,
    n_kv_heads=4,
    head_dim=6,
    d_ff=96,
    vocab_size=50,
    max_context=64,
    norm="layer",
    activation="gelu",
    positions="learned",
    tied_embeddings=True,
    bias=True,
)
SHAPES = (LLAMA, LLAMA_TIED, GPT2)


@st.composite
def shapes(draw: st.DrawFn, max_layers: int = 3) -> ModelShape:
    """Any decoder that the kernels can compute, tiny."""
    n_kv_heads = draw(st.integers(1, 4))
    return ModelShape(
        name="drawn",
        n_layers=draw(st.integers(1, max_layers)),
        d_model=4 * draw(st.integers(2, 12)),
        n_heads=n_kv_heads * draw(st.integers(1, 3)),
        n_kv_heads=n_kv_heads,
        head_dim=2 * draw(st.integers(1, 6)),
        d_ff=draw(st.integers(4, 80)),
        vocab_size=draw(st.integers(8, 80)),
        max_context=64,
        norm=draw(st.sampled_from(("rms", "layer"))),
        activation=draw(st.sampled_from(("swiglu", "gelu"))),
        positions=draw(st.sampled_from(("rope-interleaved", "rope-half", "learned"))),
        tied_embeddings=draw(st.booleans()),
        bias=draw(st.booleans()),
    )


@st.composite
def precise_shapes(draw: st.DrawFn) -> ModelShape:
    """A tiny decoder with matrices, caches and messages in any formats; rows are whole blocks of most."""
    weights = st.sampled_from(("f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k"))
    rows = st.sampled_from(("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k"))
    n_kv_heads = draw(st.integers(1, 3))
    shape = replace(
        draw(shapes(max_layers=2)),
        d_model=draw(st.sampled_from((32, 64, 256))),
        n_heads=n_kv_heads * draw(st.integers(1, 2)),
        n_kv_heads=n_kv_heads,
        head_dim=draw(st.sampled_from((8, 32))),
        d_ff=draw(st.sampled_from((96, 256, 512))),
    )
    return shape.at_precision(draw(weights), draw(rows), draw(rows))


@st.composite
def mixed_shapes(draw: st.DrawFn) -> ModelShape:
    """A tiny decoder whose layers have matrices in different formats, as `Q4_K_M` files have."""
    weights = st.sampled_from(("f32", "f16", "q8_0", "q4_0", "q4_k", "q6_k"))
    return mixed(draw(precise_shapes()), draw(st.lists(weights, min_size=5, max_size=12)))


def mixed(shape: ModelShape, names: Sequence[str]) -> ModelShape:
    """The shape with matrices of these formats in turn, or the next finer ones that hold them."""
    d, turn = shape.d_model, cycle(names)
    layers = [
        LayerFormats(*(fitting(next(turn), width) for width in (d, d, d, shape.group_dim, d, shape.d_ff)))
        for _ in range(shape.n_layers)
    ]
    return replace(shape, precision=replace(shape.precision, layers=tuple(layers)))


def scattered(shape: ModelShape, n_devices: int, seed: int) -> Placement:
    """Every block on a random device."""
    chance = random.Random(seed)
    return Placement({block: chance.randrange(n_devices) for block in all_blocks(shape)})


@st.composite
def placements(draw: st.DrawFn, shape: ModelShape, n_devices: int) -> Placement:
    """Every block on any device, or all blocks of a kind together: both extremes have routes of their own."""
    if draw(st.booleans()):
        return scattered(shape, n_devices, draw(st.integers(0, 2**32)))
    by_kind: dict[str, int] = {}
    for block in all_blocks(shape):
        by_kind.setdefault(block.kind, draw(st.integers(0, n_devices - 1)))
    return Placement({block: by_kind[block.kind] for block in all_blocks(shape)})


@st.composite
def divided_placements(draw: st.DrawFn, shape: ModelShape, n_devices: int) -> Placement:
    """Placements with some projections and feed-forwards in shards: of all layers alike, or of each at random."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    even = draw(st.booleans())
    owner: dict[Block, int] = {}
    like: dict[tuple[Kind, int], int] = {}
    for block in all_blocks(shape):
        divided = block.kind in (Kind.PROJ, Kind.FFN) and (even or chance.random() < 0.6)
        for each in shards(shape, block.kind, block.layer) if divided else [block]:
            device = chance.randrange(n_devices)
            owner[each] = like.setdefault((each.kind, each.group), device) if even else device
    return Placement(owner)


def devices(
    computes: Sequence[Compute], memory_bytes: Sequence[int] | None = None, nic_bps: float | None = None
) -> tuple[Device, ...]:
    """Absolute devices d0, d1 … with room for everything unless it is said."""
    room = memory_bytes or [2**40] * len(computes)
    return tuple(
        Device(index, f"d{index}", None, compute, None, compute.overhead_s, room[index], nic_bps)
        for index, compute in enumerate(computes)
    )


def even_cluster(
    n_devices: int, link: Link, nic_bps: float | None = None, seed: int = 0, compute: Compute | None = None
) -> Cluster:
    """Equal devices, every pair joined by a link of its own."""
    every = compute or Compute(1e9, 1e9, 1e-4)
    return Cluster("even", seed, devices([every] * n_devices, nic_bps=nic_bps), Mesh(n_devices, lambda *_: link))


def uneven_mesh(n_devices: int, seed: int, memory_bytes: Sequence[int] | None = None) -> Cluster:
    """Uneven devices, and links that differ by pair and by direction."""
    chance = random.Random(seed)
    computes = [
        Compute(chance.uniform(1e6, 1e9), chance.uniform(1e6, 1e9), chance.choice([0.0, 1e-5, 1e-3]))
        for _ in range(n_devices)
    ]
    links = {
        (a, b): Link(chance.choice([1e5, 1e6, 1e8]), chance.choice([0.0, 1e-4, 2e-2]))
        for a in range(n_devices)
        for b in range(n_devices)
    }
    return Cluster("drawn", 0, devices(computes, memory_bytes), Mesh(n_devices, lambda a, b: links[a, b]))


def busy_mesh(n_devices: int, seed: int) -> Cluster:
    """Devices and links of `uneven_mesh`, where messages keep all devices busy."""
    cluster = uneven_mesh(n_devices, seed)
    nominal = [device.compute for device in cluster.devices if device.compute is not None]
    computes = [replace(compute, message_s=1e-4, byte_s=1e-8) for compute in nominal]
    return Cluster(cluster.name, cluster.seed, devices(computes), cluster.topology)


def near_mesh(n_devices: int, seed: int) -> Cluster:
    """Devices with memory for everything and quick links, so that it pays to divide the layers of a model."""
    chance = random.Random(seed)
    computes = [Compute(chance.choice([1e8, 2e8]), chance.choice([1e8, 2e8]), 0.0) for _ in range(n_devices)]
    links = {
        (a, b): Link(chance.choice([2e7, 1e8]), chance.choice([0.0, 1e-4]))
        for a in range(n_devices)
        for b in range(n_devices)
    }
    room = devices(computes, [1 << 40] * n_devices)
    return Cluster("drawn", 0, room, Mesh(n_devices, lambda a, b: links[a, b]))


@st.composite
def clusters(draw: st.DrawFn, n_devices: int, disturbed: bool = True) -> Cluster:
    """Uneven devices in a mesh, a line, or a star of which some devices share a wireless channel."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    computes = [
        Compute(chance.uniform(1e8, 1e10), chance.uniform(1e8, 1e10), chance.choice([0.0, 1e-5, 1e-3]))
        for _ in range(n_devices)
    ]
    links = [
        Link(
            bandwidth_bps=chance.choice([1e5, 1e6, 1e8]),
            delay_s=chance.choice([0.0, 1e-3, 2e-2]),
            jitter_s=chance.choice([0.0, 3e-3]) if disturbed else 0.0,
            loss=chance.choice([0.0, 0.05]) if disturbed else 0.0,
        )
        for _ in range(n_devices + 1)
    ]
    topology: Topology
    kind = draw(st.sampled_from((Mesh, Line, Star)))
    if kind is Star:
        on_channel = frozenset(chance.sample(range(n_devices), chance.randint(0, n_devices)))
        topology = Star(n_devices, lambda a, b: links[b if a is None else a], on_channel=on_channel)
    else:
        topology = kind(n_devices, lambda a, b: links[(a + b) % len(links)])
    nic_bps = draw(st.sampled_from((None, 1e6)))
    return Cluster("drawn", draw(st.integers(0, 99)), devices(computes, nic_bps=nic_bps), topology)


def view(
    shape: ModelShape, memory_bytes: Sequence[int], computes: Sequence[Compute], prompt_tokens: int, total_tokens: int
) -> ClusterView:
    """View of these devices, d0, d1 …, as a policy sees them."""
    seen = tuple(
        DeviceView(f"d{index}", compute, room)
        for index, (compute, room) in enumerate(zip(computes, memory_bytes, strict=True))
    )
    links = LinkMatrix.of_pairs(len(seen), lambda *_: 1e8, lambda *_: 1e-3)
    return ClusterView(PhysicalCosts(shape), seen, links, WorkloadView(prompt_tokens, total_tokens))


def with_links(seen: ClusterView, bandwidth_bps: float, delay_s: float) -> ClusterView:
    """A view with equal links between all devices."""
    links = LinkMatrix.of_pairs(len(seen.devices), lambda *_: bandwidth_bps, lambda *_: delay_s)
    return replace(seen, links=links)


def with_workload(seen: ClusterView, **changes: int | tuple[int, ...]) -> ClusterView:
    """A view with other numbers in its workload."""
    return replace(seen, workload=replace(seen.workload, **changes))


def seen_by(
    n: int, shape: ModelShape, seed: int, interval_tokens: int, *, on_flash: bool, busy: bool = False
) -> ClusterView:
    """View of a cluster, which messages may keep busy, after 20 tokens."""
    cluster = busy_mesh(n, seed) if busy else uneven_mesh(n, seed)
    seen = oracle_view(cluster, PhysicalCosts(shape), None, 7, 30)
    return replace(with_workload(seen, length=20, interval_tokens=interval_tokens), weights_on_flash=on_flash)
