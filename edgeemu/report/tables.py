"""A plan or a summary as documents and tables for people. Pure; knows no terminal and no files."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from edgeemu.blocks import Block, Costs, Kind, all_blocks, n_shards
from edgeemu.catalog import DeviceProfile, ModelEntry
from edgeemu.memory import Usage
from edgeemu.planning import Plan
from edgeemu.prediction import SequenceTimes
from edgeemu.units import BIT_RATE, BYTE_RATE, ENERGY, FLOP_RATE, POWER, SIZE
from edgeemu.workload import Request
from edgeemu_kernels.shape import ModelShape

MAX_SEQUENCES = 20  # that are listed; the rest is in sequences.parquet
MAX_DEVICES = 32  # whose memory is listed: if there are more, the fullest; the rest is in summary.json
MAX_RUNS = 4  # of layers that are listed; a placement more scattered than that is counted


class Table(NamedTuple):
    """Headings that start with ">" are of columns that are aligned to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def summary_tables(summary: Mapping[str, Any]) -> list[Table]:
    """The figures of summary.json that one looks at first."""
    keys = ("mean", "p50", "p95", "p99")
    latencies = {"time to first token": summary["ttft_ms"], "time per output token": summary["tpot_ms"]}
    by_the_clock = {"realtime": "the same, by the clock", "virtual": "by the clock, unpaced"}
    if summary["mode"] in by_the_clock:
        latencies[by_the_clock[summary["mode"]]] = summary["wall"]["tpot_ms"]
    times = [[name, *(_ms(values[key]) for key in keys)] for name, values in latencies.items()]
    return [
        *_sequence_tables(summary),
        Table(("emulated", *(f">{key}" for key in keys)), times),
        _memory_table(summary["memory"]["by_device"]),
    ]


def _memory_table(by_device: Mapping[str, Mapping[str, int]]) -> Table:
    shares = {name: used["peak_bytes"] / used["cap_bytes"] for name, used in by_device.items()}
    names = list(shares)
    if len(names) > MAX_DEVICES:
        names.sort(key=lambda name: shares[name], reverse=True)
        del names[MAX_DEVICES:]
    rows = [
        [name, size(by_device[name]["peak_bytes"]), size(by_device[name]["cap_bytes"]), f"{shares[name]:.0%}"]
        for name in names
    ]
    if len(shares) > len(rows):
        rows.append([f"and {len(shares) - len(rows)} less full", "", "", ""])
    return Table(("device", ">peak memory", ">of", ">used"), rows)


def _sequence_tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    """Each sequence by itself, where they do not simply follow one another."""
    rows = summary["sequences"]
    if not rows or not (summary["concurrency"] > 1 or any(row["queue_s"] or row["good"] is not None for row in rows)):
        return
    shown = [
        [
            str(row["sequence"] + 1),
            _ms(1000 * row["arrival_s"]),
            _ms(1000 * row["queue_s"]),
            _ms(1000 * row["ttft_s"]),
            _ms(None if row["tpot_s"] is None else 1000 * row["tpot_s"]),
            str(row["tokens"]),
            {None: "", True: "yes", False: "no"}[row["good"]],
        ]
        for row in rows[:MAX_SEQUENCES]
    ]
    if len(rows) > MAX_SEQUENCES:
        shown.append([f"and {len(rows) - MAX_SEQUENCES} more", *[""] * 6])
    columns = ("prompt", ">came at", ">waited", ">first token", ">per token", ">tokens", "in time")
    judged = any(row["good"] is not None for row in rows)
    yield Table(columns, shown) if judged else Table(columns[:-1], [row[:-1] for row in shown])


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """What fits no table: throughput, and how far the figures can be trusted."""
    certificate = summary["certificate"]
    throughput = summary["throughput_tok_s"]
    tokens = sum(len(sequence) for sequence in summary["tokens"])
    rate = "" if throughput is None else f", {_number(throughput, 2)} a second"
    reasons = f": {'; '.join(certificate['reasons'])}" if certificate["reasons"] else ""
    return [
        f"{counted(tokens, 'token')}{rate}, by {summary['policy']} on {counted(summary['devices'], 'device')}",
        *_energy_lines(summary),
        *_goodput_lines(summary),
        *_idle_lines(summary),
        *_change_lines(summary),
        *([f"links: {summary['links']}"] if summary["links"] != "stamped" else []),
        f"certificate: {certificate['verdict']}{reasons}",
        *([f"weaker on this host: {'; '.join(weaker)} (see edgeemu doctor)"] if (weaker := summary["weaker"]) else []),
    ]


def _energy_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """What was drawn; where that is not known, why, if the scenario asks for it."""
    energy, show = summary["energy"], ENERGY.format_human
    budget_j = energy["budget_j"]
    if energy["per_token_j"] is not None:
        allowed = "" if budget_j is None else f" ({show(budget_j)} allowed)"
        yield f"energy: {show(summary['energy_j'])}, {show(energy['per_token_j'])} a token{allowed}"
    elif energy["missing"] and (budget_j is not None or summary["objective"] == "energy"):
        yield f"energy: {energy['missing']}"


