"""Several sequences at once: each one's text is the reference's, whoever runs beside it, and time is as simulated."""

import random
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from support.builders import scattered
from support.clusters import cluster, run_side_by_side
from support.several import SAMPLED, SCENARIO, make, reference_tokens, simulated, tokens_of
from support.watching import RecordedRun

from edgeemu.errors import InfeasibleError
from edgeemu.report.record_files import read_table
from edgeemu.report.summary_tables import summary_lines, summary_tables
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

ROUNDING_S = 1e-12  # of a beginning, which is computed from the first token and its latency
SYSTEMS = ("mdi", "edgeshard-latency", "edgeshard-throughput", "lookahead")


@pytest.mark.parametrize("mode", ["virtual", "realtime"])
def test_every_text_is_the_references_however_many_run_at_once(mode: str) -> None:
    greedy, drawn = reference_tokens(make()), reference_tokens(make(SAMPLED))
    plans = [
        make(f"time.mode={mode}", "time.dilation=1", f"workload.concurrency={n}", f"policy={policy}", *how)
        for n in (1, 3, 8)
        for policy in ("layers", "round-robin", "galaxy", *(SYSTEMS if mode == "virtual" else ()))
        for how in ((), (SAMPLED,))
    ]

    def check(plan: Plan, made: RecordedRun) -> None:
        assert tokens_of(made) == (drawn if plan.scenario.workload.sampling.temperature else greedy)
        assert most_at_once(made) == plan.concurrency

    async def main() -> None:
        async with cluster(plans[0]) as run:
            for plan in plans:
                check(plan, await run(plan))

    uvloop.run(run_side_by_side(plans, check) if mode == "virtual" else main())


def most_at_once(controller: RecordedRun) -> int:
    """Sequences that were open at the same time, at most. One that begins as another ends is not beside it."""
    begun = sorted(row.emulated_s - row.latency_s for row in controller.tokens if row.step == 0)
    last = {row.sequence: row.emulated_s - ROUNDING_S for row in controller.tokens}
    return max(sum(end_s > begin_s for end_s in last.values()) - sum(b > begin_s for b in begun) for begin_s in begun)


@pytest.mark.parametrize("pipeline", ["bubbles", "no-bubbles"])
@pytest.mark.parametrize("concurrency", [1, 3, 8])
@pytest.mark.parametrize("policy", ["layers", "round-robin", "galaxy"])
def test_virtual_time_is_what_is_simulated_and_predicted(pipeline: str, concurrency: int, policy: str) -> None:
    plan = make(f"workload.concurrency={concurrency}", f"workload.pipeline={pipeline}", f"policy={policy}")
    plan = replace(plan, decide=None)

    async def main() -> RecordedRun:
        async with cluster(plan) as run:
            return await run(plan)

    made, again = uvloop.run(main()), simulated(plan)
    assert [row[:2] for row in again.tokens] == [row[:2] for row in made.tokens]
    assert [row.emulated_s for row in again.tokens] == [row.emulated_s for row in made.tokens]
    ops = [(row.device, row.sequence, row.step, row.start_s, row.end_s) for row in made.ops]
    assert sorted(ops) == sorted((r.device, r.sequence, r.step, r.start_s, r.end_s) for r in again.ops)
    for sequence, times in enumerate(plan.predictions()):
        rows = [row for row in again.tokens if row.sequence == sequence]
        assert times.sampled_s == [row.emulated_s for row in rows]
        assert times.ttft_s == pytest.approx(rows[0].latency_s)


def test_with_bubbles_steps_go_together_and_without_they_do_not_wait() -> None:
    """A step goes when the one before has its token; with bubbles, when the last of all in flight has."""
    started: dict[str, list[list[float]]] = {}
    for pipeline in ("bubbles", "no-bubbles"):
        plan = make("workload.concurrency=3", "policy=layers", f"workload.pipeline={pipeline}")
        made = simulated(plan)
        sampled = {(row.sequence, row.step): row.emulated_s for row in made.tokens}
        began = {(op.sequence, op.step): op.ready_s for op in made.ops if op.block == "embed"}
        waited = [began[key] - sampled[key[0], key[1] - 1] for key in began if key[1] > 0]
        started[pipeline] = [waited, [max(sampled.values())]]
    assert max(started["no-bubbles"][0]) < 0.02
    assert max(started["bubbles"][0]) > max(started["no-bubbles"][0])
    assert started["bubbles"][1] > started["no-bubbles"][1]


def test_a_pipeline_of_three_is_faster_with_three_sequences_at_once() -> None:
    plans = [make(f"workload.concurrency={n}", "policy=layers") for n in (1, 3)]
    spans = [max(row.emulated_s for row in simulated(plan).tokens) for plan in plans]
    assert spans[1] < 0.6 * spans[0]


@pytest.mark.parametrize("mode", ["virtual", "realtime"])
@pytest.mark.parametrize("concurrency", [1, 3, 8])
@pytest.mark.parametrize("policy", ["layers", "galaxy"])
def test_devices_never_need_more_memory_than_was_planned(mode: str, concurrency: int, policy: str) -> None:
    """Each has to the byte what the plan says that it will hold, for as many sequences as run at once."""
    plan = make(f"time.mode={mode}", f"workload.concurrency={concurrency}", f"policy={policy}")
    tight = copy(plan.cluster)
    tight.devices = tuple(
        replace(device, memory_bytes=page.total_bytes)
        for device, page in zip(plan.cluster.devices, plan.pages, strict=True)
    )
    plan = replace(plan, cluster=tight)
    processes = ProcessBackend(plan, Silent().phase)
    made = RecordedRun(plan, processes)
    uvloop.run(made.run())
    assert tokens_of(made) == reference_tokens(plan)
    for page, device in zip(plan.pages, tight.devices, strict=True):
        assert 0 < processes.measured.peak_bytes[device.name] <= page.total_bytes


