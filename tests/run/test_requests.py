"""Requests: prompts from files, arrivals, ends of sequences; and the scheduler, without a run."""

import random
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK
from support.clusters import cluster
from support.gguf_files import SHAPE, byte_tokenizer, write
from support.model_directories import copied
from support.several import make, simulated

from edgeemu.cluster.draw.cluster import arrivals_s
from edgeemu.cluster.draw.resolve import resolve
from edgeemu.errors import RequestError
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.scenario.load import parse_scenario, to_yaml
from edgeemu.timeline.scheduler import Scheduler

TEXTS = """
model: {{gguf: {gguf}}}
devices: [{{name: laptop, gflops: 40 GFLOPS, mem_bandwidth: 12 GB/s, memory: 4 GiB}}]
policy: single
workload: {{prompts: {prompts}, chat: false, max_tokens: 24}}
time: {{mode: virtual}}
"""


def test_a_text_file_has_a_prompt_on_each_line(tmp_path: Path, smollm2_gguf: Path) -> None:
    (tmp_path / "questions.txt").write_text("Why is the sky blue?\n\n  And the sea?  \n")
    text = TEXTS.format(gguf=smollm2_gguf, prompts="questions.txt")
    plan = make_plan(parse_scenario(text, base=tmp_path))
    assert [request.prompt for request in plan.requests] == ["Why is the sky blue?", "And the sea?"]


def test_json_lines_say_more_of_each_prompt(tmp_path: Path, smollm2_gguf: Path) -> None:
    lines = [
        '{"prompt": "Once upon a time", "max_tokens": 9, "stop": [5, " the"], "seed": 40}',
        '{"tokens": 7, "repeat": 2}',
    ]
    (tmp_path / "mixed.jsonl").write_text("\n".join(lines))
    scenario = parse_scenario(TEXTS.format(gguf=smollm2_gguf, prompts="mixed.jsonl"), base=tmp_path)
    plan = make_plan(scenario)
    first, second, third = plan.requests
    assert (first.max_tokens, first.seed, first.stop_texts) == (9, 40, (" the",))
    assert plan.model.tokenizer is not None
    assert first.stop_ids == {5, *plan.model.tokenizer.encode(" the"), *plan.model.tokenizer.stop_ids}
    assert (second.max_tokens, second.seed, third.seed) == (24, 1, 2)
    assert len(second.ids) == len(third.ids) == 7
    assert second.ids != third.ids
    again = parse_scenario(to_yaml(resolve(scenario)), base=Path("/"))  # the file is not needed any more
    assert make_plan(again).requests == plan.requests


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "x"', "bad.jsonl:1: Expecting ',' delimiter at column 15"),
        ('["x"]', "bad.jsonl:1: is not an object"),
        ('{"promt": "x"}', 'bad.jsonl:1: unknown key "promt"'),
        ('{"prompt": "x", "tokens": 3}', "bad.jsonl:1: give exactly one of text and tokens"),
        ('\n\n{"prompt": 5}', "bad.jsonl:3: text: 5 is not text"),
        ('{"tokens": 1e3}', "bad.jsonl:1: tokens: 1000.0 is not a whole number"),
        ('{"tokens": NaN}', "bad.jsonl:1: NaN is not a JSON number"),
        ('{"tokens": 1000000000}', "bad.jsonl:1: tokens: 1000000000 is more than 10000000"),
        ('{"tokens": ' + "9" * 5000 + "}", "bad.jsonl:1: " + "9" * 20 + "… is a number of 5000 digits"),
        ('{"tokens": 5, "stop": ["a\\uDFff"]}', "bad.jsonl:1: has half of a character, as \\udfff"),
        ('{"tokens": 5, "tokens": 6}', 'bad.jsonl:1: the key "tokens" is here twice'),
        ('{"prompt": "x", "text": "x"}', 'bad.jsonl:1: "prompt" and "text" mean the same'),
        ("[" * 100_000, "bad.jsonl:1: nested too deeply"),
        ('{"prompt": "a\\ud800"}', "bad.jsonl:1: has half of a character, as \\ud800 is without the other half"),
        ('{"\\ud800": 1, "\\ud800": 2}', 'bad.jsonl:1: the key "\\ud800" is here twice'),
        ('{"max_tokens": "\\ude00"}', "bad.jsonl:1: has half of a character"),
        ('{"stop": [' + "1," * 600_000 + "1]}", "bad.jsonl:1: has 1,200,013 characters; at most 1,048,576 are read"),
        ("", "bad.jsonl: has no prompts"),
        ("\n \n", "bad.jsonl: has no prompts"),
        ("{}", "bad.jsonl:1: give exactly one of text and tokens"),
        ('{"prompt": ""}', "bad.jsonl:1: text: is empty"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "bad.jsonl").write_text(line)
    with pytest.raises(RequestError, match=re.escape(message)):
        parse_scenario(TEXTS.format(gguf=__file__, prompts="bad.jsonl"), base=tmp_path)


