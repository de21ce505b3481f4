"""Devices that have room for all blocks when one of them is lost, but not beside what the others hold by then."""

from dataclasses import replace

from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, all_blocks, ffn, head, proj
from edgeemu.placement.placement import Placement
from edgeemu.run.plan import Plan
from support.several import make

SLACK_BYTES = 4000  # less than a tenth of a feed-forward
WIDE = ("model.shape.n_layers=4", "model.shape.d_model=64", "model.shape.head_dim=8", "model.shape.d_ff=128")


def crowded(*changes: str) -> Plan:
    """Two of four layers fit each of `a` and `b-1`, which hold parts of three; `b-2`, with the fourth, may be lost.

    Then the fourth's feed-forward fits neither: they have room for three quarters of one each.
    """
    changes = (*WIDE, "policy=layers", *changes)
    roomy = make(*changes)
    shape = roomy.model.shape
    halves = Placement({block: _half(block) for block in all_blocks(shape)})
    sizes = [usage.page().total_bytes + SLACK_BYTES for usage in roomy.usages(halves)[:2]]
    memory = [f"devices[{index}].memory={size / 1024} KiB" for index, size in enumerate(sizes)]
    on_a = {EMBED, LM_HEAD, head(2, 0), head(2, 1), head(2, 2)}
    on_a |= {block for block in all_blocks(shape) if block.layer == 0}
    on_a |= {proj(1), *(head(1, group) for group in range(shape.n_groups))}
    on_b = {ffn(1), ffn(2), proj(2), head(2, 3)}
    held = {block: 0 if block in on_a else 1 if block in on_b else 2 for block in all_blocks(shape)}
    return replace(make(*changes, *memory), placement=Placement(held))


def _half(block: Block) -> int:
    return 0 if block.kind in (Kind.EMBED, Kind.LM_HEAD) or block.layer < 2 else 1
