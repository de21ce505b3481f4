"""One case of chaos: a scenario with faults, drawn by a seed, and what must hold of its run."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pytest

from edgeemu.errors import InfeasibleError
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.report.critical.critical_path import TimePart, critical_paths
from edgeemu.report.rows import GIVEN_UP, OperationRow
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.run.backend import Backend
from edgeemu.run.choose_links import LinkChoice
from edgeemu.run.controller import Controller
from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario
from support.moving import Redivide, reference_tokens

POLICIES = ("layers", "lookahead", "resource-aware", "galaxy", "round-robin", "mdi", "exo-ring", "shuffle", "redivide")
KINDS = ("crash", "leave", "out of memory", "reboot", "hang", "short hang", "join")
LAYER_KIB, ENDS_KIB = 37, 40  # the weights of a layer, and all else that one device needs
SHORT_S = 0.03
END_S = 0.8  # about when these runs end without faults


@dataclass(frozen=True)
class Case:
    """A scenario's text, its policy, and the seed that drew them."""

    seed: int
    text: str
    policy: str


def case_of(seed: int) -> Case:
    """Draw a case: two to five devices, one to three sequences, one to three faults."""
    draw = random.Random(seed)
    n_devices, n_prompts = draw.randint(2, 5), draw.randint(1, 3)
    prompts = ", ".join(f"{{tokens: {draw.randint(1, 9)}}}" for _ in range(n_prompts))
    n_layers = draw.randint(1, 3)
    memory = _memory(random.Random(f"{seed}: memory"), n_layers, n_devices)
    lines = [
        "name: chaos",
        f"seed: {seed}",
        f"model: {{shape: {{n_layers: {n_layers}, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4,",
        f"  d_ff: 64, vocab_size: 100, max_context: 64, tied_embeddings: {draw.choice(['true', 'false'])}}}}}",
        "devices:",
        *(_device(draw, number, memory) for number in range(n_devices)),
        f"network: {{default: {{bandwidth: {draw.choice([5, 20])} Mbit/s, delay: {draw.choice([0, 2])} ms}}}}",
        f"sharding: {{collectives: {draw.choice(['ring', 'star'])}}}",
        f"workload: {{prompts: [{prompts}], max_tokens: {draw.randint(4, 9)},",
        f"  concurrency: {draw.randint(1, n_prompts)}}}",
        "time: {mode: virtual}",
        f"decisions: {{time: 0 ms, interval: {draw.randint(1, 3)}}}",
        f"migration: {{mode: {draw.choice(['pause', 'precopy'])}, weights_on_flash: {draw.choice(['true', 'false'])},",
        "  flash_bandwidth: 20 MB/s}",
        f"recovery: {{caches: {_caches(draw, n_devices)}, weights: {draw.choice(['flash', 'd0'])},",
        f"  heartbeat: {{interval: 50 ms, misses: {draw.randint(1, 3)}}}}}",
        "faults:",
        *_faults(draw, n_devices),
        *_more_faults(random.Random(f"{seed}: more"), n_devices),
        *_precision(random.Random(f"{seed}: precision")),
    ]
    return Case(seed, "\n".join(lines) + "\n", draw.choice(POLICIES))


def _caches(draw: random.Random, n_devices: int) -> str:
    return draw.choice(["reprefill", "replicate", "replicate, replicas: 2" if n_devices > 2 else "replicate"])


def _memory(draw: random.Random, n_layers: int, n_devices: int) -> str:
    """Plenty; or so little that one device less has room for all only in some orders, or none."""
    if draw.random() < 0.8:
        return "8 MiB"
    return f"{ENDS_KIB + draw.uniform(1.1, 1.6) * n_layers * LAYER_KIB / max(1, n_devices - 1):.0f} KiB"


def _device(draw: random.Random, number: int, memory: str) -> str:
    rate, overhead = draw.choice([50, 100]), draw.choice(["", ", message_overhead: 20 us"])
    return f"  - {{name: d{number}, gflops: 1 GFLOPS, mem_bandwidth: {rate} MB/s, memory: {memory}{overhead}}}"