def _goodput_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    if goodput := summary["goodput"]:
        rate = _number(goodput["sequences_per_s"], 2)
        yield f"goodput: {goodput['met']} of {counted(goodput['of'], 'sequence')} in time, {rate} a second"


def _idle_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """How busy devices were; and why, where no two were at work at the same time."""
    idle = summary["idle"]
    if not idle or len(idle["by_device"]) < 2:
        return
    low, high = f"{100 * idle['min']:.0f}", f"{100 * idle['max']:.0f}"
    why = ""
    if summary["concurrency"] == 1 and idle["at_work"] <= 1.0 + 1e-9:
        why = ": with one sequence a pipeline has one device at work at a time"
    yield f"devices idle {low if low == high else f'{low}–{high}'} % of the time{why}"


def _change_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """What the policy's decisions on the way have come to; nothing of a policy that was not asked again."""
    decisions, migrations = summary["decisions"], summary["migrations"]
    if decisions["count"]:
        moved = ""
        if migrations["changes"]:
            moved = f", {counted(migrations['count'], 'block')} moved, tokens waited {_ms(migrations['ms'])} for it"
        given_up = f", {migrations['aborted']} given up" if migrations["aborted"] else ""
        sent = f", {size(migrations['bytes'])} sent" if migrations["changes"] or migrations["aborted"] else ""
        changes = counted(migrations["changes"], "change")
        yield f"{counted(decisions['count'], 'decision')}: {changes} of placement{moved}{sent}{given_up}"
    if problems := decisions["problems"]:
        more = f" (and {counted(len(problems) - 1, 'more problem')}; see summary.json)" if len(problems) > 1 else ""
        yield f"placement kept: {problems[0]}{more}"
    if decisions["given_up"]:
        yield f"policy given up: {decisions['given_up']}"


def plan_document(plan: Plan) -> dict[str, Any]:
    """A plan as JSON: who holds what, the memory that takes, and what the timeline predicts."""
    return {
        "scenario": plan.scenario.name,
        "policy": plan.policy,
        "model": plan.model.name,
        "placement": [
            {
                "device": device.name,
                "blocks": [str(block) for block in plan.placement.on(device.index)],
                "memory": {**page._asdict(), "total_bytes": page.total_bytes, "cap_bytes": device.memory_bytes},
            }
            for device, page in zip(plan.cluster.devices, plan.pages, strict=True)
        ],
        "predicted": [
            {
                "prompt_tokens": len(request.ids),
                "max_tokens": request.max_tokens,
                "ttft_ms": 1000 * predicted.ttft_s,
                "tpot_ms": None if predicted.tpot_s is None else 1000 * predicted.tpot_s,
            }
            for request, predicted in _predictions(plan)
        ],
        "placed_in_ms": 1000 * plan.placed_in_s,
    }


def plan_tables(plan: Plan) -> list[Table]:
    placement = [
        [
            device.name,
            describe(plan.placement.on(device.index), plan.model.shape),
            size(page.weights_bytes),
            size(page.cache_bytes),
            size(page.total_bytes),
            size(device.memory_bytes),
        ]
        for device, page in zip(plan.cluster.devices, plan.pages, strict=True)
    ]
    predicted = [
        [
            str(number),
            str(len(request.ids)),
            str(request.max_tokens),
            _ms(1000 * predicted.ttft_s),
            _ms(None if predicted.tpot_s is None else 1000 * predicted.tpot_s),
        ]
        for number, (request, predicted) in enumerate(_predictions(plan), 1)
    ]
    return [
        Table(("device", "holds", ">weights", ">K/V caches", ">memory", ">of"), placement),
        Table((">prompt", ">its tokens", ">new tokens", ">time to first token", ">per output token"), predicted),
    ]


def _predictions(plan: Plan) -> list[tuple[Request, SequenceTimes]]:
    return list(zip(plan.requests, plan.predictions(), strict=True))


def describe(blocks: Sequence[Block], shape: ModelShape) -> str:
    """What a device holds, in a few words: `embed, layers 0-9, layer 10: groups 0, 2 + ffn`."""
    layers: dict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        if block.layer >= 0:
            layers[block.layer].append(block)
    runs: list[tuple[list[int], str]] = []  # consecutive layers of which the same is held
    for layer in sorted(layers):
        contents = _layer_contents(layers[layer], shape)
        if runs and runs[-1][0][-1] == layer - 1 and runs[-1][1] == contents:
            runs[-1][0].append(layer)
        else:
            runs.append(([layer], contents))
    kinds = {block.kind for block in blocks}
    parts = [_run(*run) for run in runs] if len(runs) <= MAX_RUNS else [_counts(blocks)]
    parts = [*(["embed"] if Kind.EMBED in kinds else []), *parts, *(["lm_head"] if Kind.LM_HEAD in kinds else [])]
    return ", ".join(parts) or "nothing"


