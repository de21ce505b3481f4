"""A sweep's figures: who is compared with whom, what is significant, and the table, files and picture of it."""

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from edgeemu.report.comparison import FIGURES, comparison_table
from edgeemu.report.intervals import Interval
from edgeemu.report.seeds_comparison import seeds_comparison
from edgeemu.report.sweep import SweepDesign, SweptRun, cells_of, neighbors, sweep_document, tokens_equal
from edgeemu.report.sweep_figure import draw_sweep
from edgeemu.report.sweep_files import write_tables
from edgeemu.report.sweep_tables import gap_text, run_text, short_names, sweep_lines, sweep_table

SEEDS = tuple(range(3, 11))
NOISE = (0.0, 0.4, -0.3, 0.1, 0.5, -0.2, 0.3, -0.4)
DESIGN = SweepDesign(
    scenario="s",
    keys=("network.default.bandwidth", "devices[0].count"),
    points=(("1 Mbit/s", "2"), ("1 Mbit/s", "4"), ("1 Gbit/s", "2"), ("1 Gbit/s", "4")),
    policies=("lookahead", "edgeshard-throughput"),
    seeds=SEEDS,
    judged="tpot_ms",
    simulated=True,
    numbers={"network.default.bandwidth": {"1 Mbit/s": 1e6, "1 Gbit/s": 1e9}, "devices[0].count": {"2": 2.0, "4": 4.0}},
)


def run(point: tuple[str, ...], policy: str, seed: int, tpot_ms: float | None, tokens: str = "t") -> SweptRun:
    figures: dict[str, float | None] = dict.fromkeys((figure.key for figure in FIGURES), 1.0)
    figures |= {"tpot_ms": tpot_ms, "availability": None}
    return SweptRun(point, policy, seed, figures, "UNCHECKED", (), tokens, f"runs/swept/{policy}-{seed}")


def runs(means: Mapping[tuple[tuple[str, ...], str], float]) -> list[SweptRun]:
    """Runs with every seed, all with one noise, as equal draws bring it."""
    made = [
        run(point, policy, seed, mean + noise)
        for (point, policy), mean in means.items()
        for seed, noise in zip(SEEDS, NOISE, strict=True)
    ]
    return made[::-1]  # in whatever order they end


MEANS = {
    (point, policy): 10.0
    + (5.0 if point[0] == "1 Mbit/s" else 0.0)
    + (1.0 if policy == "edgeshard-throughput" else 0.0)
    for point in DESIGN.points
    for policy in DESIGN.policies
}


def test_policies_are_compared_with_the_best_of_their_point() -> None:
    cells = cells_of(DESIGN, runs(MEANS))
    assert [(cell.point, cell.policy) for cell in cells] == [(p, q) for p in DESIGN.points for q in DESIGN.policies]
    first, second = cells[:2]
    assert (first.best, second.best) == (True, False)
    assert second.gap is not None
    assert second.gap.value == pytest.approx(1 / 15.05)
    assert second.gap.differs_from_zero
    assert list(first.judged) == list(SEEDS)


def test_a_policy_alone_is_compared_with_its_best_point() -> None:
    design = DESIGN._replace(policies=("lookahead",))
    means = {key: mean for key, mean in MEANS.items() if key[1] == "lookahead"}
    cells = cells_of(design, runs(means))
    assert [cell.best for cell in cells] == [False, False, True, False]
    assert cells[0].gap is not None
    assert cells[0].gap.value == pytest.approx(5 / 10.05)
    assert cells[3].gap == Interval(0.0, 0.0, 0.0)


def test_more_is_better_of_throughput() -> None:
    design = DESIGN._replace(judged="throughput_tok_s")
    made = [
        each._replace(figures={**each.figures, "throughput_tok_s": 1000 / each.figures["tpot_ms"]})
        for each in runs(MEANS)
    ]  # type: ignore[operator]
    cells = cells_of(design, made)
    assert [cell.best for cell in cells[:2]] == [True, False]
    assert cells[1].gap is not None
    assert cells[1].gap.value > 0


