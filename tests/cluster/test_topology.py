"""Bandwidths and delays as arrays are those of the paths one by one, to the last bit: nominal, and as they vary."""

from itertools import pairwise, permutations

import numpy as np
import pytest

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.keyed_random import directed_uniforms, pair_uniforms, uniform
from edgeemu.cluster.links import Change
from edgeemu.policies.view import link_matrix
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.links_at import links_at
from edgeemu.scenario.load import parse_scenario

DEVICE = "gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 1 GiB"
TEXT = f"""\
model:
  shape: {{n_layers: 1, d_model: 8, n_heads: 2, n_kv_heads: 1, head_dim: 4, d_ff: 8, vocab_size: 9, max_context: 99}}
workload: {{prompts: [{{tokens: 3}}]}}
seed: 5
devices:
  - {{name: z, {DEVICE}, count: 11}}
  - {{name: nic, {DEVICE}, nic: {{uniform: {{low: 1 Mbit/s, high: 9 Mbit/s}}}}, count: 3}}
  - {{name: a, {DEVICE}}}
"""
DRAWN = (
    "default: {bandwidth: {lognormal: {low: 1 Mbit/s, high: 50 Mbit/s}}, "
    "delay: {uniform: {low: 1 ms, high: 20 ms}}, jitter: 1 ms}"
)
MESH = f"""\
network:
  {DRAWN}
  links:
    - {{between: [z, nic], bandwidth: {{uniform: {{low: 2 Mbit/s, high: 3 Mbit/s}}}}}}
    - {{from: z, to: a, type: wifi-5, delay: {{uniform: {{low: 1 ms, high: 2 ms}}}}}}
    - {{between: [z-3, z-4], delay: 7 ms}}
    - {{from: z-3, to: z, delay: 8 ms}}
"""
STAR = f"""\
network:
  topology: star
  star: {{wired: [nic]}}
  {DRAWN}
  links:
    - {{between: [nic, ap], type: ethernet-100m}}
    - {{from: z-1, to: ap, bandwidth: {{uniform: {{low: 2 Mbit/s, high: 3 Mbit/s}}}}}}
"""
LINE = f"network:\n  topology: line\n  {DRAWN}\n  links: [{{from: z-4, to: z-5, bandwidth: 9 kbit/s}}]\n"
NETWORKS = {"mesh": MESH, "star": STAR, "line": LINE, "no draws": "network: {default: wifi-6}\n"}


def cluster(network: str, more: str = "") -> Cluster:
    return draw(parse_scenario(TEXT + network + more, "s"))


def same(links: LinkMatrix, made: Cluster, at_s: float | None = None) -> None:
    """Every row, column and pair against the paths."""
    n = len(made.devices)
    for a in range(n):
        paths = [None if a == b else made.path(a, b) for b in range(n)]
        back = [None if a == b else made.path(b, a) for b in range(n)]

        def rates(paths: list) -> list[float]:
            return [(p and 1.0 / (p.bandwidth_bps if at_s is None else p.bandwidth_at(at_s))) or 0.0 for p in paths]

        def delays(paths: list) -> list[float]:
            return [(p and (p.delay_s if at_s is None else p.delay_at(at_s))) or 0.0 for p in paths]

        for rows, values in ((links.s_per_bit, rates), (links.delay_s, delays)):
            assert [rows.pair(a, b) for b in range(n)] == values(paths)
            assert rows.row(a).tolist() == values(paths)
            assert rows.column(a).tolist() == values(back)