@pytest.mark.parametrize("name", ["requests.csv", "requests.TSV", "prompts.json", "prompts.parquet"])
def test_a_table_is_no_list_of_prompts(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("arrival,prompt_tokens,output_tokens\n0.0,120,16\n")
    with pytest.raises(RequestError, match=rf"{name}: a \.\w+ file is not read; .*in place of columns of lengths"):
        parse_scenario(TEXTS.format(gguf=__file__, prompts=name), base=tmp_path)


def test_a_byte_order_mark_and_carriage_returns_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "asked.txt").write_bytes("\ufeffWhy?\r\n\r\nHow?\r\n".encode())
    scenario = parse_scenario(TEXTS.format(gguf=__file__, prompts="asked.txt"), base=tmp_path)
    assert [prompt.text for prompt in scenario.workload.prompts] == ["Why?", "How?"]


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        ("{prompts: [{tokens: 1000000000}]}", "workload.prompts[0].tokens: 1000000000 is more than 10000000"),
        ("{prompts: [{tokens: 1, repeat: 1000000000}]}", "workload.prompts[0].repeat: 1000000000 is more than 100000"),
        ("{prompts: [x], max_tokens: 1000000000000}", "workload.max_tokens: 1000000000000 is more than 10000000"),
        ("{prompts: [x], concurrency: 1000000000}", "workload.concurrency: 1000000000 is more than 100000"),
        (
            "{prompts: [x, {tokens: 10000, repeat: 2000}]}",
            "workload.prompts[1]: the prompts up to this one are 20,000,000 tokens; at most 10,000,000 are",
        ),
        (
            "{prompts: [{text: x, repeat: 60000}, {text: y, repeat: 60000}]}",
            "workload.prompts[1]: the prompts up to this one are 120,000 sequences; at most 100,000 are",
        ),
    ],
)
def test_what_would_fill_the_memory_is_refused_with_its_place(workload: str, message: str) -> None:
    text = TEXTS.format(gguf=__file__, prompts="x.txt").partition("workload:")[0] + f"workload: {workload}"
    with pytest.raises(RequestError, match=re.escape(message)):
        parse_scenario(text)


def with_template(folder: Path, template: str) -> str:
    """Write a tiny model whose tokenizer adds BOS and whose chat template is this; return its scenario."""
    metadata = byte_tokenizer() | {"tokenizer.chat_template": template}
    shape = replace(SHAPE, vocab_size=len(metadata["tokenizer.ggml.tokens"]))
    write(folder / "tiny.gguf", shape, metadata=metadata)
    return TEXTS.format(gguf="tiny.gguf", prompts="[hello, hello]").replace("chat: false, ", "")


def test_a_chat_gets_no_bos_but_its_templates(tmp_path: Path) -> None:
    """As transformers does; a plain prompt has the BOS that the tokenizer adds."""
    text = with_template(tmp_path, "{{ messages[0].content }}!")
    plan, plain = (
        make_plan(parse_scenario(text, overrides=[f"workload.chat={chat}"], base=tmp_path))
        for chat in ("auto", "false")
    )
    assert [request.prompt_tokens for request in plan.requests] == [6, 6]
    assert [request.prompt_tokens for request in plain.requests] == [6, 6]
    assert plain.requests[0].ids == (0, *plan.requests[0].ids[:-1])


