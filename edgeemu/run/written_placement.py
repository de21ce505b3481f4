"""A placement as a scenario writes it, the inverse of `given_placement`: equal layers together, everything exact."""

from collections.abc import Mapping, Sequence

from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, n_shards
from edgeemu.placement.placement import Placement
from edgeemu.report.printable import printable_cell
from edgeemu.run.plan import Plan
from edgeemu.scenario.document import Inline, Lines, write
from edgeemu.scenario.placement import number_text
from edgeemu_kernels.shape import ModelShape

Holders = str | Mapping[str, str | int]


def placement_yaml(plan: Plan, scenario: str) -> str:
    """Write the first placement of a plan as the section of a scenario, with a comment that says how to use it."""
    scenario = printable_cell(scenario)
    names = [device.name for device in plan.cluster.devices]
    ms = [1000 * predicted.tpot_s for predicted in plan.predictions() if predicted.tpot_s is not None]
    predicted = f", {sum(ms) / len(ms):.1f} ms per output token predicted" if ms else ""
    collectives = plan.scenario.sharding.collectives or "ring"  # a system's own, which `given` has only if told so
    told = "" if collectives == "ring" else f" --set sharding.collectives={collectives}"
    return (
        f"# {printable_cell(plan.model.name)} on {len(names)} devices as {plan.policy} places it first{predicted}.\n"
        f"# Append this to {scenario}, or save it beside it as mine.yaml, and compare:\n"
        f"#   edgeemu run {scenario} --set placement=mine.yaml --policy given{told}\n"
        + write({"placement": written(plan.placement, plan.model.shape, names)})
    )


def written(placement: Placement, shape: ModelShape, names: Sequence[str]) -> Lines:
    """Return the section of a scenario that means a placement; `names` are those of the devices."""
    alike: dict[str, list[int]] = {}  # layers, by what they are like
    layers = [_layer(placement, shape, names, layer) for layer in range(shape.n_layers)]
    for number, layer in enumerate(layers):
        alike.setdefault(repr(layer), []).append(number)
    return Lines(
        {
            "embed": names[placement.owner[EMBED]],
            "lm_head": names[placement.owner[LM_HEAD]],
            "layers": Lines(
                {
                    numbers[0] if len(numbers) == 1 else number_text(numbers): layers[numbers[0]]
                    for numbers in alike.values()
                }
            ),
        }
    )


def _layer(placement: Placement, shape: ModelShape, names: Sequence[str], layer: int) -> str | Inline:
    """Return what a scenario writes for one layer: its device, or those of its heads, projection and feed-forward."""
    groups = placement.groups(layer, shape.n_groups)
    heads: Holders = names[next(iter(groups))] if len(groups) == 1 else _numbers(groups, names)
    proj, ffn = (_holders(placement, shape, names, Block(kind, layer)) for kind in (Kind.PROJ, Kind.FFN))
    if heads == proj == ffn and isinstance(heads, str):
        return heads
    return Inline({"heads": heads, "proj": proj, "ffn": ffn})


def _holders(placement: Placement, shape: ModelShape, names: Sequence[str], block: Block) -> Holders:
    """Return the device of a block, or the part of each where it is divided: fractions, where they say it exactly."""
    total = n_shards(shape, block.kind)
    shares = placement.shares(block.kind, block.layer, total)
    if not shares:
        return names[placement.owner[block]]
    in_order = sorted(shares.items(), key=lambda item: item[1])
    in_runs = [number for _, numbers in in_order for number in numbers] == list(range(total))
    if block.kind is Kind.FFN and in_runs:
        return Inline({names[device]: f"{len(numbers)}/{total}" for device, numbers in in_order})
    return _numbers(shares, names)


def _numbers(held: Mapping[int, tuple[int, ...]], names: Sequence[str]) -> Inline:
    return Inline(
        {
            names[device]: numbers[0] if len(numbers) == 1 else number_text(numbers)
            for device, numbers in sorted(held.items(), key=lambda item: item[1])
        }
    )