@pytest.mark.parametrize("all_at_once", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_rows_are_the_paths(network: str, all_at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_matrix, "ALL_AT_ONCE", 2000 if all_at_once else 0)
    made = cluster(NETWORKS[network])
    same(LinkMatrix.of(made), made)
    assert made.varying_pairs() == set()


VARIED = {
    "mesh": "  - {between: [z-2, nic], variation: {delay: {trace: [[0 s, 0 s], [2 s, 5 ms]]}}}\n",
    "star": "  - {from: z-2, to: ap, bandwidth_trace: [[0 s, 5 Mbit/s], [2 s, 1 Mbit/s]]}\n",
    "line": "",
}
LINKS = {"mesh": ("z-9", "a"), "star": ("z-5", "ap"), "line": ("z-6", "z-7")}


@pytest.mark.parametrize("network", VARIED)
def test_at_an_instant_only_varying_paths_are_asked_for_again(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    varied = "".join(f"  {line}\n" for line in VARIED[network].splitlines())
    event = f"events: [{{at: 3 s, link: [{', '.join(LINKS[network])}], bandwidth: 1 kbit/s, delay: 1 s}}]\n"
    made = cluster(NETWORKS[network] + varied, event)
    links = LinkMatrix.of(made)
    same(links, made)
    for at_s in (0.0, 2.5, 9.0):
        same(links_at(links, made, at_s), made, at_s)
    later = made.changed(Change(links=((0, 1), (1, 0)), delay_s=2.0), 1.0) if network != "star" else made
    same(links_at(links, later, 9.0), later, 9.0)
    pairs = later.varying_pairs()
    assert pairs is not None
    assert 0 < len(pairs) < 15 * 14
    asked = []
    path = Cluster.path
    monkeypatch.setattr(Cluster, "path", lambda self, a, b: asked.append((a, b)) or path(self, a, b))
    now = links_at(links, later, 9.0)
    for a in range(15):
        now.s_per_bit.row(a)
    assert set(asked) == pairs


@pytest.mark.parametrize("network", VARIED)
@pytest.mark.parametrize("at_s", [0.0, 2.5, 9.0])
def test_a_cluster_that_stands_still_has_its_links_as_they_are_at_the_instant(network: str, at_s: float) -> None:
    varied = "".join(f"  {line}\n" for line in VARIED[network].splitlines())
    event = f"events: [{{at: 0 s, link: [{', '.join(LINKS[network])}], bandwidth: 1 kbit/s, delay: 1 s}}]\n"
    made = cluster(NETWORKS[network] + varied, event)
    still = made.still(at_s)
    assert not still.links_vary
    for a, b in permutations(range(len(made.devices)), 2):
        then, now = still.path(a, b), made.path(a, b)
        assert not then.varies
        assert (then.bandwidth_bps, then.delay_s) == (now.bandwidth_at(at_s), pytest.approx(now.delay_at(at_s)))
        assert (then.jitter_s, then.loss, then.energies) == (now.jitter_s, now.loss, now.energies)


def test_where_the_default_varies_all_paths_may() -> None:
    made = cluster("network: {default: {type: wifi-6, variation: {bandwidth: 50 %}}}\n")
    assert made.varying_pairs() is None
    same(links_at(LinkMatrix.of(made), made, 4.0), made, 4.0)


def test_shared_rows_are_read_only() -> None:
    row = LinkMatrix.of(cluster(MESH)).delay_s.row(1)
    assert not row.flags.writeable
    with pytest.raises(ValueError):
        row[0] = 1.0


@pytest.mark.parametrize("network", NETWORKS)
def test_every_topology_agrees_with_itself(network: str) -> None:
    """Routes are chains of links, every link has a pipe, and the veth pairs reach every device."""
    topology = cluster(NETWORKS[network]).topology
    links = list(topology.links())
    assert all(topology.joined(b, a) for a, b in links)
    assert {topology.pipe(a, b) for a, b in links} <= set(range(topology.n_pipes))
    pairs = [(a, b) for a in range(topology.n_devices) for b in range(topology.n_devices) if a != b]
    routes = {pair: topology.route(*pair) for pair in pairs}
    for (a, b), route in routes.items():
        assert (route[0], route[-1]) == (a, b)
        assert set(pairwise(route)) <= set(links)
    for link in links[:: max(1, len(links) // 40)]:
        assert topology.pairs_over([link]) == {pair for pair in pairs if link in pairwise(routes[pair])}
    reached, veths = {0}, topology.veths()
    for _ in veths:
        reached |= {end for veth in veths if reached & set(veth) for end in veth}
    assert set(range(topology.n_devices)) <= reached


@pytest.mark.parametrize("b", [["x", "c-10", "c-9", "a"], ["a", "y"]])
def test_random_arrays_are_the_random_numbers_of_each_pair(b: list[str]) -> None:
    a = ["x", "c-10", "c-9", "a"]
    pairs, directed = pair_uniforms(7, "link", a, b, "delay"), directed_uniforms(7, "link", a, b, "delay")
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            assert directed[i, j] == uniform(7, "link", x, "to", y, "delay")
            if x != y:
                assert pairs[i, j] == uniform(7, "link", *sorted((x, y)), "delay")
    assert np.all((directed > 0) & (directed < 1))