def test_a_template_writes_the_scenarios_date(tmp_path: Path) -> None:
    text = with_template(tmp_path, "{{ strftime_now('%Y-%m-%d') }}")
    dated = parse_scenario(text, overrides=["workload.date=2026-01-31"], base=tmp_path)
    plan = make_plan(dated)
    assert plan.model.tokenizer is not None
    assert plan.model.tokenizer.decode(plan.requests[0].ids) == "2026-01-31"
    assert make_plan(parse_scenario(to_yaml(resolve(dated)), base=tmp_path)).requests == plan.requests
    with pytest.raises(RequestError, match="writes the date"):
        make_plan(parse_scenario(text, base=tmp_path))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("workload.date='20260131'", 'workload.date: "20260131" is not a date like 2026-01-31'),
        ("workload.date=2026-02-31", 'workload.date: "2026-02-31" is not a date like 2026-01-31'),
        ("workload.system=x", "model: "),
    ],
)
def test_a_date_and_a_chat_that_cannot_be_are_refused(tmp_path: Path, setting: str, message: str) -> None:
    text = with_template(tmp_path, "{{ messages[0].content if messages[0].role == 'user' else raise_exception('no') }}")
    with pytest.raises(RequestError, match=re.escape(message)):
        make_plan(parse_scenario(text, overrides=[setting], base=tmp_path))


def plan_of(*changes: str) -> Plan:
    return make(*changes, "policy=layers")


def test_poisson_arrivals_are_drawn_from_the_seed_and_come_at_their_rate() -> None:
    many = ("workload.prompts=[{tokens: 2, repeat: 2000}]", "workload.arrivals={poisson: {rate: 120 /min}}")
    scenario = plan_of(*many).scenario
    instants = arrivals_s(scenario)
    assert instants == arrivals_s(plan_of(*many).scenario)
    assert instants != arrivals_s(plan_of(*many, "seed=6").scenario)
    gaps = [b - a for a, b in zip([0.0, *instants], instants, strict=False)]
    mean_s = sum(gaps) / len(gaps)
    assert mean_s == pytest.approx(0.5, rel=0.05)
    assert sum(gap > mean_s for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.03)  # 1/e, as exponential ones
    again = parse_scenario(to_yaml(resolve(scenario)))
    assert arrivals_s(again) == instants


@pytest.mark.parametrize("arrivals", ["{poisson: {rate: 1e-15 /s}}", "{trace: [0 s, 1e17 s]}"])
def test_arrivals_after_which_a_token_could_not_be_timed_are_refused(arrivals: str) -> None:
    with pytest.raises(RequestError, match=r"workload\.arrivals\..*later than 1e\+09 s"):
        plan_of("workload.prompts=[{tokens: 2, repeat: 2}]", f"workload.arrivals={arrivals}")


def test_a_trace_says_when_each_comes(tmp_path: Path) -> None:
    (tmp_path / "when.csv").write_text("# seconds\n0\n0.5\n700 ms\n")
    changes = ("workload.prompts=[{tokens: 3, repeat: 3}]", "workload.concurrency=2")
    plan = plan_of(*changes, f"workload.arrivals={{trace: {tmp_path}/when.csv}}")
    assert [request.arrival_s for request in plan.requests] == [0.0, 0.5, 0.7]
    made = simulated(plan)
    began = [row.emulated_s - row.latency_s for row in made.tokens if row.step == 0]
    assert began == pytest.approx([0.0, 0.5, 0.7])
    ops = {op.sequence: op.start_s for op in reversed(made.ops)}
    assert [ops[n] for n in range(3)] == pytest.approx([0.0, 0.5, 0.7])  # nobody had to wait


def test_who_finds_no_slot_waits_and_the_wait_counts() -> None:
    plan = plan_of("workload.prompts=[{tokens: 3, repeat: 3}]", "workload.arrivals={trace: [1 s, 1 s, 1 s]}")
    made = simulated(plan)
    first = [row for row in made.tokens if row.step == 0]
    ends = {row.sequence: row.emulated_s for row in made.tokens}
    alone_s = first[0].latency_s
    for n in (1, 2):
        assert first[n].latency_s == pytest.approx(ends[n - 1] - 1.0 + alone_s)


