"""Divisions of published systems on real processes: the reference's tokens, and bytes and times as they are planned."""

import numpy as np
import pytest
import uvloop
from support.clusters import cluster
from support.in_time import in_time
from support.watching import RecordedRun

from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES
from edgeemu.placement.operation_costs import message_bytes, message_s
from edgeemu.placement.placement import is_divided
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario
from edgeemu_kernels.decoder import Decoder
from edgeemu_kernels.reference import Reference

SCENARIO = """
model: {{shape: {shape}, weights_seed: 3}}
devices:
  - {{name: n, count: {n}, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 16 MiB, overhead: 10 us}}
network:
  default: {{bandwidth: 50 Mbit/s, delay: 0.3 ms}}
policy: {policy}
precision: {precision}
workload:
  prompts: [{{tokens: 1}}, {{tokens: 9}}]
  max_tokens: 4
time: {{mode: virtual}}
decisions: {{time: 0 ms}}
"""
LLAMA = (
    "{n_layers: 4, d_model: 128, n_heads: 8, n_kv_heads: 4, head_dim: 16, d_ff: 384, vocab_size: 200, max_context: 64}"
)
GPT2 = (
    "{n_layers: 4, d_model: 128, n_heads: 4, n_kv_heads: 4, head_dim: 32, d_ff: 256, vocab_size: 200, max_context: 64, "
    "norm: layer, activation: gelu, positions: learned, bias: true, tied_embeddings: true}"
)
POLICIES = ("distributed-llama", "distributed-llama-0.1", "llama.cpp-rpc", "exo-ring", "exo-tensor")
Q8_0 = 34 / 32  # bytes of a value


def make(policy: str, n: int, shape: str = LLAMA, precision: str = "{weights: f32}", *changes: str) -> Plan:
    text = SCENARIO.format(policy=policy, n=n, shape=shape, precision=precision)
    return make_plan(parse_scenario(text, "engines", changes))


async def simulated(plan: Plan) -> RecordedRun:
    controller = RecordedRun(plan, SimulatedBackend(plan))
    await controller.run()
    return controller


def run_all(plans: list[Plan]) -> list[RecordedRun]:
    """Run plans of the same devices and model one after the other."""

    async def main() -> list[RecordedRun]:
        async with cluster(plans[0]) as run:
            return [await run(plan) for plan in plans]

    return uvloop.run(main())


def texts(controller: RecordedRun, plan: Plan) -> list[list[int]]:
    return [[row.token for row in controller.tokens if row.sequence == s] for s in range(len(plan.requests))]


def decoded(plan: Plan) -> tuple[list[list[int]], list[np.ndarray]]:
    """Texts and logits of the undivided model, by its own kernels where rows are rounded, else by the reference."""
    source = plan.model.open_source()
    found, logits = [], []
    for request in plan.requests:
        ids = list(request.ids)
        if plan.model.shape.precision.messages == "f32":
            reference = Reference(source)
            text = reference.generate(ids, request.max_tokens)
            logits.append(reference.logits(ids + text[:-1])[len(ids) - 1 :])
        else:
            decoder, text = Decoder(source), []
            rows = [decoder.prefill(ids)]
            while len(text) < request.max_tokens:
                text.append(int(rows[-1].argmax()))
                rows.append(decoder.step(text[-1]))
            logits.append(np.stack(rows[:-1]))
        found.append(text)
    return found, logits


