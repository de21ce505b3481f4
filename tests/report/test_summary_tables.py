"""Tables of a run's figures, and of what a device holds."""

from typing import Any

import pytest

from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, all_blocks, ffn, head, layer_blocks, proj
from edgeemu.report.summary_tables import MAX_DEVICES, summary_lines, summary_tables
from edgeemu.run.plan_tables import describe
from edgeemu_kernels.shape import ModelShape

SHAPE = ModelShape("m", 6, 8, 4, 2, 2, 16, 10, 20)


def layers(*numbers: int) -> list[Block]:
    return [block for number in numbers for block in layer_blocks(SHAPE, number)]


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ([], "nothing"),
        (list(all_blocks(SHAPE)), "embed, layers 0-5, lm_head"),
        ([*layers(1, 2, 4), LM_HEAD], "layers 1-2, layer 4, lm_head"),
        ([EMBED, head(3, 1)], "embed, layer 3: group 1"),
        ([head(0, 0), head(0, 1), head(1, 0), head(1, 1), ffn(2)], "layers 0-1: all heads, layer 2: ffn"),
        ([head(4, 0), proj(4), ffn(4)], "layer 4: group 0 + proj + ffn"),
        (
            [block for layer in (1, 2) for block in (head(layer, 0), proj(layer, 0), ffn(layer, 1), ffn(layer, 4))],
            "layers 1-2: group 0 + 1/2 of proj + 2/16 of ffn",
        ),
        ([head(0, 0), head(0, 1), proj(0, 0), proj(0, 1), ffn(0)], "layer 0: all heads + ffn + 2/2 of proj"),
        (
            [EMBED, head(0, 0), proj(1), head(3, 1), proj(4), proj(5)],
            "embed, layer 0: group 0, layer 1: proj, layer 3: group 1, layers 4-5: proj",
        ),
        (
            [head(0, 0), proj(1), ffn(2), head(3, 1), proj(4), head(5, 0), EMBED],
            "embed, 3 head groups, 2 proj, 1 ffn",
        ),
    ],
)
def test_placements_in_words(blocks: list[Block], words: str) -> None:
    assert describe(blocks, SHAPE) == words


def summary(ms: float, devices: int, mode: str) -> dict[str, Any]:
    times = dict.fromkeys(("mean", "p50", "p95", "p99"), ms)
    return {
        "ttft_ms": times,
        "tpot_ms": dict.fromkeys(times),
        "wall": {"tpot_ms": times},
        "mode": mode,
        "memory": {"by_device": {"pi": {"peak_bytes": 3 * 2**20, "cap_bytes": 4 * 2**20}}},
        "certificate": {"verdict": "WARN", "reasons": ["so", "and so"]},
        "basis": None,
        "throughput_tok_s": 1000 / ms,
        "tokens": [[5] * devices],
        "policy": "single",
        "devices": devices,
        "energy_j": None,
        "energy": {"per_token_j": None, "budget_j": None, "missing": "pi without idle or busy power"},
        "objective": "latency",
        "concurrency": 1,
        "links": "stamped",
        "sequences": [],
        "goodput": None,
        "idle": None,
        "decisions": {"count": 0, "problems": [], "given_up": None},
        "failures": None,
        "weaker": ["no cgroups"],
        "ended": "done",
        "migrations": {"count": 0, "bytes": 0, "ms": 0.0, "changes": 0, "aborted": 0},
    }


@pytest.mark.parametrize(
    ("ms", "shown", "rate"),
    [(14.44, "14.4 ms", "69.25"), (0.02463, "0.0246 ms", "40600.89"), (35328014, "35328014.0 ms", "2.83e-05")],
)
def test_figures_of_every_size_can_be_read(ms: float, shown: str, rate: str) -> None:
    times, memory = summary_tables(summary(ms, 1, "realtime"))
    assert times.rows == [
        ["time to first token", *[shown] * 4],
        ["time per output token", *["–"] * 4],
        ["wall-clock time per output token", *[shown] * 4],
    ]
    assert memory.rows == [["pi", "3 MiB", "4 MiB", "75 %"]]
    assert summary_lines(summary(ms, 1, "realtime")) == [
        f"1 token, {rate} tokens/s, by single on 1 device",
        "certificate: WARN",
        "  so",
        "  and so",
        "limitations on this host: no cgroups (see edgeemu doctor)",
    ]


def test_of_many_devices_the_fullest_are_listed() -> None:
    many = summary(2.0, 100, "simulated")
    by_device = {f"edge-{n}": {"peak_bytes": n * 2**20, "cap_bytes": 100 * 2**20} for n in range(1, 101)}
    _, memory = summary_tables(many | {"memory": {"by_device": by_device}})
    assert memory.rows[0] == ["edge-100", "100 MiB", "100 MiB", "100 %"]
    assert memory.rows[-2][0] == f"edge-{101 - MAX_DEVICES}"
    assert memory.rows[-1] == [f"and {100 - MAX_DEVICES} more, less full", "", "", ""]


def test_virtual_mode_does_not_claim_that_the_clock_followed() -> None:
    times, _ = summary_tables(summary(2.0, 2, "virtual"))
    assert times.rows[-1][0] == "wall-clock time (not paced)"
    assert summary_lines(summary(2.0, 2, "virtual"))[0].startswith("2 tokens, ")
    assert summary_lines(summary(2.0, 2, "virtual"))[0].endswith(" on 2 devices")


def test_energy_is_shown_where_it_is_known_or_asked_for() -> None:
    quiet = summary(2.0, 2, "virtual")
    assert not any("energy" in line for line in summary_lines(quiet))
    asked = quiet | {"objective": "energy"}
    assert "energy: pi without idle or busy power" in summary_lines(asked)
    known = quiet | {"energy_j": 30.0, "energy": {"per_token_j": 15.0, "budget_j": 20.0, "missing": None}}
    assert "energy: 30 J, 15 J/token (20 J allowed)" in summary_lines(known)
