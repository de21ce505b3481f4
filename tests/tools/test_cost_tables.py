"""docs/costs.md: its formulas give what edgeemu counts, its tables are up to date, and its example comes out."""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import GPT2, LLAMA, QUICK, shapes

from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, ffn, n_shards, proj
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.operation_costs import message_bytes, op_work
from edgeemu.placement.program import Chunk, Collective, MessageKind, Op, Slot
from edgeemu.placement.slice_costs import SliceCosts
from edgeemu.placement.work import Work
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import parse_scenario
from edgeemu_kernels.shape import ModelShape

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import cost_tables

        yield cost_tables
    finally:
        sys.path.remove(str(ROOT / "tools"))


def gathered(shape: ModelShape, groups: tuple[int, ...]) -> list[tuple[Op, int]]:
    """Operations of `gather`, of all groups and units where shares have to be whole columns, with their weights."""
    costs, slices, d = PhysicalCosts(shape), SliceCosts(shape), shape.d_model
    every, units = tuple(range(shape.n_groups)), tuple(range(shape.ffn_units))
    inner_bytes = slices.inner_work(0, len(units), 1).bytes_read
    ffn_bytes = slices.weight_bytes(Kind.FFN, 0, len(units))
    return [
        (op(Kind.HEAD, groups, emits=MessageKind.PROJECTED), costs.heads_weight_bytes(len(groups))),
        (replace(op(Collective.ATTEND, every, emits=MessageKind.ATTENTION), parts=(every,)), 0),
        (replace(op(Kind.PROJ, every), columns=(0, d)), slices.weight_bytes(Kind.PROJ, 0, len(every))),
        (op(Kind.FFN, units, emits=MessageKind.INNER), int(inner_bytes)),
        (replace(op(Kind.FFN, units), columns=(0, d)), ffn_bytes - int(inner_bytes)),
        (op(Collective.JOIN, terms=3), 0),
    ]


def op(
    kind: Kind | Collective, groups: tuple[int, ...] = (), terms: int = 1, emits: MessageKind = MessageKind.RESIDUAL
) -> Op:
    slot = Slot(emits, 1, 0)
    return Op(0, kind, 0, groups, 0, (slot,) * terms, slot, (0,))


@QUICK
@given(shapes(), st.integers(1, 9), st.integers(0, 30), st.data())
def test_formulas_of_operations_are_what_is_counted(
    tool: ModuleType, shape: ModelShape, rows: int, past: int, data: st.DataObject
) -> None:
    costs, terms = PhysicalCosts(shape), data.draw(st.integers(2, 5))
    parts = {
        kind: tuple(sorted(data.draw(st.sets(st.integers(0, total - 1), min_size=1))))
        for kind, total in [(Kind.HEAD, shape.n_groups), *((k, n_shards(shape, k)) for k in (Kind.PROJ, Kind.FFN))]
    }
    executed = [
        (op(Kind.EMBED), costs.weight_bytes(EMBED)),
        (op(Kind.HEAD, parts[Kind.HEAD]), costs.heads_weight_bytes(len(parts[Kind.HEAD]))),
        (op(Kind.PROJ), costs.weight_bytes(proj(0))),
        (op(Kind.FFN), costs.weight_bytes(ffn(0))),
        (op(Kind.LM_HEAD), costs.weight_bytes(LM_HEAD)),
        *((op(kind, parts[kind]), costs.fused_weight_bytes(kind, 0, parts[kind])) for kind in (Kind.PROJ, Kind.FFN)),
        (op(Collective.SUM, terms=terms), 0),
        (op(Collective.NORM), 0),
        *gathered(shape, parts[Kind.HEAD]),
    ]
    for block, (operation, weight_bytes) in zip(tool.BLOCKS, executed, strict=True):
        held = {"t": rows, "p": past, "n": len(operation.groups), "z": int(0 in operation.groups), "k": terms}
        known = tool.symbols(shape) | held
        work = Work(tool.value(block.operations, known), tool.bytes_read(block, known))
        assert work == op_work(operation, rows, past, costs), block.block
        assert tool.value(block.weights, known) == weight_bytes, block.block


@pytest.mark.parametrize(
    "shape", [replace(LLAMA, n_heads=4, n_kv_heads=4, d_ff=32), GPT2], ids=lambda shape: shape.name
)
def test_formulas_of_messages_are_what_is_sent(tool: ModuleType, shape: ModelShape) -> None:
    costs, rows = PhysicalCosts(shape), 7
    last = Slot(MessageKind.PARTIAL, 2 * shape.n_layers - 1, 0)
    to_the_end = Slot(MessageKind.HIDDEN, shape.n_layers, 0)
    sent = [
        op(Kind.FFN),
        Op(0, Kind.FFN, 0, (), 0, (), to_the_end, (1,)),
        op(Kind.HEAD, (0, 2), emits=MessageKind.ATTENTION),
        op(Kind.FFN, (0,), emits=MessageKind.PARTIAL),
        Op(0, Kind.FFN, 0, (0,), 0, (), last, (1,)),
        Op(0, Collective.SUM, 0, (), 0, (), Slot(MessageKind.REDUCE, 1, 0, 1), (1,), chunk=Chunk(1, 3)),
        op(Kind.LM_HEAD, emits=MessageKind.TOKEN),
        op(Kind.HEAD, (0, 2), emits=MessageKind.PROJECTED),
        replace(op(Kind.PROJ, (0, 2), emits=MessageKind.COLUMNS), columns=(5, 5 + 2 * shape.d_model // shape.n_groups)),
        op(Kind.FFN, (0, 3), emits=MessageKind.INNER),
        replace(op(Kind.FFN, (0, 3), emits=MessageKind.COLUMNS), columns=(0, 2 * shape.d_model // shape.ffn_units)),
    ]
    known = tool.symbols(shape) | {"t": rows, "n": 2, "r": Chunk(1, 3).size(rows)}
    for (name, formula), operation in zip(tool.MESSAGES.items(), sent, strict=True):
        assert tool.value(formula, known) == message_bytes(operation, rows, costs), name


def test_caches_grow_as_the_page_says() -> None:
    assert PhysicalCosts(LLAMA).kv_bytes(3) == 8 * LLAMA.head_dim * 3


def test_the_tables_are_those_of_the_tool_and_the_example_comes_out(tool: ModuleType, smollm2_gguf: Path) -> None:
    assert smollm2_gguf.is_file()
    page, shape = tool.PAGE.read_text("utf-8"), tool.quickstart_shape()
    assert tool.updated(page, tool.tables(shape))[1] == [], "stale; run: python tools/cost_tables.py"
    example = re.search(r"^## An example\n.*?^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert example
    (predicted,) = make_plan(parse_scenario(example[1])).predictions()
    parts = tool.example_ms(shape)
    assert 1000 * predicted.ttft_s == pytest.approx(sum(first for _, first, _ in parts))
    assert predicted.tpot_s is not None
    assert 1000 * predicted.tpot_s == pytest.approx(sum(second for _, _, second in parts))