def _layer_contents(blocks: Sequence[Block], shape: ModelShape) -> str:
    """Empty for a whole layer."""
    groups = sorted(block.group for block in blocks if block.kind is Kind.HEAD)
    kinds = (Kind.PROJ, Kind.FFN)
    others = [kind.value for kind in kinds if any(block.kind is kind and not block.is_shard for block in blocks)]
    for kind in kinds:
        if held := sum(block.kind is kind and block.is_shard for block in blocks):
            others.append(f"{held}/{n_shards(shape, kind)} of {kind.value}")
    if len(groups) == shape.n_groups and others == [kind.value for kind in kinds]:
        return ""
    if len(groups) == shape.n_groups:
        heads = ["all heads"]
    else:
        heads = [f"group{'s' if len(groups) > 1 else ''} {', '.join(map(str, groups))}"] if groups else []
    return " + ".join([*heads, *others])


def _run(layers: Sequence[int], contents: str) -> str:
    where = f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]}-{layers[-1]}"
    return f"{where}: {contents}" if contents else where


def _counts(blocks: Sequence[Block]) -> str:
    names = {Kind.HEAD: "head groups", Kind.PROJ: "proj", Kind.FFN: "ffn"}
    counted = {name: sum(b.kind is kind and not b.is_shard for b in blocks) for kind, name in names.items()}
    counted["shards"] = sum(block.is_shard for block in blocks)
    return ", ".join(f"{count} {name}" for name, count in counted.items() if count)


def size(size_bytes: float) -> str:
    return SIZE.format_human(size_bytes)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{_number(value, 1)} ms"


def _number(value: float, decimals: int) -> str:
    """So many decimals, or of a number below one as many as show three digits."""
    return f"{value:.3g}" if 0 < value < 1 else f"{value:.{decimals}f}"


def counted(number: int, noun: str) -> str:
    """`1 device`, `2 devices`"""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def host_table(found: Mapping[str, Any]) -> Table:
    """What `doctor` has found, as it is; what it means is said beside it."""
    host, caps, scheduling, links = found["host"], found["caps"], found["scheduling"], found["links"]
    late = " and ".join(f"{1e6 * scheduling[key]:.0f} us" for key in ("late_p50_s", "late_p99_s"))
    rows = [
        ("kernel, Python", f"{host['kernel']}, {host['python']}"),
        ("cores", str(host["cores"])),
        ("memory", f"{size(host['memory_bytes'])}, {size(host['memory_available_bytes'])} of it available"),
        ("one core", f"{host['flops_per_s'] / 1e9:.0f} GFLOP/s, reads {host['mem_bytes_per_s'] / 1e9:.0f} GB/s"),
        ("BLAS", host["blas"]),
        ("memory groups", ", ".join(caps["mounted"]) or "none mounted"),
        ("can be made in", caps["where"] or "none"),
        ("real-time priority", "yes" if scheduling["realtime"] else "no"),
        ("a sleep is late by", f"{late} (p50 and p99)"),
        ("network namespaces", "yes" if links["namespaces"] else "no"),
        ("user namespaces", "yes" if links["user_namespaces"] else "no"),
        ("links: missing", ", ".join(links["missing"]) or "nothing"),
    ]
    return Table(("this host", "has"), rows)


def device_table(profiles: Iterable[DeviceProfile]) -> Table:
    rows = [
        [
            profile.name,
            profile.title,
            FLOP_RATE.format_human(profile.gflops.value),
            BYTE_RATE.format_human(profile.mem_bandwidth.value),
            size(profile.memory.value),
            BIT_RATE.format_human(profile.nic.value) if profile.nic else "–",
            *(POWER.format_human(p.value) if p else "–" for p in (profile.power.idle, profile.power.busy)),
        ]
        for profile in profiles
    ]
    return Table(
        ("profile", "device", ">arithmetic", ">memory bandwidth", ">memory", ">network", ">idle", ">busy"), rows
    )


def model_table(entries: Iterable[ModelEntry]) -> Table:
    rows = []
    for entry in entries:
        shape = entry.model_shape()
        whole = Usage(Costs(shape), prompt_tokens=1, total_tokens=1)
        for block in all_blocks(shape):
            whole.add(block)
        heads = f"{shape.n_heads}/{shape.n_kv_heads}"
        source = entry.package.name if entry.package else "seeded"
        dimensions = [str(number) for number in (shape.n_layers, shape.d_model)]
        rows.append(
            [entry.name, entry.title, *dimensions, heads, str(shape.d_ff), size(whole.page().weights_bytes), source]
        )
    return Table(("model", "is", ">layers", ">width", ">heads/KV", ">FFN", ">float32", "weights"), rows)
