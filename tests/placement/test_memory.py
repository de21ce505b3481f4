"""Pages add up whatever the order, and a ledger never holds more than its cap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import GPT2, LLAMA, LLAMA_TIED, QUICK, divided_placements, placements, shapes

from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, all_blocks, ffn, head, proj
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.ledger import Ledger, OutOfMemoryError
from edgeemu.placement.memory import MemoryPage, Usage, usages
from edgeemu_kernels.shape import ModelShape


def usage_of(shape: ModelShape, blocks: list[Block], prompt_tokens: int = 5, total_tokens: int = 12) -> Usage:
    usage = Usage(PhysicalCosts(shape), prompt_tokens, total_tokens)
    for block in blocks:
        usage.add(block)
    return usage


@QUICK
@given(st.data(), shapes())
def test_what_is_added_and_removed_again_leaves_no_trace(data: st.DataObject, shape: ModelShape) -> None:
    blocks = data.draw(st.permutations(list(all_blocks(shape))))
    kept = data.draw(st.integers(0, len(blocks)))
    usage = usage_of(shape, blocks)
    for block in data.draw(st.permutations(blocks[kept:])):
        usage.remove(block)
    assert usage.page() == usage_of(shape, blocks[:kept]).page()
    if kept < len(blocks):
        before = usage.page()
        assert usage.page_with(blocks[kept]) == usage_of(shape, blocks[: kept + 1]).page()
        assert usage.page() == before


@QUICK
@given(shapes(), st.integers(1, 20), st.integers(1, 20))
def test_a_page_only_grows(shape: ModelShape, prompt_tokens: int, new_tokens: int) -> None:
    usage = Usage(PhysicalCosts(shape), prompt_tokens, prompt_tokens + new_tokens)
    assert usage.page() == MemoryPage(0, 0, 0, 0)
    for block in all_blocks(shape):
        before = usage.page()
        usage.add(block)
        growth = [now - then for now, then in zip(usage.page(), before, strict=True)]
        assert growth[0] > 0
        assert min(growth[1:]) >= 0
        assert usage.page().total_bytes == sum(usage.page())


@QUICK
@given(st.data(), shapes())
def test_devices_together_hold_the_model_and_its_cache(data: st.DataObject, shape: ModelShape) -> None:
    placement = data.draw(placements(shape, 3))
    costs = PhysicalCosts(shape)
    pages = [usage.page() for usage in usages(placement, costs, 3, 4, 9)]
    assert sum(page.cache_bytes for page in pages) == shape.n_layers * shape.n_groups * costs.kv_bytes(9)
    for device, page in enumerate(pages):
        held = set(placement.on(device))
        weights_bytes = sum(costs.weight_bytes(block) for block in held)
        weights_bytes += len({block.layer for block in held if block.kind is Kind.HEAD}) * costs.norm_bytes()
        if shape.tied_embeddings and {EMBED, LM_HEAD} <= held:
            weights_bytes -= shape.vocab_size * shape.d_model * 4
        assert page.weights_bytes == weights_bytes


@QUICK
@given(st.data(), shapes())
def test_blocks_together_are_what_they_are_one_by_one(data: st.DataObject, shape: ModelShape) -> None:
    placement = data.draw(divided_placements(shape, 3))
    for device, usage in enumerate(usages(placement, PhysicalCosts(shape), 3, 4, 9, (7,))):
        alone = Usage(PhysicalCosts(shape), 4, 9, (7,), members=usage.members)
        for block in placement.on(device):
            alone.add(block)
        assert (usage, usage.page()) == (alone, alone.page())


def test_tied_ends_share_one_table_on_one_device() -> None:
    table_bytes = LLAMA_TIED.vocab_size * LLAMA_TIED.d_model * 4
    together = usage_of(LLAMA_TIED, [EMBED, LM_HEAD]).page().weights_bytes
    apart = sum(usage_of(LLAMA_TIED, [block]).page().weights_bytes for block in (EMBED, LM_HEAD))
    assert apart - together == table_bytes
    assert usage_of(LLAMA, [EMBED, LM_HEAD]).page().weights_bytes == apart


def test_a_page_by_hand() -> None:
    """Two groups of layer 0 and one of layer 1, their projection: 5 prompt tokens of 12."""
    costs = PhysicalCosts(GPT2)
    page = usage_of(GPT2, [head(0, 1), head(0, 2), head(1, 0), proj(0)]).page()
    assert page.cache_bytes == 3 * (2 * 12 * 6 * 4)
    assert page.weights_bytes == 3 * 3 * 6 * (24 + 1) * 4 + 2 * 2 * 24 * 4 + (24 * 24 + 24) * 4
    assert page.workspace_bytes == max(
        costs.workspace_bytes(kind, 2, rows, past)
        for kind in (Kind.HEAD, Kind.PROJ)
        for rows, past in ((5, 0), (1, 12))
    )
    assert page.messages_bytes == costs.activation_bytes(5) + costs.attention_bytes(4, 5)
    assert usage_of(GPT2, [ffn(0)]).page().messages_bytes == costs.activation_bytes(5)


charges = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-50, 50)), max_size=30)


@QUICK
@given(st.integers(0, 100), charges)
def test_a_ledger_keeps_books(cap_bytes: int, entries: list[tuple[str, int]]) -> None:
    """Against a plain dictionary: what is refused changes nothing."""
    ledger, held, peak = Ledger("pi", cap_bytes), dict.fromkeys("abc", 0), 0
    for name, size in entries:
        if size < 0 and held[name] < -size:
            with pytest.raises(ValueError, match=f"pi: {name} holds {held[name]} B"):
                ledger.release(name, -size)
        elif size < 0:
            ledger.release(name, -size)
            held[name] += size
        elif sum(held.values()) + size > cap_bytes:
            with pytest.raises(OutOfMemoryError):
                ledger.charge(name, size)
        else:
            ledger.charge(name, size)
            held[name] += size
        peak = max(peak, sum(held.values()))
        assert ledger.page() == {key: value for key, value in held.items() if value}
        assert ledger.used_bytes == sum(held.values()) <= cap_bytes
        assert ledger.peak_bytes == peak
    ledger.forget_peak()
    assert ledger.peak_bytes == ledger.used_bytes
    for name in "abc":
        ledger.release(name)
    assert ledger.page() == {}


def test_a_refusal_says_who_what_and_why() -> None:
    ledger = Ledger("pi-2", 2_000)
    ledger.charge("weights", 1_500)
    ledger.charge("cache", 100)
    with pytest.raises(OutOfMemoryError) as refused:
        ledger.charge("workspace", 1_200)
    assert str(refused.value) == (
        "pi-2 is out of memory: workspace needs 1,200 B more, and 400 B of 2,000 B are free "
        "(held: cache 100 B, weights 1,500 B)"
    )
    assert refused.value.exit_status == 3
    with pytest.raises(OutOfMemoryError, match="held: nothing"):
        Ledger("pi-3", 5).charge("weights", 6)
    Ledger("pi-4", 5).charge("weights", 5)  # to the last byte
