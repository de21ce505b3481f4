"""One line tells what moved, why, and what it gained, when a token has been measured under the new placement."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from support.builders import LLAMA, view, with_links

from edgeemu.cli import app
from edgeemu.cluster.devices import Compute
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, all_blocks, ffn, head, proj, shards
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.moves_told import MAX_TOLD, MovesTold, PlacementChange

NOMINAL = [Compute(1e9, 1e9, 0.0)] * 3
FIRST = view(LLAMA, [2**30] * 3, NOMINAL, 4, 99)
WHOLE = Placement(dict.fromkeys(all_blocks(LLAMA), 0))
SPLIT = WHOLE.moved([head(1, 2), ffn(1)], 2)


def slower(seen: ClusterView, device: int, factor: float) -> ClusterView:
    speed = Compute(1e9 / factor, 1e9 / factor, 0.0)
    devices = [replace(each, compute=speed) if n == device else each for n, each in enumerate(seen.devices)]
    return replace(seen, devices=tuple(devices))


def line(old: Placement, new: Placement, seen: ClusterView, first: ClusterView = FIRST) -> str:
    """The line about one move after three tokens, the last of them slow."""
    told = MovesTold(LLAMA, first, NOMINAL)
    for latency_s in (0.05, 0.05, 0.09):
        assert list(told.token(0, latency_s)) == []
    assert list(told.moved(PlacementChange(old, new, seen, 7, 0.0125))) == []
    assert list(told.token(0, 0.5)) == [], "it waited for the move"
    (found,) = told.token(0, 0.06)
    assert list(told.ended()) == []
    return found


def test_what_moved_why_and_what_it_gained() -> None:
    assert line(WHOLE, SPLIT, slower(FIRST, 0, 3)) == (
        "before token 7: moved layer 1: group 2 + ffn from d0 to d2, in 12.5 ms. "
        "Why: d0 measured at 33 % of its speed. Per token: 50.0 ms before the change, 90.0 ms after it, now 60.0 ms"
    )


@pytest.mark.parametrize(
    ("seen", "first", "why"),
    [
        (FIRST, FIRST, "no measured change above 10 %"),
        (slower(FIRST, 0, 1.05), FIRST, "no measured change above 10 %"),
        (
            replace(FIRST, devices=(replace(FIRST.devices[0], memory_bytes=2**20), *FIRST.devices[1:])),
            FIRST,
            "d0 has 1 MiB of memory for us (was 1 GiB)",
        ),
        (
            replace(with_links(slower(FIRST, 1, 2), 1e8, 50e-3), observed={(0, 2): (50, 1), (2, 0): (50, 1)}),
            FIRST,
            "link d0-d2 measured 49.3 times slower (50.0 ms for a token's activations) "
            "and d1 measured at 50 % of its speed",
        ),
        (
            replace(with_links(FIRST, 1e10, 1e-3), observed={(0, 2): (1, 0.01)}),
            replace(with_links(FIRST, 1e3, 1e-3), observed={(0, 2): (1, 1e5)}),
            "link d0-d2 measured 1536.8 times faster (1.0 ms for a token's activations)",
        ),
    ],
)
def test_the_largest_measured_changes_are_named(seen: ClusterView, first: ClusterView, why: str) -> None:
    assert f"Why: {why}. Per token" in line(WHOLE, SPLIT, seen, first)


def test_of_the_true_state_nothing_is_measured() -> None:
    told = MovesTold(LLAMA, FIRST, NOMINAL, measured=False)
    seen = with_links(slower(FIRST, 1, 2), 1e8, 50e-3)
    assert list(told.moved(PlacementChange(SPLIT, WHOLE, seen, 9, 0.0))) == []
    (found,) = told.ended()
    assert "Why: link d0-d2 49.3 times slower (50.0 ms for a token's activations) and d1 at 50 % of its speed." in found


def test_of_several_sequences_each_has_a_token_that_waited() -> None:
    told = MovesTold(LLAMA, FIRST, NOMINAL)
    assert list(told.moved(PlacementChange(WHOLE, SPLIT, FIRST, 2, 0.5, 3))) == []
    assert [list(told.token(sequence, latency_s)) for sequence, latency_s in ((0, 0.6), (1, 0.7))] == [[], []]
    (found,) = told.token(1, 0.08)
    assert found.startswith("before token 2 of prompt 3: moved ")
    assert found.endswith("in 500.0 ms. Why: no measured change above 10 %. Per token: not known before, now 80.0 ms")
    assert list(told.token(0, 0.09)) == []


def test_a_recovery_is_told_with_what_it_was() -> None:
    told = MovesTold(LLAMA, FIRST, NOMINAL)
    (*_,) = told.moved(PlacementChange(WHOLE, SPLIT, slower(FIRST, 0, 4), 3, 0.0))
    for latency_s in (0.5, 0.06):
        (*_,) = told.token(0, latency_s)
    assert list(told.moved(PlacementChange(SPLIT, WHOLE, FIRST, 9, 0.0))) == []
    assert list(told.ended()) == [
        "before token 9: moved layer 1: group 2 + ffn from d2 to d0. "
        "Why: d0 measured at 100 % of its speed (was 25 %). Per token: 60.0 ms before"
    ]


def test_many_moves_are_counted_and_what_only_is_divided_is_said() -> None:
    scattered = Placement({block: 1 + n % 2 for n, block in enumerate(all_blocks(LLAMA))})
    owner = {block: (n % 3) for n, block in enumerate(all_blocks(LLAMA))}
    assert "moved 8 blocks from d0, d1, d2 to d1, d2," in line(Placement(owner), scattered, FIRST)
    divided = Placement({EMBED: 0, LM_HEAD: 0} | {unit: 0 for n in (0, 1) for unit in shards(LLAMA, Kind.FFN, n)})
    divided = Placement({**{b: 0 for b in all_blocks(LLAMA) if b.kind is not Kind.FFN}, **divided.owner})
    assert "moved nothing: blocks were divided or joined where they are," in line(WHOLE, divided, FIRST)


def test_shares_that_move_are_counted() -> None:
    """Also those of a layer that was whole before."""
    units = [unit for layer in (0, 1) for unit in shards(LLAMA, Kind.FFN, layer)]
    rest = {block: 0 for block in all_blocks(LLAMA) if block.kind is not Kind.FFN}
    shared = Placement({**rest, **{unit: 2 if unit.group < 19 else 0 for unit in units}})
    more = shared.moved([unit for unit in units if 19 <= unit.group < 24], 1)
    assert "moved layers 0-1: 19/48 of ffn from d0 to d2," in line(WHOLE, shared, FIRST)
    assert "moved layers 0-1: 5/48 of ffn from d0 to d1," in line(shared, more, FIRST)
    assert "moved layers 0-1: 19/48 of ffn from d2 to d0," in line(shared, WHOLE, FIRST)


def test_only_the_first_moves_of_a_run_are_told() -> None:
    told = MovesTold(LLAMA, FIRST, NOMINAL)
    lines = []
    for n in range(2 * MAX_TOLD):
        ways = (WHOLE, WHOLE.moved([proj(0)], 1))
        lines += told.moved(PlacementChange(ways[n % 2], ways[1 - n % 2], FIRST, n, 0.0))
    assert len(lines) == MAX_TOLD + 1
    assert lines[-1] == "more moves follow; migrations.parquet has them all"
    assert list(told.ended()) == []


SCENARIO = """
model: {shape: {n_layers: 6, d_model: 64, n_heads: 4, n_kv_heads: 2, head_dim: 16, d_ff: 256, vocab_size: 99,
  max_context: 99}}
devices:
  - {name: fast, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 64 MiB}
  - {name: slow, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 64 MiB}
network: {default: {bandwidth: 1 Gbit/s, delay: 10 us}}
workload: {prompts: [{tokens: 4}, {tokens: 4}], max_tokens: 20}
events: [{at_token: 8, device: fast, speed: 10 %}]
decisions: {smoothing: 100 %}
"""


def test_every_run_tells_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SCENARIO)
    with pytest.raises(SystemExit) as leaving:
        app.main(["simulate", "s.yaml", "--policy", "dynamic-layers"])
    assert leaving.value.code == 0
    err = capsys.readouterr().err
    found = [line for line in err.splitlines() if "fast measured at" in line]
    assert found
    assert re.fullmatch(
        r"before token \d+ of prompt \d: moved .* from fast to slow, in \d+\.\d ms. "
        r"Why: fast measured at 10 % of its speed. "
        r"Per token: \d+\.\d ms before the change, \d+\.\d ms after it, now \d+\.\d ms",
        found[0],
    )