def test_only_seeds_that_both_have_are_compared_and_what_failed_is_told() -> None:
    made = [
        each._replace(problem="no room", figures={}, certificate=None, status=3)
        if each.policy == "edgeshard-throughput" and each.point == DESIGN.points[0] and each.seed < 5
        else each
        for each in runs(MEANS)
    ]
    cells = cells_of(DESIGN, made)
    assert len(cells[1].judged) == len(SEEDS) - 2
    assert cells[1].gap is not None
    own = [15 + noise for noise in NOISE[2:]]
    assert cells[1].gap.value == pytest.approx(len(own) / sum(own))
    text = "1 Mbit/s, 2, edgeshard-throughput: did not run with 2 seeds of 8: no room"
    assert list(sweep_lines(DESIGN, cells))[-1] == text
    row = sweep_document(DESIGN, cells)["points"][1]
    assert (row["runs"], row["failed"]) == (6, 2)


def test_values_between_which_nothing_changes_are_found() -> None:
    found = {
        (each.key, each.policy): (each.level, each.compared)
        for each in neighbors(DESIGN, cells_of(DESIGN, runs(MEANS)))
    }
    assert found["network.default.bandwidth", "lookahead"] == (0, 2)
    assert found["devices[0].count", "lookahead"] == (2, 2)
    lines = list(sweep_lines(DESIGN, cells_of(DESIGN, runs(MEANS))))
    level = (
        "no significant difference between count 2 and 4: lookahead (2 of 2 pairs), edgeshard-throughput (2 of 2 pairs)"
    )
    assert level in lines
    assert not any("bandwidth 1 Mbit/s and" in line for line in lines)


def test_what_is_no_significant_difference_is_said_so() -> None:
    made = runs(MEANS)
    noisy = [
        each._replace(figures={**each.figures, "tpot_ms": 15.05 + (1.0 if each.seed % 2 else -0.99)})
        if each.policy == "lookahead" and each.point == DESIGN.points[0]
        else each._replace(figures={**each.figures, "tpot_ms": 15.1})
        for each in made
    ]
    cells = cells_of(DESIGN, noisy)
    rows = sweep_table(DESIGN, cells).rows
    assert rows[0][-1] == "best"
    assert rows[1][-1].endswith(" n.s.")
    assert rows[2][-1] == "best"
    assert rows[3][-1] == "equal"
    lines = list(sweep_lines(DESIGN, cells))
    assert "n.s.: no significant difference from the best of its point; pairs of equal seeds were compared" in lines
    assert any("of so few seeds it is too narrow" in line for line in lines)


def test_the_table_fits_80_columns() -> None:
    table = sweep_table(DESIGN, cells_of(DESIGN, runs(MEANS)))
    assert list(table.columns) == [">bandwidth", ">count", "policy", ">per token [ms]", ">vs best"]
    widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
    assert sum(widths) + 3 * len(widths) + 1 <= 80
    assert table.rows[0][3] == "15.1 (14.8–15.3)"


def test_long_values_have_letters_in_the_table() -> None:
    long = "{bandwidth: 1 Gbit/s, delay: 1 ms}"
    design = DESIGN._replace(keys=("network.default",), points=((long,), ("wifi-5",)), policies=("layers",), numbers={})
    cells = cells_of(design, runs({((long,), "layers"): 1.0, (("wifi-5",), "layers"): 2.0}))
    table = sweep_table(design, cells)
    assert list(table.columns) == [">default", ">per token [ms]", ">vs best"]
    assert [row[0] for row in table.rows] == ["A", "B"]
    assert list(sweep_lines(design, cells))[:2] == [f"default A: {long}", "default B: wifi-5"]


def test_short_names_tell_keys_apart() -> None:
    keys = ("devices[0].count", "devices[1].count", "network.default.delay", "seed")
    assert list(short_names(keys).values()) == ["devices[0].count", "devices[1].count", "delay", "seed"]


def test_verdicts_that_need_words_are_told_once_for_reasons_alike() -> None:
    made = [each._replace(certificate="WARN", reasons=(f"late by {each.seed}.5 %",)) for each in runs(MEANS)[:3]]
    lines = list(sweep_lines(DESIGN, cells_of(DESIGN, [*made, *runs(MEANS)[3:]])))
    assert "certificates: 61 UNCHECKED, 3 WARN" in lines
    told = "WARN, 3 runs, such as runs/swept/edgeshard-throughput-8: late by 8.5 %"
    assert told in lines