@pytest.mark.parametrize("precision", ["{weights: f32}", "{weights: q4_0}"])
@pytest.mark.parametrize("shape", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize("n", [2, 4])
def test_tokens_are_the_references_and_times_those_of_the_simulator(n: int, shape: str, precision: str) -> None:
    plans = [make(policy, n, shape, precision) for policy in POLICIES]
    for plan, ran in zip(plans, run_all(plans), strict=True):
        text, logits = decoded(plan)
        assert texts(ran, plan) == text, plan.policy
        for sequence, expected in enumerate(logits):
            np.testing.assert_allclose(np.stack(ran.logits[sequence]), expected, rtol=0, atol=1e-4)
        told = uvloop.run(simulated(plan))
        assert [row.latency_s for row in ran.tokens] == [row.latency_s for row in told.tokens]
        assert sorted(row[:6] for row in ran.ops) == sorted(row[:6] for row in told.ops)
        sent = [sorted(row[:6] for row in each.recorded.rows["links"]) for each in (ran, told)]
        assert sent[0] == sent[1]
        held = {row.device: row for row in ran.recorded.rows["devices"]}
        for device, page in zip(plan.cluster.devices, plan.pages, strict=True):
            assert held[device.name].weights_bytes == page.weights_bytes
            assert held[device.name].peak_bytes <= page.total_bytes


@pytest.mark.parametrize("shape", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_messages_of_q8_0_with_partial_sums_leave_the_text_as_it_is(shape: str) -> None:
    """Rows are rounded on the way, and as in `tools/bench/equality.py` all texts are equal where blocks are complete.

    Where partial sums are rounded too, every layer makes more of it: half of the texts, and logits are close.
    """
    precision = "{weights: q4_0, messages: q8_0}"
    plans = [make(policy, 4, shape, precision, "sharding.partials=messages") for policy in POLICIES]
    same: dict[bool, list[bool]] = {False: [], True: []}
    for plan, ran in zip(plans, run_all(plans), strict=True):
        text, logits = decoded(plan)
        found = texts(ran, plan)
        divided = is_divided(plan.placement, plan.model.shape.n_layers)
        same[divided] += [one == other for one, other in zip(found, text, strict=True)]
        for sequence, expected in enumerate(logits):
            first = np.stack(ran.logits[sequence])[0] - expected[0]
            assert np.abs(first).max() < 0.1 * np.abs(expected).max(), plan.policy
    assert all(same[False])
    assert sum(same[True]) >= 0.5 * len(same[True])


def test_several_sequences_at_once_are_the_references_too() -> None:
    """The root has the caches of both; messages of both wait on every device."""
    settings = ("workload.concurrency=2", "workload.prompts=[{tokens: 3}, {tokens: 9}, {tokens: 5}]")
    plans = [make(policy, 4, LLAMA, "{weights: f32}", *settings) for policy in POLICIES]
    for plan, ran in zip(plans, run_all(plans), strict=True):
        assert texts(ran, plan) == decoded(plan)[0], plan.policy
        assert [row.latency_s for row in ran.tokens] == [row.latency_s for row in uvloop.run(simulated(plan)).tokens]
        held = {row.device: row for row in ran.recorded.rows["devices"]}
        for device, page in zip(plan.cluster.devices, plan.pages, strict=True):
            assert held[device.name].peak_bytes <= page.total_bytes


@pytest.mark.alone  # a host that is late by more than a message takes changes the order of messages
@pytest.mark.parametrize(
    ("policy", "n", "changes"),
    [
        ("distributed-llama-0.1", 4, ()),
        ("llama.cpp-rpc", 4, ()),
        ("round-robin", 3, ("devices[0].message_overhead=2 ms",)),
    ],
)
def test_paced_tokens_are_the_references_and_take_the_time_that_is_simulated(
    policy: str, n: int, changes: tuple[str, ...]
) -> None:
    """In decoding a root or client gets its inputs one after the other."""

    def plan_of(dilation: int) -> Plan:
        paced = ("time.mode=realtime", f"time.dilation={dilation}", "workload.prompts=[{tokens: 5}]")
        return make(policy, n, LLAMA, "{weights: f32}", *paced, *changes)

    def decode_s(run: RecordedRun) -> list[float]:
        return [row.latency_s for row in run.tokens[1:]]

    def on_processes(dilation: int) -> RecordedRun:
        (made,) = run_all([plan := plan_of(dilation)])
        assert texts(made, plan) == decoded(plan)[0]
        return made

    as_long = pytest.approx(decode_s(uvloop.run(simulated(plan_of(1)))), rel=1e-6)
    made = in_time(on_processes, lambda run: decode_s(run) == as_long, 2)
    assert decode_s(made) == as_long


def payload_bytes(ran: RecordedRun, step: int) -> tuple[int, int]:
    """Payload of one token's messages, without headers: from the first device, and to it."""
    rows = [row for row in ran.recorded.rows["links"] if row.step == step and row.sequence == 1]
    size = {row: row.bytes - MESSAGE_HEADER_BYTES * row.messages for row in rows}
    return sum(size[row] for row in rows if row.source == "n-1"), sum(size[row] for row in rows if row.target == "n-1")


@pytest.mark.parametrize("n", [2, 4])
def test_devices_send_as_many_bytes_as_distributed_llama(n: int) -> None:
    """The formulas of the published counts, for a small model of four layers, with K/V for every head.

    0.7: per layer two sums to the root and two back. 0.1: x three times, and the inner columns that a device lacks, to
    each; a share of q, k, v, projection, inner columns and result from each.
    """
    precision, shape = (
        "{weights: q4_0, messages: q8_0}",
        LLAMA.replace("n_heads: 8", "n_heads: 4").replace("head_dim: 16", "head_dim: 32"),
    )
    new, old = (
        make(policy, n, shape, precision, "sharding.partials=messages")
        for policy in ("distributed-llama", "distributed-llama-0.1")
    )
    ran = run_all([new, old])
    d, f, layers = 128, 384, 4
    each = 2 * layers * (n - 1) * d * Q8_0
    assert payload_bytes(ran[0], 2) == (each, each)
    out, back = 3 * d + f - f // n, (5 * d + f) // n
    assert payload_bytes(ran[1], 2) == (layers * (n - 1) * out * Q8_0, layers * (n - 1) * back * Q8_0)


# -- the published counts, from the compiled program of the real shapes ---------------------------------------------


def planned_bytes(policy: str, model: str, n: int) -> tuple[float, float]:
    """Payload of a decode step, in KiB: from the root, and to it."""
    text = SCENARIO.format(policy=policy, n=n, shape="{}", precision="{weights: q4_0, messages: q8_0}")
    text = text.replace("{shape: {}, weights_seed: 3}", model).replace("16 MiB", "64 GiB")
    plan = make_plan(parse_scenario(text, "engines", ("sharding.partials=messages",)))
    sent = [0.0, 0.0]
    for op in plan.program.ops:
        size = message_bytes(op, 1, plan.costs) - MESSAGE_HEADER_BYTES
        sent[op.device != 0] += sum(size for target in op.to if target != op.device and op.steps.has(1)) / 1024
        assert op.device == 0 or set(op.to) <= {0, op.device}
    return sent[0], sent[1]


@pytest.mark.parametrize(("n", "kib"), [(2, 544), (4, 1632), (8, 3808)])
def test_llama_3_8b_sends_what_distributed_llama_prints(n: int, kib: int) -> None:
    """github.com/b4rtaz/distributed-llama, discussions of 0.7 and later: kB sent and received per token, all nodes."""
    out, back = planned_bytes("distributed-llama", "llama-3-8b", n)
    assert out + back == kib
    assert out == back


@pytest.mark.parametrize(
    ("n", "out_kib", "back_kib"), [(2, 590.75, 522.75), (4, 2046.375, 784.125), (8, 5094.6875, 914.8125)]
)
def test_llama_2_7b_sends_what_distributed_llama_0_1_prints(n: int, out_kib: float, back_kib: float) -> None:
    """It prints them in whole KiB: 590 and 522, 2046 and 784, 5094 and 914."""
    assert planned_bytes("distributed-llama-0.1", "llama-2-7b", n) == (out_kib, back_kib)


BUSY = ("devices[0].message_overhead=0.3 ms", "devices[0].byte_overhead=20 ns")


@pytest.mark.parametrize("policy", ["galaxy", "round-robin", "llama.cpp-rpc", "distributed-llama-0.1"])
def test_messages_that_keep_processors_busy_take_the_time_that_is_simulated(policy: str) -> None:
    plan = make(policy, 2, LLAMA, "{weights: f32, messages: q8_0}", *BUSY)
    without = make(policy, 2, LLAMA, "{weights: f32, messages: q8_0}")
    ran, before = run_all([plan, without])
    told = uvloop.run(simulated(plan))
    assert texts(ran, plan) == texts(before, without)
    assert [row.latency_s for row in ran.tokens] == [row.latency_s for row in told.tokens]
    assert sorted(row[:6] for row in ran.ops) == sorted(row[:6] for row in told.ops)
    kinds = [row.block for row in ran.ops]
    assert kinds.count("send") == kinds.count("receive") > 0
    busy_s = sum(row.end_s - row.start_s for row in ran.ops if row.block in ("send", "receive"))
    paid = [op for op in plan.program.ops if op.moves_message]
    steps = [(request.max_tokens, len(request.ids)) for request in plan.requests]
    expected_s = sum(
        message_s(plan.computes[op.device], op, rows, plan.costs)
        for tokens, prompt in steps
        for step, rows in enumerate((prompt, *[1] * (tokens - 1)))
        for op in paid
        if op.runs_in(step, rows)
    )
    assert busy_s == pytest.approx(expected_s, rel=1e-9)
