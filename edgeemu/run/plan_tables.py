"""Tables and document of a plan: the placement, its memory, and the predicted latencies."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgeemu.placement.blocks import Block, Kind, n_shards
from edgeemu.placement.model_bytes import bytes_by_format, model_bytes
from edgeemu.report.basis import basis_document, basis_line
from edgeemu.report.comparison import NO_BOUND
from edgeemu.report.formats import Table, counted, ms_text, percent_text, size
from edgeemu.run.basis import basis_of
from edgeemu.run.plan import Plan
from edgeemu.run.requests import Request
from edgeemu.run.reserved_memory import kept_by_systems, unknown_reserves
from edgeemu.timeline.prediction import SequenceTimes
from edgeemu_kernels.shape import ModelShape

if TYPE_CHECKING:
    from edgeemu.run.possible import Possible

MAX_RUNS = 4  # ranges of layers that are listed; of a more scattered placement, blocks are counted
MAX_IDLE = 3  # rows of devices that hold nothing; of more, a line says the names
MAX_NAMES = 24


def plan_document(plan: Plan, bound: "Possible | None") -> dict[str, Any]:
    """Make the JSON document of a plan: blocks and memory of each device, and what the timeline predicts.

    `bound` has the figures that no placement can beat, if they are known.
    """
    return {
        "scenario": plan.scenario.name,
        "policy": plan.policy,
        "model": plan.model.name,
        "precision": asdict(plan.model.shape.precision),
        "weights_bytes": model_bytes(plan.model.shape),
        "weights_bytes_by_format": bytes_by_format(plan.model.shape),
        "placement": [
            {
                "device": device.name,
                "blocks": [str(block) for block in plan.placement.on(device.index)],
                "memory": {
                    **page._asdict(),
                    "total_bytes": page.total_bytes,
                    "cap_bytes": device.memory_bytes,
                    "reserved_bytes": device.memory_reserved_bytes,
                },
            }
            for device, page in zip(plan.cluster.devices, plan.pages, strict=True)
        ],
        "predicted": [
            {
                "prompt_tokens": len(request.ids),
                "max_tokens": request.max_tokens,
                "ttft_ms": 1000 * predicted.ttft_s,
                "tpot_ms": None if predicted.tpot_s is None else 1000 * predicted.tpot_s,
                "above_bound": None if bound is None else _above(predicted, bound),
            }
            for request, predicted in _predictions(plan)
        ],
        "basis": basis_document(basis_of(plan.scenario)),
        "placed_in_ms": 1000 * plan.placed_in_s,
        "cut": plan.cut or None,
        "bounds": {} if bound is None else bound.by_figure,
    }


def plan_tables(plan: Plan, bound: "Possible | None") -> list[Table]:
    """Make the tables of a plan; they say how far it is from what is possible, if that is known."""
    folded = _folded(plan)
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
        if device.name not in folded
    ]
    predicted = [
        [
            str(number),
            str(len(request.ids)),
            str(request.max_tokens),
            ms_text(1000 * predicted.ttft_s),
            ms_text(None if predicted.tpot_s is None else 1000 * predicted.tpot_s),
            *([] if bound is None else [f"+{percent_text(_above(predicted, bound), 1)}"]),
        ]
        for number, (request, predicted) in enumerate(_predictions(plan), 1)
    ]
    columns = (">prompt", ">prompt tokens", ">new tokens", ">time to first token", ">per output token")
    return [
        Table(("device", "holds", ">weights", ">K/V caches", ">memory", ">of"), placement, ("K/V caches", "weights")),
        Table(columns if bound is None else (*columns, ">vs possible"), predicted, ("new tokens", "prompt tokens")),
    ]


def _above(predicted: SequenceTimes, bound: "Possible") -> float:
    """By what share a sequence's time per output token is above the bound; of a single token, the time to it."""
    if predicted.tpot_s is None:
        return max(0.0, predicted.ttft_s / bound.ttft_s - 1)
    return max(0.0, predicted.tpot_s / bound.tpot_s - 1)


def title_line(plan: Plan) -> str:
    """Say what was placed, and by which policy."""
    return f"{plan.model.name} on {counted(len(plan.cluster.devices), 'device')}, placed by {plan.policy}:"


def plan_lines(plan: Plan, bound: "Possible | None") -> Iterator[str]:
    """Make the lines below the tables: sizes, memory of systems, what is possible, and on what the figures rest."""
    if folded := _folded(plan):
        yield f"{len(folded)} devices hold nothing: {', '.join(folded[:MAX_NAMES])}{' …' * (len(folded) > MAX_NAMES)}"
    yield _sizes_line(plan)
    if plan.replicas:
        copies = counted(plan.rules.recovery.replicas, "other device")
        yield f"replicas: each block is on {copies} too, and these figures of memory contain it"
    if kept := kept_by_systems((device.name, device.memory_reserved_bytes) for device in plan.cluster.devices):
        yield f"memory: of the devices' own, {kept}"
    if unknown := unknown_reserves(plan.scenario):
        yield f"memory: {unknown}"
    if plan.cut:
        yield f"first decision cut by decisions.limit: {plan.cut}"
    yield _possible_line(bound)
    yield basis_line(basis_document(basis_of(plan.scenario)))


def _folded(plan: Plan) -> list[str]:
    """Names of the devices that hold nothing, if they are too many for a row of the table each."""
    users = plan.placement.devices()
    names = [device.name for device in plan.cluster.devices if device.index not in users]
    return names if len(names) > MAX_IDLE else []


def _sizes_line(plan: Plan) -> str:
    """Say how large the weights are at the plan's precision, and in other formats."""
    here = f"weights: {size(model_bytes(plan.model.shape))} in all"
    sizes = bytes_by_format(plan.model.shape)
    others = ", ".join(f"{size(weights_bytes)} in {name}" for name, weights_bytes in sizes.items())
    return f"{here}; {others} (precision.weights)"


def _possible_line(bound: "Possible | None") -> str:
    """Say what no placement can beat, or that nobody knows."""
    if bound is None:
        return f"possible: not known; there is no proven bound {NO_BOUND}"
    first, later = ms_text(1000 * bound.ttft_s), ms_text(1000 * bound.tpot_s)
    return (
        f"possible: no placement, divided or not, has less than {first} to the first token or {later} per output token"
    )


def _predictions(plan: Plan) -> list[tuple[Request, SequenceTimes]]:
    return list(zip(plan.requests, plan.predictions(), strict=True))


def describe(blocks: Sequence[Block], shape: ModelShape) -> str:
    """Describe the blocks of a device in a few words: `embed, layers 0-9, layer 10: groups 0, 2 + ffn`."""
    layers: dict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        if block.layer >= 0:
            layers[block.layer].append(block)
    runs: list[tuple[list[int], str]] = []  # consecutive layers with equal contents
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
    """Describe the blocks of one layer; empty for a complete layer."""
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