def test_a_comparison_of_seeds_has_means_intervals_and_gaps_of_pairs() -> None:
    design = DESIGN._replace(keys=(), points=((),), numbers={})
    made = runs({((), "lookahead"): 10.0, ((), "edgeshard-throughput"): 11.0})
    made[0] = made[0]._replace(problem="no room", figures={}, certificate=None, status=3)
    document = seeds_comparison(design, cells_of(design, made))
    first, second = document["policies"]
    assert (document["first"], first["policy"], first["gap"], first["significant"]) == (
        "lookahead",
        "lookahead",
        0.0,
        None,
    )
    tpot = first["figures"]["tpot_ms"]
    assert (tpot["least"], tpot["most"]) == (9.6, 10.5)
    assert tpot["low"] < tpot["mean"] < tpot["high"]
    assert second["significant"] is True
    assert 0 < second["gap_low"] < second["gap"] < second["gap_high"]
    assert (second["problem"], second["status"]) == ("did not run with 1 seed of 8: no room", 3)
    rows = comparison_table(document).rows
    assert rows[0][2] == f"10.1 ({tpot['low']:.1f}–{tpot['high']:.1f}) ms"
    assert rows[1][-2].startswith("+9.")


def test_texts_of_figures() -> None:
    assert Interval(45.12).text(1) == "45.1"
    assert Interval(45.12, 44.0, 46.26).text(1) == "45.1 (44.0–46.3)"
    assert gap_text(Interval(0.1, 0.05, 0.2), best=False) == "+10.0 %"
    assert gap_text(Interval(0.1), best=False) == "+10.0 %"
    assert gap_text(None, best=False) == "–"
    assert (
        run_text(DESIGN, run(("1 Mbit/s", "2"), "layers", 4, 12.345))
        == "bandwidth 1 Mbit/s, count 2, layers, seed 4: 12.3 ms"
    )


def test_tokens_differ_only_where_policies_disagree_on_one_draw() -> None:
    point = DESIGN.points[0]
    same = [run(point, "a", 1, 1.0, "x"), run(point, "b", 1, 1.0, "x"), run(point, "a", 2, 1.0, "y")]
    assert tokens_equal(same)
    assert not tokens_equal([*same, run(point, "b", 2, 1.0, "x")])


def test_files_have_all_runs_and_points(tmp_path: Path) -> None:
    cells = cells_of(DESIGN, runs(MEANS))
    write_tables(tmp_path, sweep_document(DESIGN, cells))
    points, made = pq.read_table(tmp_path / "points.parquet"), pq.read_table(tmp_path / "runs.parquet")
    assert (points.num_rows, made.num_rows) == (8, 8 * len(SEEDS))
    assert points["devices[0].count"].to_pylist()[:4] == [2, 2, 4, 4]
    assert points["network.default.bandwidth"][0].as_py() == "1 Mbit/s"
    assert points["gap"][1].as_py() == pytest.approx(1 / 15.05)
    assert points["significant"].to_pylist()[:2] == [None, True]
    assert made["seed"].to_pylist()[:8] == list(SEEDS)
    assert json.loads(points.schema.metadata[b"units"])["throughput_tok_s"] == "tokens/s"
    assert json.loads(points.schema.metadata[b"sweep"])["judged_by"] == "tpot_ms"
    for name, table in (("points", points), ("runs", made)):
        read = csv.read_csv(tmp_path / f"{name}.csv")
        assert read.column_names == table.column_names
        assert read["tpot_ms"].to_pylist() == table["tpot_ms"].to_pylist()


def test_the_picture_has_a_line_for_each_policy_and_a_panel_for_each_other_value(tmp_path: Path) -> None:
    files = [tmp_path / f"sweep.{suffix}" for suffix in ("svg", "png", "pdf")]
    draw_sweep(DESIGN, cells_of(DESIGN, runs(MEANS)), files)
    assert [file.read_bytes()[:5] for file in files[1:]] == [b"\x89PNG\r", b"%PDF-"]
    svg = files[0].read_text()
    for text in ("count 2", "count 4", "network.default.bandwidth", "per token (ms)", "lookahead", "95 % intervals"):
        assert f">{text}" in svg or text in svg, text
    assert svg.count(">1 Gbit/s<") == 2


def test_names_with_dollars_are_no_formulas_on_the_picture(tmp_path: Path) -> None:
    names = {"lookahead": "$5_{.py:decide", "edgeshard-throughput": "$6^}.py:decide"}
    made = [each._replace(policy=names[each.policy]) for each in runs(MEANS)]
    design = DESIGN._replace(scenario="$a$ and $b", policies=tuple(names.values()))
    draw_sweep(design, cells_of(design, made), [tmp_path / "sweep.svg"])
    svg = (tmp_path / "sweep.svg").read_text()
    for text in (*names.values(), "$a$ and $b: mean of 8 seeds"):
        assert f">{text}" in svg, text