def test_a_stop_ends_a_sequence_and_may_be_ignored(smollm2_gguf: Path) -> None:
    """Token 7042 is " Paris", with which the answer begins; the text is in its middle, and of two tokens."""
    prompts = "[{text: The capital of France is, stop: [STOP]}]"
    texts = []

    async def main() -> None:
        for stop, ignore in (("7042", "false"), ("answer is", "false"), ("7042", "true")):
            text = TEXTS.format(gguf=smollm2_gguf, prompts=prompts.replace("STOP", stop))
            as_asked = [f"workload.ignore_stop={ignore}", "precision.weights=file"]
            plan = make_plan(parse_scenario(text, overrides=as_asked))
            async with cluster(plan) as run:
                texts.append("".join((await run(plan)).texts))

    uvloop.run(main())
    assert texts[0] == " Paris"
    assert texts[1].endswith("answer is")
    assert texts[2].startswith(texts[1])
    assert len(texts[2]) > len(texts[1])


# The schedule


@dataclass
class Asked:
    prompt_tokens: int
    arrival_s: float | None


@QUICK
@given(st.data())
def test_a_schedule_runs_all_in_order_and_never_more_than_it_may(data: st.DataObject) -> None:
    """Steps take any time; no slot is used twice, and nobody waits for a slot that is free."""
    concurrency, bubbles = data.draw(st.integers(1, 4)), data.draw(st.booleans())
    instants = st.floats(0, 9, allow_nan=False)
    closed = data.draw(st.booleans())
    count = data.draw(st.integers(1, 8))
    come = [None] * count if closed else sorted(data.draw(st.lists(instants, min_size=count, max_size=count)))
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    chance = random.Random(data.draw(st.integers(0, 99)))
    schedule = Scheduler([Asked(3, at_s) for at_s in come], concurrency, bubbles=bubbles)
    flying: dict[int, tuple[float, object]] = {}
    started, ended, made = {}, {}, dict.fromkeys(range(count), 0)
    while schedule.unfinished:
        for due in schedule.admit():
            assert due.step.step == 0
            started[due.step.sequence] = due.at_s
            assert due.at_s >= due.since_s
        for due in schedule.release():
            assert due.step.sequence not in flying
            flying[due.step.sequence] = due.at_s + chance.uniform(0.1, 2.0), due.step
        assert len(flying) <= concurrency
        arrival_s = schedule.next_arrival_s
        sequence, (at_s, step) = min(flying.items(), key=lambda item: item[1][0])
        if arrival_s is not None and arrival_s < at_s:
            schedule.advance_to(arrival_s)
            continue
        del flying[sequence]
        made[sequence] += 1
        over = made[sequence] == lengths[sequence]
        schedule.complete(step, at_s, ended=over)  # type: ignore[arg-type]
        if over:
            ended[sequence] = at_s
    assert list(made.values()) == lengths
    assert list(started) == sorted(started)
    for sequence, start_s in started.items():
        assert sum(started[n] <= start_s < ended[n] for n in started) <= concurrency
        ends = sorted(ended[n] for n in range(sequence))
        free_s = ends[sequence - concurrency] if sequence >= concurrency else 0.0
        assert start_s == max(come[sequence] or 0.0, free_s)


def test_the_last_token_needs_no_position(tmp_path: Path) -> None:
    """It is sampled, and never fed: 128 positions hold 121 tokens of prompt and 8 new ones."""
    copied(Path(__file__).parents[1] / "fixtures" / "golden_llama", tmp_path / "model", sliding_window=128)
    text = """
model: {{directory: model}}
devices: [{{name: laptop, gflops: 40 GFLOPS, mem_bandwidth: 12 GB/s, memory: 4 GiB}}]
policy: single
workload: {{prompts: [{{tokens: {tokens}}}], max_tokens: 8}}
"""
    [request] = make_plan(parse_scenario(text.format(tokens=121), base=tmp_path)).requests
    assert len(request.ids) == 121
    for tokens, positions in ((122, 129), (10**6, 1_000_007)):
        message = f"need {positions} positions, more than the context of model, limited by its sliding window of 128 "
        with pytest.raises(RequestError, match=message):
            make_plan(parse_scenario(text.format(tokens=tokens), base=tmp_path))