def _faults(draw: random.Random, n_devices: int) -> Iterator[str]:
    """Faults of different devices. d0 never joins, so that there is a source."""
    for device in draw.sample(range(n_devices), draw.randint(1, min(3, n_devices))):
        kind = draw.choice(KINDS if device else KINDS[:-1])
        when = f"at: {draw.randint(1, int(1000 * END_S))} ms"
        if draw.random() < 0.3 and kind != "join":
            when = f"at_token: {draw.randint(0, 3)}"
        ends = f", for: {draw.randint(1, 400)} ms" if kind == "reboot" or draw.random() < 0.3 else ""
        ends = f", for: {int(1000 * SHORT_S)} ms" if kind == "short hang" else ends
        ends = "" if kind in ("join", "out of memory") else ends
        yield f"  - {{{when}, device: d{device}, fault: {kind.removeprefix('short ')}{ends}}}"
    a, b = draw.sample(range(n_devices), 2)
    at, ends = f"at: {draw.randint(1, int(1000 * END_S))} ms", draw.choice(["", f", for: {draw.randint(1, 400)} ms"])
    match draw.choice(["none", "none", "down", "stall", "loss", "partition"]):
        case "down" | "stall" as kind:
            yield f"  - {{{at}, link: [d{a}, d{b}], fault: {kind}{ends}}}"
        case "loss":
            yield f"  - {{{at}, link: [d{a}, d{b}], fault: loss, loss: {draw.choice([10, 60])} %, for: 200 ms}}"
        case "partition":
            yield f"  - {{{at}, partition: [[d{a}], [d{b}]]{ends}}}"


def _more_faults(draw: random.Random, n_devices: int) -> Iterator[str]:
    """Faults of any devices, again and again: also of one that is gone, or stands still, and of links that are down."""
    for _ in range(draw.choice([0, 0, 0, 1, 2, 3])):
        rate, ends = f"rate: {draw.choice([3600, 20000])} per hour", f"for: {draw.randint(1, 300)} ms"
        kind = draw.choice(["crash", "reboot", "hang", "hang", "down"])
        ends = f", {ends}" if kind in ("reboot", "down") or draw.random() < 0.8 else ""
        a, b = draw.sample(range(n_devices), 2)
        yield f"  - {{{rate}, {f'link: [d{a}, d{b}]' if kind == 'down' else f'device: d{a}'}, fault: {kind}{ends}}}"


def _precision(draw: random.Random) -> Iterator[str]:
    """Formats that round rows in a third of the cases: then a last bit that differs anywhere soon is another token."""
    if draw.random() < 0.35:
        cache, messages = draw.choice([("f16", "f32"), ("f32", "bf16"), ("bf16", "bf16"), ("f16", "f16")])
        weights = draw.choice(["f32", "q8_0", "q4_0"])
        yield f"precision: {{weights: {weights}, cache: {cache}, messages: {messages}}}"


class Anywhere:
    """A policy that has some blocks, of any kind, go to any device that has memory."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def __call__(self, view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        there = [device for device, room in enumerate(view.memory_bytes.tolist()) if room]
        return Placement(
            {
                block: self._draw.choice(there) if device not in there or self._draw.random() < 0.3 else device
                for block, device in sorted(current.owner.items())
            }
        )


def plan_of(case: Case) -> Plan:
    """Make the plan of a case. Two of its policies are tests' own: blocks, and shards, go anywhere at any decision."""
    if case.policy not in ("shuffle", "redivide"):
        return make_plan(parse_scenario(case.text, "chaos"), case.policy)
    plan = make_plan(parse_scenario(case.text, "chaos"), "layers")
    anywhere = Anywhere(case.seed) if case.policy == "shuffle" else Redivide(case.seed, len(plan.cluster.devices))
    return replace(plan, decide=anywhere, placer=anywhere)


