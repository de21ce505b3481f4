"""Clusters: stable random values, paths through the right pipes, and scenarios that resolve to an equal cluster."""

from math import exp, isclose, log, sqrt
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.draw.links import LinkDraws
from edgeemu.cluster.draw.resolve import resolve
from edgeemu.cluster.keyed_random import draw_lognormal, draw_uniform, uniform
from edgeemu.cluster.links import Hop
from edgeemu.errors import RequestError
from edgeemu.scenario.distributions import Distribution
from edgeemu.scenario.load import parse_scenario, to_yaml
from edgeemu.scenario.scenario import Scenario

HEAD = """\
model:
  shape: {n_layers: 1, d_model: 8, n_heads: 2, n_kv_heads: 1, head_dim: 4, d_ff: 8, vocab_size: 9, max_context: 9}
workload: {prompts: [{tokens: 3}]}
"""
DEVICE = "gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 1 GiB"


def _scenario(devices: list[str], network: str, seed: int = 0) -> Scenario:
    lines = "".join(f"  - {{{device}}}\n" for device in devices)
    return parse_scenario(f"{HEAD}seed: {seed}\ndevices:\n{lines}network: {network}\n", "test")


def _cluster(devices: list[str], network: str, seed: int = 0) -> Cluster:
    return draw(_scenario(devices, network, seed))


def _named(*names: str, extra: str = "") -> list[str]:
    return [f"name: {name}, {DEVICE}{extra}" for name in names]


# -- draws ----------------------------------------------------------------------------------------------------