def test_a_plan_for_several_sequences_needs_room_for_their_caches() -> None:
    alone = make("policy=single")
    room = f"devices[0].memory={max(page.total_bytes for page in alone.pages)} B"
    others = "devices[1].memory=1 kB"
    assert make(room, others, "policy=single").placement == alone.placement
    with pytest.raises(InfeasibleError, match="no single device can hold"):
        make(room, others, "policy=single", "workload.concurrency=2")


def test_a_run_says_how_each_sequence_and_all_together_did(tmp_path: Path) -> None:
    """Two slots, one request too many: it waits. The figures of summary.json are those of the rows."""
    settings = (
        "workload.prompts=[{tokens: 3, repeat: 3}]",
        "workload.concurrency=2",
        "workload.arrivals={trace: [10 ms, 11 ms, 12 ms]}",
        "workload.latency_target={ttft: 30 ms}",
        "policy=layers",
    )
    scenario = parse_scenario(SCENARIO, "several", settings)
    made = uvloop.run(run_scenario(scenario, policy=None, out=tmp_path, observer=Silent()))
    summary, rows = made.summary, read_table(made.directory, "sequences").to_pylist()
    tokens = read_table(made.directory, "tokens").to_pylist()
    assert sorted(rows, key=lambda row: row["sequence"]) == summary["sequences"]
    for n, row in enumerate(summary["sequences"]):
        own = [token for token in tokens if token["sequence"] == n]
        assert row["tokens"] == len(own) == 6
        assert row["arrival_s"] == pytest.approx(0.010 + 0.001 * n)
        assert row["ttft_s"] == own[0]["latency_s"] == pytest.approx(own[0]["emulated_s"] - row["arrival_s"])
        assert row["tpot_s"] == pytest.approx(sum(token["latency_s"] for token in own[1:]) / 5)
        assert row["end_s"] == own[-1]["emulated_s"]
        assert (row["ended_by"], row["good"]) == ("length", row["ttft_s"] <= 0.030)
    first, second, third = summary["sequences"]
    assert first["queue_s"] == second["queue_s"] == 0.0
    assert third["start_s"] == min(first["end_s"], second["end_s"]) == pytest.approx(0.012 + third["queue_s"])
    makespan_s = max(row["end_s"] for row in rows) - 0.010
    assert summary["makespan_s"] == pytest.approx(makespan_s)
    assert summary["throughput_tok_s"] == pytest.approx(18 / makespan_s)
    met = sum(row["good"] for row in rows)
    assert 0 < met < 3
    assert summary["goodput"] == {"sequences_per_s": pytest.approx(met / makespan_s), "met": met, "of": 3}
    predicted = summary["predicted"]
    assert predicted["makespan_s"] == pytest.approx(makespan_s)
    assert predicted["ttft_ms"] == pytest.approx(summary["ttft_ms"]["mean"])
    assert predicted["tpot_ms"] == pytest.approx(summary["tpot_ms"]["mean"])
    assert "queued" in summary_tables(summary)[0].columns[2]


def test_why_one_sequence_gains_nothing_from_a_pipeline_is_said(tmp_path: Path) -> None:
    """One alone has one of three devices at work at a time; three have more."""
    idle = []
    for n in (1, 3):
        settings = (f"workload.concurrency={n}", "policy=layers", "workload.prompts=[{tokens: 3, repeat: 6}]")
        scenario = parse_scenario(SCENARIO, "several", settings)
        running = run_scenario(scenario, policy=None, out=tmp_path, observer=Silent(), simulate=True)
        summary = uvloop.run(running).summary
        idle.append(summary["idle"])
        (line,) = [line for line in summary_lines(summary) if "idle" in line]
        assert line.startswith(f"devices idle {100 * summary['idle']['min']:.0f}–{100 * summary['idle']['max']:.0f} %")
        assert line.endswith("with one sequence a pipeline has one device at work at a time") == (n == 1)
    assert idle[0]["at_work"] < 1 < idle[1]["at_work"]


def test_a_text_does_not_depend_on_who_runs_beside_it() -> None:
    """Requests with seeds of their own, in any order, with any other sequences, with any placement."""
    draw = random.Random(8)
    base = make(SAMPLED, "workload.concurrency=8")
    expected = dict(zip(base.requests, reference_tokens(base), strict=True))
    assert len({tuple(tokens) for tokens in expected.values()}) > 8

    async def main() -> None:
        async with cluster(base) as run:
            for _ in range(12):
                chosen = draw.sample(base.requests, draw.randint(1, len(base.requests)))
                scenario = make(SAMPLED, f"workload.concurrency={draw.randint(1, 8)}").scenario
                placement = scattered(base.model.shape, 3, draw.randrange(99))
                plan = replace(base, scenario=scenario, requests=tuple(chosen), placement=placement, decide=None)
                assert tokens_of(await run(plan)) == [expected[request] for request in chosen]

    uvloop.run(main())