def tokens_of(plan: Plan, devices: Backend) -> tuple[dict[int, list[int]], RowsInMemory]:
    """Run a plan; return the tokens by sequence, and the records."""
    records = RowsInMemory()
    asyncio.run(Controller(plan, devices, Silent(), records).run())
    return by_sequence(records), records


def by_sequence(records: RowsInMemory) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row in records.rows["tokens"]:
        found.setdefault(row.sequence, []).append(row.token)
    return found


def run_case_over(links: LinkChoice, case: Case) -> None:
    """Run a case over links of the kernel, by the wall clock. The text is the reference's; or there is no room."""
    text = case.text.replace("mode: virtual", "mode: realtime, dilation: 3")
    with suppress(InfeasibleError):
        devices = ProcessBackend(plan_of(replace(case, text=text)), lambda *_: None, links=links)
        tokens, records = tokens_of(devices.plan, devices)
        assert tokens == dict(enumerate(reference_tokens(devices.plan)))
        assert {row.outcome for row in records.rows["recoveries"]} <= {"recovered"}


def run_case(case: Case) -> None:
    """Run a case on devices. The text is the reference's, and the timeline the simulator's; or both say the same."""
    try:
        plan = plan_of(case)
    except InfeasibleError:
        return  # without the devices that join later there is no room
    simulated = None
    with suppress(InfeasibleError):
        _, simulated = tokens_of(plan, SimulatedBackend(plan))
    devices = ProcessBackend(plan_of(case), lambda *_: None)
    try:
        tokens, records = tokens_of(devices.plan, devices)
    except InfeasibleError:
        assert simulated is None, "only devices had no room"
        return
    assert simulated is not None, "only the simulator had no room"
    assert tokens == dict(enumerate(reference_tokens(devices.plan)))
    assert records.rows["recoveries"] == simulated.rows["recoveries"]
    assert [row.emulated_s for row in records.rows["tokens"]] == [row.emulated_s for row in simulated.rows["tokens"]]
    assert_counted_alike(records, simulated)


def assert_counted_alike(records: RowsInMemory, simulated: RowsInMemory) -> None:
    """Costs are what the simulator says: operations, energy and bytes, also of steps that were given up."""

    def given_up(of: RowsInMemory) -> list[OperationRow]:
        return sorted(row._replace(cpu_s=0.0) for row in of.rows["ops"] if row.step == GIVEN_UP)

    def spent(of: RowsInMemory) -> dict[tuple[str, int, int], list[float]]:
        found: dict[tuple[str, int, int], list[float]] = {}
        for row in of.rows["devices"]:
            found.setdefault(row[:3], []).append(row.busy_s)
        return {key: sorted(busy_s) for key, busy_s in found.items()}

    assert given_up(records) == given_up(simulated)
    assert sorted(records.rows["links"]) == sorted(simulated.rows["links"])
    devices = spent(records)
    assert devices.keys() == (foretold := spent(simulated)).keys()
    for key, busy_s in devices.items():
        assert busy_s == pytest.approx(foretold[key])
    for each in (records, simulated):
        assert_sums_are_true(each)


def assert_sums_are_true(records: RowsInMemory) -> None:
    """Operations and devices are the same work, and critical paths add up and know all."""
    by_table = [defaultdict[str, float](float), defaultdict[str, float](float)]
    for row in records.rows["ops"]:
        if row.block not in ("send", "receive") or row.op >= 0:
            by_table[0][row.device] += row.end_s - row.start_s
    for row in records.rows["devices"]:
        by_table[1][row.device] += row.busy_s
    assert by_table[0] == pytest.approx(by_table[1])
    paths = critical_paths(records)
    assert np.bincount(paths.token, paths.spent_s, len(paths.step)) == pytest.approx(paths.latency_s, abs=1e-9)
    assert TimePart.UNKNOWN not in paths.part