def test_a_lognormal_is_that_of_its_docstring():
    low, high, n = 5e9, 50e9, 4000
    values = sorted(draw_lognormal((i + 0.5) / n, low, high) for i in range(n))
    assert low <= values[0] < values[-1] <= high
    assert values[n // 2] == pytest.approx(sqrt(low * high), rel=1e-3)
    # One sigma above the median; what lies outside two sigmas was drawn again.
    normal = NormalDist()
    share = (normal.cdf(1) - normal.cdf(-2)) / (normal.cdf(2) - normal.cdf(-2))
    one_sigma = sqrt(low * high) * exp(log(high / low) / 4)
    assert sum(value <= one_sigma for value in values) / n == pytest.approx(share, abs=1e-3)


@given(st.floats(0, 1, exclude_min=True, exclude_max=True), st.floats(1e-9, 1e15), st.floats(1, 1e6))
def test_draws_stay_within_their_range(u: float, low: float, ratio: float):
    high = low * ratio
    assert low <= draw_lognormal(u, low, high) <= high
    assert low <= draw_uniform(u, low, high) <= high


def test_hashed_numbers_are_uniform_and_depend_on_each_name():
    values = sorted(uniform(7, "device", f"d{i}", "memory") for i in range(2000))
    assert max(abs(value - (i + 0.5) / 2000) for i, value in enumerate(values)) < 0.04  # Kolmogorov, p = 0.003
    assert len({uniform(s, *names) for s in (0, 1) for names in [("a", "b"), ("ab",), ("b", "a"), ("a", "b", "")]}) == 8


DRAWN = (
    "count: {n}, gflops: {{lognormal: {{low: 5 GFLOPS, high: 50 GFLOPS}}}}, mem_bandwidth: 4 GB/s,"
    " memory: {{uniform: {{low: 2 GB, high: 8 GB}}}}"
)
DRAWN_LINK = "{default: {bandwidth: {uniform: {low: 1 Gbit/s, high: 10 Gbit/s}}, delay: 1 ms}}"


def test_another_device_changes_no_random_value_of_the_others():
    few = _cluster([f"name: e, {DRAWN.format(n=3)}"], DRAWN_LINK)
    more = _cluster([f"name: e, {DRAWN.format(n=5)}", *_named("new")], DRAWN_LINK)
    assert more.devices[:3] == few.devices
    assert [more.bandwidth_bps(a, b) for a in range(3) for b in range(3) if a != b] == [
        few.bandwidth_bps(a, b) for a in range(3) for b in range(3) if a != b
    ]


def test_another_seed_gives_another_cluster():
    first, second = (_cluster([f"name: e, {DRAWN.format(n=3)}"], DRAWN_LINK, seed) for seed in (0, 1))
    assert first != second
    assert all(a.memory_bytes != b.memory_bytes for a, b in zip(first.devices, second.devices, strict=True))
    assert first == _cluster([f"name: e, {DRAWN.format(n=3)}"], DRAWN_LINK)


def test_a_link_is_drawn_once_for_both_directions_unless_they_are_given_apart():
    cluster = _cluster([f"name: e, {DRAWN.format(n=3)}"], DRAWN_LINK)
    assert cluster.bandwidth_bps(0, 1) == cluster.bandwidth_bps(1, 0) != cluster.bandwidth_bps(0, 2)
    drawn = "bandwidth: {uniform: {low: 1 Gbit/s, high: 2 Gbit/s}}"
    links = f"[{{from: e-1, to: e-2, {drawn}}}, {{from: e-2, to: e-1, {drawn}}}]"
    apart = _cluster([f"name: e, {DRAWN.format(n=3)}"], DRAWN_LINK[:-1] + f", links: {links}}}")
    assert 1e9 <= apart.bandwidth_bps(0, 1) <= 2e9
    assert apart.bandwidth_bps(0, 1) != apart.bandwidth_bps(1, 0)


# -- devices --------------------------------------------------------------------------------------------------


def test_a_profile_gives_what_the_device_does_not():
    (device,) = _cluster(["name: pi, profile: raspberry-pi-4, memory: 512 MiB, overhead: 20 us"], "{}").devices
    assert device.compute is not None
    assert (device.compute.flops_per_s, device.compute.mem_bytes_per_s) == (23.8e9, 5.56e9)
    assert (device.compute.overhead_s, device.overhead_s) == (20e-6, 20e-6)
    assert (device.memory_bytes, device.nic_bps, device.profile) == (512 * 2**20, 1e9, "raspberry-pi-4")


def test_a_relative_device_has_no_absolute_speed():
    devices = ["name: a, profile: jetson-nano, host_fraction: 0.25, nic: unlimited"]
    (device,) = _cluster(devices, "{}").devices
    assert (device.compute, device.host_fraction, device.nic_bps) == (None, 0.25, None)


# -- paths ----------------------------------------------------------------------------------------------------


def test_in_a_mesh_every_ordered_pair_has_its_own_pipe():
    cluster = _cluster(_named("a", "b", "c"), "{default: {bandwidth: 8 Mbit/s, delay: 2 ms, jitter: 1 ms, loss: 1 %}}")
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    assert len({cluster.path(a, b).hops[0].pipe for a, b in pairs}) == 6
    path = cluster.path(0, 2)
    assert [hop[1:3] for hop in path.hops] == [(8e6, 0.002)]
    assert (path.jitter_s, path.loss, path.delay_s, path.bandwidth_bps) == (0.001, 0.01, 0.002, 8e6)
    assert cluster.path(0, 2) is path


def test_a_device_has_no_path_to_itself_or_to_none():
    cluster = _cluster(_named("a", "b"), "{default: ethernet-1g}")
    for src, dst in [(0, 0), (0, 2), (-1, 0)]:
        with pytest.raises(ValueError, match="no path"):
            cluster.path(src, dst)


def test_interfaces_are_the_first_and_last_pipe_of_all_of_a_devices_links():
    cluster = _cluster(
        [*_named("a", extra=", nic: 1 Gbit/s"), *_named("b"), *_named("c", extra=", nic: 2 Gbit/s")],
        "{default: {bandwidth: 5 Gbit/s, delay: 2 ms}}",
    )
    first, link, last = cluster.path(0, 2).hops
    assert [first[1:3], link[1:3], last[1:3]] == [(1e9, 0.0), (5e9, 0.002), (2e9, 0.0)]
    assert cluster.path(0, 1).hops[0] == first  # the same egress
    assert cluster.path(1, 2).hops[-1] == last  # the same ingress
    assert cluster.path(2, 0).hops[0].pipe != last.pipe  # full duplex
    assert cluster.bandwidth_bps(0, 2) == 1e9
    assert {hop.pipe for a in range(3) for b in range(3) if a != b for hop in cluster.path(a, b).hops} <= set(
        range(cluster.n_pipes)
    )


def test_in_a_line_a_path_crosses_all_that_lies_between():
    cluster = _cluster(
        _named("a", "b", "c", "d"),
        "{topology: line, default: {bandwidth: 8 Mbit/s, delay: 2 ms, jitter: 1 ms, loss: 10 %},"
        " links: [{from: c, to: b, delay: 9 ms}]}",
    )
    there, back = cluster.path(0, 3), cluster.path(3, 0)
    assert [hop.delay_s for hop in there.hops] == [0.002, 0.002, 0.002]
    assert [hop.delay_s for hop in back.hops] == [0.002, 0.009, 0.002]
    assert not {hop.pipe for hop in there.hops} & {hop.pipe for hop in back.hops}
    assert cluster.path(1, 2).hops == there.hops[1:2]
    assert isclose(there.jitter_s, 0.003)
    assert isclose(there.loss, 1 - 0.9**3)


def test_a_relays_interface_is_crossed_both_ways():
    cluster = _cluster(
        [*_named("a"), *_named("b", extra=", nic: 1 Gbit/s"), *_named("c")], "{topology: line, default: ethernet-1g}"
    )
    hops = cluster.path(0, 2).hops
    assert [hop.bandwidth_bps for hop in hops] == [941e6, 1e9, 1e9, 941e6]
    assert hops[1].pipe != hops[2].pipe


STAR = (
    "{{topology: star, default: {{bandwidth: 100 Mbit/s, delay: 3 ms}}, star: {{access_point: ap, {star}}},"
    " links: [{{from: b, to: ap, bandwidth: 20 Mbit/s}}, {{between: [w, ap], bandwidth: 1 Gbit/s, delay: 1 ms}}]}}"
)


def test_in_a_star_the_shared_channel_is_one_pipe():
    cluster = _cluster(_named("a", "b", "w"), STAR.format(star="wired: [w]"))
    up, down = cluster.path(1, 0).hops
    assert up.pipe == down.pipe
    assert [up[1:3], down[1:3]] == [(20e6, 0.003), (100e6, 0.003)]
    assert cluster.bandwidth_bps(1, 0) == pytest.approx(1 / (1 / 20e6 + 1 / 100e6))
    assert cluster.bandwidth_bps(0, 1) == pytest.approx(50e6)
    to_wire, from_wire = cluster.path(0, 2).hops, cluster.path(2, 0).hops
    assert [hop[1:3] for hop in to_wire] == [(100e6, 0.003), (1e9, 0.001)]
    assert to_wire[0].pipe == from_wire[1].pipe == up.pipe
    assert len({to_wire[1].pipe, from_wire[0].pipe, up.pipe}) == 3


def test_without_shared_airtime_every_station_has_a_pipe_up_and_one_down():
    cluster = _cluster(_named("a", "b", "w"), STAR.format(star="shared_airtime: false"))
    ups = {cluster.path(a, b).hops[0].pipe: a for a in range(3) for b in range(3) if a != b}
    downs = {cluster.path(a, b).hops[1].pipe: b for a in range(3) for b in range(3) if a != b}
    assert sorted(ups.values()) == sorted(downs.values()) == [0, 1, 2]
    assert not ups.keys() & downs.keys()


def test_a_wired_device_needs_a_link():
    with pytest.raises(RequestError, match=r"a wired device needs a link: add links: \[\{between: \[a, ap\]"):
        _scenario(_named("a", "b"), "{topology: star, default: wifi-5, star: {wired: [a]}}")


def test_later_overrides_change_only_their_own_fields():
    cluster = _cluster(
        [f"name: p, count: 3, {DEVICE}", *_named("q")],
        "{default: {bandwidth: 100 Mbit/s, delay: 2 ms}, links: ["
        "{between: [p, p], bandwidth: 10 Mbit/s}, {between: [p-1, p-2], delay: 7 ms},"
        " {from: p-2, to: p-1, type: lte}, {between: [q, p-3], type: 5g, delay: 1 ms}]}",
    )
    assert cluster.path(0, 1).hops[0][1:3] == (10e6, 0.007)
    assert cluster.path(1, 0).hops[0][1:3] == (7.9e6, 0.03)
    assert cluster.path(0, 2).hops[0][1:3] == (10e6, 0.002)
    assert cluster.path(0, 3).hops[0][1:3] == (100e6, 0.002)
    assert cluster.path(3, 2).hops[0][1:3] == (15.6e6, 0.001)


def test_a_thousand_devices_are_drawn_without_a_million_links(monkeypatch: pytest.MonkeyPatch):
    sampled, link = [], LinkDraws.link
    monkeypatch.setattr(LinkDraws, "link", lambda self, a, b: sampled.append((a, b)) or link(self, a, b))
    cluster = _cluster([f"name: e, {DRAWN.format(n=1000)}"], DRAWN_LINK)
    assert len(cluster.devices) == 1000
    assert not sampled
    assert isinstance(cluster.path(3, 999).hops[0], Hop)
    assert sampled == [(3, 999)]


# -- resolving ------------------------------------------------------------------------------------------------

_quantities = {
    "bandwidth": st.sampled_from(["10 Mbit/s", "{uniform: {low: 1 Gbit/s, high: 10 Gbit/s}}"]),
    "delay": st.sampled_from(["0 ms", "3.7 ms", "{lognormal: {low: 1 ms, high: 30 ms}}"]),
    "jitter": st.sampled_from(["0.3 ms", "{uniform: {low: 0 ms, high: 1 ms}}"]),
    "loss": st.sampled_from(["1 %", "{uniform: {low: 0 %, high: 3 %}}"]),
}


def _flow(entries: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in entries.items()) + "}"


@st.composite
def _networks(draw_from: st.DrawFn) -> str:
    topology = draw_from(st.sampled_from(["mesh", "line", "star"]))
    default = draw_from(st.sampled_from(["wifi-5", *[_flow(f) for f in [
        {"bandwidth": "100 Mbit/s", "delay": "2 ms"},
        {key: draw_from(_quantities[key]) for key in _quantities} | {"delay": "1 ms"},
        {"type": "wifi-5", "delay": "0.1 ms"},
    ]]]))  # fmt: skip
    ends = {
        "mesh": [("p", "x"), ("p", "p"), ("x", "y"), ("p-1", "y")],
        "line": [("p-1", "p-2"), ("p", "p"), ("p", "x"), ("x", "y")],
        "star": [("p", "ap"), ("x", "ap"), ("ap", "y")],
    }[topology]
    links = []
    for a, b in draw_from(st.lists(st.sampled_from(ends), max_size=4)):
        where = draw_from(st.sampled_from([{"between": f"[{a}, {b}]"}, {"from": a, "to": b}, {"from": b, "to": a}]))
        keys = draw_from(st.sets(st.sampled_from(sorted(_quantities)), max_size=3))
        keys -= {"jitter"} if "delay" in keys else set()  # a jitter above the delay beside it is refused
        links.append(_flow(where | {key: draw_from(_quantities[key]) for key in sorted(keys)}))
    extra = f", star: {{shared_airtime: {draw_from(st.sampled_from(['true', 'false']))}}}" if topology == "star" else ""
    return f"{{topology: {topology}, default: {default}, links: [{', '.join(links)}]{extra}}}"


@settings(max_examples=60, deadline=None)
@given(network=_networks(), seed=st.integers(0, 2**63 - 1))
def test_a_resolved_scenario_draws_the_same_cluster_and_resolves_to_itself(network: str, seed: int):
    scenario = _scenario(
        [
            f"name: p, {DRAWN.format(n=2)}, nic: {{uniform: {{low: 1 Gbit/s, high: 2 Gbit/s}}}}",
            "name: x, profile: jetson-nano, overhead: {uniform: {low: 1 us, high: 9 us}}",
            "name: y, host_fraction: {uniform: {low: 10 %, high: 90 %}}, memory: 1 GiB",
        ],
        network,
        seed,
    )
    resolved = resolve(scenario)
    assert draw(resolved) == draw(scenario)
    assert resolve(resolved) == resolved
    assert parse_scenario(to_yaml(resolved)) == resolved
    given = [value for device in resolved.devices for value in (device.gflops, device.memory, device.nic)]
    assert not any(isinstance(value, Distribution) for value in given)
