"""Rows of links as arrays are what the paths say one by one, to the last bit: by themselves, and as they vary."""

import numpy as np
import pytest

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.keyed_random import pair_uniforms, uniform, way_uniforms
from edgeemu.cluster.links import Change
from edgeemu.policies.view import link_matrix
from edgeemu.policies.view.link_matrix import Links
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


def same(links: Links, made: Cluster, at_s: float | None = None) -> None:
    """Every row, column and pair against the paths."""
    n = len(made.devices)
    for a in range(n):
        paths = [None if a == b else made.path(a, b) for b in range(n)]
        back = [None if a == b else made.path(b, a) for b in range(n)]

        def rates(ways: list) -> list[float]:
            return [(p and 1.0 / (p.bandwidth_bps if at_s is None else p.bandwidth_at(at_s))) or 0.0 for p in ways]

        def delays(ways: list) -> list[float]:
            return [(p and (p.delay_s if at_s is None else p.delay_at(at_s))) or 0.0 for p in ways]

        for rows, values in ((links.s_per_bit, rates), (links.delay_s, delays)):
            assert [rows.between(a, b) for b in range(n)] == values(paths)
            assert rows.out_of(a).tolist() == values(paths)
            assert rows.into(a).tolist() == values(back)


@pytest.mark.parametrize("all_at_once", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_rows_are_the_paths(network: str, all_at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_matrix, "ALL_AT_ONCE", 2000 if all_at_once else 0)
    made = cluster(NETWORKS[network])
    same(Links.of(made), made)
    assert made.varying_ways() == set()


VARIED = {
    "mesh": "  - {between: [z-2, nic], variation: {delay: {trace: [[0 s, 0 s], [2 s, 5 ms]]}}}\n",
    "star": "  - {from: z-2, to: ap, bandwidth_trace: [[0 s, 5 Mbit/s], [2 s, 1 Mbit/s]]}\n",
    "line": "",
}
LINKS = {"mesh": ("z-9", "a"), "star": ("z-5", "ap"), "line": ("z-6", "z-7")}


@pytest.mark.parametrize("network", VARIED)
def test_at_an_instant_only_what_varies_is_asked_for_anew(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    varied = "".join(f"  {line}\n" for line in VARIED[network].splitlines())
    event = f"events: [{{at: 3 s, link: [{', '.join(LINKS[network])}], bandwidth: 1 kbit/s, delay: 1 s}}]\n"
    made = cluster(NETWORKS[network] + varied, event)
    links = Links.of(made)
    same(links, made)
    for at_s in (0.0, 2.5, 9.0):
        same(links.at(made, at_s), made, at_s)
    later = made.changed(Change(links=((0, 1), (1, 0)), delay_s=2.0), 1.0) if network != "star" else made
    same(links.at(later, 9.0), later, 9.0)
    ways = later.varying_ways()
    assert ways is not None
    assert 0 < len(ways) < 15 * 14
    asked = []
    path = Cluster.path
    monkeypatch.setattr(Cluster, "path", lambda self, a, b: asked.append((a, b)) or path(self, a, b))
    now = links.at(later, 9.0)
    for a in range(15):
        now.s_per_bit.out_of(a)
    assert set(asked) == ways


def test_where_the_default_varies_all_may() -> None:
    made = cluster("network: {default: {type: wifi-6, variation: {bandwidth: 50 %}}}\n")
    assert made.varying_ways() is None
    same(Links.of(made).at(made, 4.0), made, 4.0)


def test_nobody_writes_into_rows_that_others_read() -> None:
    row = Links.of(cluster(MESH)).delay_s.out_of(1)
    assert not row.flags.writeable
    with pytest.raises(ValueError):
        row[0] = 1.0


@pytest.mark.parametrize("b", [["x", "c-10", "c-9", "a"], ["a", "y"]])
def test_draws_of_many_are_those_of_each(b: list[str]) -> None:
    a = ["x", "c-10", "c-9", "a"]
    pairs, ways = pair_uniforms(7, "link", a, b, "delay"), way_uniforms(7, "link", a, b, "delay")
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            assert ways[i, j] == uniform(7, "link", x, "to", y, "delay")
            if x != y:
                assert pairs[i, j] == uniform(7, "link", *sorted((x, y)), "delay")
    assert np.all((ways > 0) & (ways < 1))
