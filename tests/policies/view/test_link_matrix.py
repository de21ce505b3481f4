"""The matrices of links agree with the cluster's paths, however they are stored and whatever is read first."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, clusters, even_cluster

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.draw.cluster import draw as draw_cluster
from edgeemu.cluster.links import Link
from edgeemu.policies.view import link_matrix, pair_matrix
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.links_at import links_at
from edgeemu.policies.view.pair_matrix import PairMatrix
from edgeemu.policies.view.scaling import in_order
from edgeemu.scenario.load import parse_scenario

N = 4
PAIRS = [(a, b) for a in range(N) for b in range(N) if a != b]
Expected = Callable[[int, int], float]

DRAWN = """
model: smollm2-135m-instruct
seed: {seed}
devices: [{{name: d, profile: laptop-cpu, count: 4}}]
network:
  default: {{bandwidth: {{uniform: {{low: 1 Mbit/s, high: 1 Gbit/s}}}}, delay: {{uniform: {{low: 1 ms, high: 9 ms}}}}}}
  links:
    - between: [d-1, d-2]
      bandwidth: 10 Mbit/s
      variation: {{bandwidth: {{uniform: {{low: 10 %, high: 90 %}}, every: 1 s}}}}
workload: {{prompts: [Hello]}}
"""


def agrees(data: st.DataObject, matrix: PairMatrix, expected: Expected) -> None:
    """Reads rows, columns and pairs in any order."""
    for _ in range(8):
        a, b = data.draw(st.integers(0, N - 1)), data.draw(st.integers(0, N - 1))
        match data.draw(st.sampled_from(("row", "column", "pair", "pairs", "least"))):
            case "row":
                assert matrix.row(a).tolist() == [0.0 if a == d else expected(a, d) for d in range(N)]
            case "column":
                assert matrix.column(b).tolist() == [0.0 if d == b else expected(d, b) for d in range(N)]
            case "pair":
                assert matrix.pair(a, b) == (0.0 if a == b else expected(a, b))
            case "pairs":
                sources, targets = np.array([a, b, a]), np.array([b, a, a])
                expected_s = [0.0 if a == b else expected(*pair) for pair in ((a, b), (b, a))]
                assert matrix.pairs(sources, targets).tolist() == [*expected_s, 0.0]
            case _:
                assert matrix.least_in_row(a) == min(expected(a, d) for d in range(N) if d != a)


@QUICK
@given(st.data(), clusters(N))
def test_a_cluster_s_links_are_its_paths(data: st.DataObject, cluster: Cluster) -> None:
    links = LinkMatrix.of(cluster)
    agrees(data, links.s_per_bit, lambda a, b: 1.0 / cluster.bandwidth_bps(a, b))
    agrees(data, links.delay_s, cluster.delay_s)


@QUICK
@given(st.data(), st.integers(0, 99), st.booleans())
def test_drawn_links_are_the_paths_also_at_an_instant(data: st.DataObject, seed: int, large: bool) -> None:
    cluster = draw_cluster(parse_scenario(DRAWN.format(seed=seed), "drawn"))
    with pytest.MonkeyPatch.context() as patch:
        if large:
            patch.setattr(link_matrix, "ALL_AT_ONCE", N - 1)
        links = LinkMatrix.of(cluster)
    agrees(data, links.s_per_bit, lambda a, b: 1.0 / cluster.bandwidth_bps(a, b))
    agrees(data, links.delay_s, cluster.delay_s)
    at_s = data.draw(st.floats(0.0, 9.0))
    then = links_at(links, cluster, at_s)
    agrees(data, then.s_per_bit, lambda a, b: 1.0 / cluster.path(a, b).bandwidth_at(at_s))
    agrees(data, then.delay_s, lambda a, b: cluster.path(a, b).delay_at(at_s))
    agrees(data, links.s_per_bit, lambda a, b: 1.0 / cluster.bandwidth_bps(a, b))  # the nominal ones are as before


@QUICK
@given(
    st.data(),
    clusters(N),
    st.dictionaries(st.sampled_from(PAIRS), st.tuples(st.floats(0.1, 9), st.floats(0.1, 9))),
    st.sampled_from(("copied", "rows", "computed")),
)
def test_scaled_links_are_the_nominal_ones_times_the_factors(
    data: st.DataObject, cluster: Cluster, factors: dict[tuple[int, int], tuple[float, float]], stored: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if stored == "rows":
            patch.setattr(pair_matrix, "COPIED", N - 1)
        elif stored != "copied":
            patch.setattr(link_matrix, "ALL_AT_ONCE", N - 1)
        scaled = LinkMatrix.of(cluster).scaled(factors)
        if again := data.draw(st.lists(st.sampled_from(PAIRS), unique=True)):  # among them and not
            scaled = scaled.scaled(dict.fromkeys(again, (2.0, 0.5)))
            factors = factors | {pair: (2.0 * a, 0.5 * b) for pair in again for a, b in [factors.get(pair, (1.0, 1.0))]}
        one = (1.0, 1.0)
        chosen = np.array(data.draw(st.lists(st.integers(0, N - 1), unique=True)), np.int64)
        expected = [[0.0 if a == b else scaled.delay_s.pair(a, b) for b in range(N)] for a in chosen.tolist()]
        assert scaled.delay_s.block(chosen, np.arange(N)).tolist() == expected
        agrees(data, scaled.s_per_bit, lambda a, b: 1.0 / cluster.bandwidth_bps(a, b) * factors.get((a, b), one)[1])
        agrees(data, scaled.delay_s, lambda a, b: cluster.delay_s(a, b) * factors.get((a, b), one)[0])


@given(st.sampled_from([N, 2**16, 2**20, 2**40]), st.lists(st.integers(0, 2**40), max_size=50))
def test_equal_codes_stay_in_their_order(n_codes: int, drawn: list[int]) -> None:
    codes = np.array([number % n_codes for number in drawn], np.int64)
    assert in_order(codes, n_codes).tolist() == sorted(range(len(drawn)), key=codes.tolist().__getitem__)


def test_messages_take_their_bits_and_the_delay() -> None:
    links = LinkMatrix.of(even_cluster(3, Link(1e6, 0.25), compute=Compute(1e9, 1e9, 0.0)))
    assert links.row(0, 1e6).tolist() == pytest.approx([0.0, 1.25, 1.25])
    assert links.column(2, 2e6).tolist() == pytest.approx([2.25, 2.25, 0.0])
    assert links.pair(1, 2, 5e5) == pytest.approx(0.75)
    assert links.pair(1, 1, 5e5) == 0.0


def test_nobody_can_write_into_the_matrices() -> None:
    links = LinkMatrix.of(even_cluster(3, Link(1e6, 0.25)))
    for values in (links.s_per_bit.row(0), links.delay_s.column(1)):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1.0


def test_one_device_has_no_link() -> None:
    links = LinkMatrix.of_pairs(1, lambda *_: 1e6, lambda *_: 1e-3)
    assert links.s_per_bit.row(0).tolist() == [0.0]
    assert links.delay_s.least_in_row(0) == np.inf
