"""ShareArrays as arrays: a decode step is what the simulator says, memory what is charged, and back to blocks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builders import QUICK, precise_shapes, shapes, uneven_mesh
from support.drawn_shares import EVERYONE, N, some_shares
from support.one_sequence import predict
from support.plain_judge import PlainJudge
from support.share_bounds import StepBounds
from support.share_needs import PlainMigrations, PlainNeeds

from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.message_overheads import with_message_overheads
from edgeemu.placement.paper_costs import PaperCosts
from edgeemu.policies.compiled.share_code import StepCode
from edgeemu.policies.search.share_search import ShareJudge, ShareSearch
from edgeemu.policies.search.vicinity import Vicinity
from edgeemu.policies.view.migration_time import MoveCosts, migration_s
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.policies.view.share_memory import ShareMemory
from edgeemu.policies.view.share_moves_time import ShareMigrations
from edgeemu.policies.view.share_prompts import prompt_of
from edgeemu.policies.view.share_runs import Folded, Runs
from edgeemu.policies.view.share_steps import step_of
from edgeemu.policies.view.share_times import ShareTimes
from edgeemu.policies.view.shares import ShareArrays
from edgeemu.timeline.steps import roofline_durations
from edgeemu_kernels.shape import ModelShape


@QUICK
@given(st.data())
def test_a_decode_step_takes_what_the_simulator_says(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_layers=6) | precise_shapes())
    cluster, star = uneven_mesh(N, data.draw(st.integers(0, 2**32))), data.draw(st.booleans())
    shares = ShareArrays.joined([data.draw(some_shares(shape)) for _ in range(2)])
    costs = PhysicalCosts(shape)
    seen = oracle_view(cluster, costs, None, 7, 30)
    durations = roofline_durations([device.compute for device in seen.devices], costs)
    found = step_of(ShareTimes(replace(seen, star=star), EVERYONE, 7), shares).step_s
    for number in range(2):
        placement = shares.placement(number, shape, EVERYONE)
        program = compile_routes(placement, shape, "star" if star else "ring")
        simulated = predict(cluster, costs, program, durations, 7, 2).tpot_s
        assert found[number] == pytest.approx(simulated, rel=1e-3 if shape.bias else 1e-9)


@QUICK
@given(st.data(), st.integers(8, 30))
def test_the_papers_costs_are_those_of_the_step_whatever_the_view_is_of(data: st.DataObject, length: int) -> None:
    """`length`: of the sequence for which the view has its costs; 8 is that of the step itself."""
    shape = replace(data.draw(shapes(max_layers=3)), tied_embeddings=False)
    cluster, shares = uneven_mesh(N, data.draw(st.integers(0, 2**32))), data.draw(some_shares(shape))
    costs = PaperCosts(shape, prompt_tokens=7, length=7)
    seen = oracle_view(cluster, replace(costs, length=length), None, 7, 30)
    durations = roofline_durations([device.compute for device in seen.devices], costs)
    program = compile_routes(shares.placement(0, shape, EVERYONE), shape)
    found = step_of(ShareTimes(seen, EVERYONE, 7), shares).step_s
    assert found[0] == pytest.approx(predict(cluster, costs, program, durations, 7, 2).tpot_s, rel=1e-9)
    coded = StepCode(seen, EVERYONE, 7).steps(Folded.of(shares))
    assert coded == pytest.approx(found, rel=1e-12)


@QUICK
@given(st.data())
def test_a_step_whose_messages_keep_devices_busy_takes_nearly_what_the_simulator_says(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_layers=4))
    cluster, star = uneven_mesh(N, data.draw(st.integers(0, 2**32))), data.draw(st.booleans())
    shares, costs = data.draw(some_shares(shape)), PhysicalCosts(shape)
    ends = data.draw(st.lists(st.tuples(st.floats(0, 0.02), st.sampled_from([0.0, 1e-6])), min_size=N, max_size=N))
    plain = oracle_view(cluster, costs, None, 7, 30)
    computes = [replace(d.compute, message_s=m, byte_s=b) for d, (m, b) in zip(plain.devices, ends, strict=True)]
    devices = tuple(replace(d, compute=compute) for d, compute in zip(plain.devices, computes, strict=True))
    found = step_of(ShareTimes(replace(plain, devices=devices, star=star), EVERYONE, 7), shares).step_s[0]
    program = compile_routes(shares.placement(0, shape, EVERYONE), shape, "star" if star else "ring")
    busy = [index for index, compute in enumerate(computes) if compute.messages_cost]
    program = with_message_overheads(program, busy)
    simulated = predict(cluster, costs, program, roofline_durations(computes, costs), 7, 2).tpot_s
    assert found == pytest.approx(simulated, rel=0.1)


@QUICK
@given(st.data())
def test_a_prompt_takes_nearly_what_the_simulator_says(data: st.DataObject) -> None:
    shape, prompt = data.draw(shapes(max_layers=4)), data.draw(st.integers(8, 48))
    cluster = uneven_mesh(N, data.draw(st.integers(0, 2**32)))
    tile_rows = data.draw(st.sampled_from([None, 1, 6]))
    shares = ShareArrays.joined([data.draw(some_shares(shape)) for _ in range(2)])
    costs = PhysicalCosts(shape)
    seen = replace(oracle_view(cluster, costs, None, prompt, 60), tile_rows=tile_rows)
    durations = roofline_durations([device.compute for device in seen.devices], costs)
    found = prompt_of(ShareTimes(seen, EVERYONE, 0, prompt), shares).step_s
    for number in range(2):
        program = compile_routes(shares.placement(number, shape, EVERYONE), shape, tile_rows=tile_rows)
        simulated = predict(cluster, costs, program, durations, prompt, 1).ttft_s
        assert found[number] == pytest.approx(simulated, rel=0.1)


@QUICK
@given(st.data())
def test_memory_is_what_is_charged(data: st.DataObject) -> None:
    shape = data.draw(shapes() | precise_shapes())
    cluster, star = uneven_mesh(N, 0), data.draw(st.booleans())
    shares = data.draw(some_shares(shape))
    seen = replace(oracle_view(cluster, PhysicalCosts(shape), None, 7, 30), star=star)
    seen = replace(seen, workload=replace(seen.workload, concurrent=(20,) if data.draw(st.booleans()) else ()))
    need_bytes = ShareMemory(seen, EVERYONE).need_bytes(shares)[0].tolist()
    charged = [usage.page().total_bytes for usage in seen.usages(shares.placement(0, shape, EVERYONE))]
    if shape.bias:
        most = 2 * shape.n_layers * shape.d_model * 4
        assert all(0 <= need - paid <= most for need, paid in zip(need_bytes, charged, strict=True))
    else:
        assert need_bytes == charged


@QUICK
@given(st.data())
def test_shares_become_blocks_and_blocks_shares(data: st.DataObject) -> None:
    shape = data.draw(shapes() | precise_shapes())
    shares, others = data.draw(some_shares(shape)), data.draw(some_shares(shape))
    placement = shares.placement(0, shape, EVERYONE)
    placement.check(shape, N)
    for old in (None, others.placement(0, shape, EVERYONE)):
        again = ShareArrays.of(shares.placement(0, shape, EVERYONE, old), shape, EVERYONE)
        assert again is not None
        assert again.keys() == shares.keys()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("ends", [{"embed": 0}, {"lm_head": 0}, {"embed": 0, "lm_head": 0}, {"embed": 1}])
def test_an_end_of_the_model_comes_from_where_it_was(ends: dict[str, int], tied: bool) -> None:
    shape = ModelShape(
        "m", n_layers=1, d_model=64, n_heads=4, n_kv_heads=4, head_dim=16, d_ff=64, vocab_size=512, max_context=64
    )
    shape = replace(shape, tied_embeddings=tied)
    view = oracle_view(uneven_mesh(N, 1), PhysicalCosts(shape), None, 7, 30)
    groups, units = np.zeros((1, 1, N), np.int64), np.zeros((1, 1, N), np.int64)
    groups[..., 2], units[..., 2] = shape.n_groups, shape.ffn_units
    old = ShareArrays(np.array([3]), np.array([1 if ends == {"embed": 1} else 3]), groups, np.array([[2]]), units)
    new = replace(old, **{end: np.array([device]) for end, device in ends.items()})
    exact_s = migration_s(view, old.placement(0, shape, EVERYONE), new.placement(0, shape, EVERYONE))
    assert (exact_s > 0) != (tied and ends == {"embed": 1}), "the output matrix has the table there"
    quick_s = PlainMigrations(ShareMigrations(MoveCosts(view), EVERYONE, old)).seconds(new)
    assert quick_s == pytest.approx([exact_s], abs=0.0201)  # but for the delay


@QUICK
@given(st.data())
def test_no_step_is_quicker_than_its_bound(data: st.DataObject) -> None:
    shape, star = data.draw(shapes(max_layers=6)), data.draw(st.booleans())
    seen = oracle_view(uneven_mesh(N, data.draw(st.integers(0, 2**32))), PhysicalCosts(shape), None, 7, 30)
    times = ShareTimes(replace(seen, star=star), EVERYONE, 7)
    shares = ShareArrays.joined([data.draw(some_shares(shape)) for _ in range(3)])
    runs = Runs.of(shares)
    folded = runs.folded(shares)
    assert runs.unfolded(folded).keys() == shares.keys()
    assert (StepBounds(times).least_s(folded, runs.lengths) <= step_of(times, shares).step_s * (1 + 1e-9)).all()
    moving = PlainMigrations(
        ShareMigrations(MoveCosts(replace(seen, weights_on_flash=star)), EVERYONE, shares.taken([0]))
    )
    assert moving.seconds(folded, *runs).tolist() == moving.seconds(shares).tolist()
    memory = ShareMemory(seen, EVERYONE)
    assert memory.need_bytes(folded, runs.lengths).tolist() == memory.need_bytes(shares).tolist()


@settings(QUICK, max_examples=15)
@given(st.data(), st.floats(0.3, 1.3), st.integers(1, 3))
def test_a_search_finds_the_same_with_and_without_bounds(data: st.DataObject, share: float, sequences: int) -> None:
    shape = data.draw(shapes(max_layers=6))
    seen = oracle_view(uneven_mesh(N, data.draw(st.integers(0, 2**32))), PhysicalCosts(shape), None, 7, 30)
    seen = replace(seen, workload=replace(seen.workload, length=9, concurrent=(30,) * (sequences - 1)))
    base, others = data.draw(some_shares(shape)), data.draw(some_shares(shape))
    judge = ShareJudge(seen, EVERYONE, 20)
    needs = PlainNeeds(judge.memory, ShareMigrations(MoveCosts(seen), EVERYONE, base))
    limit = share * float(judge.costs(base)[0])
    near = Vicinity(replace(seen, earlier=(others.placement(0, shape, EVERYONE),)), EVERYONE, base, needs)
    chosen = [*range(near.beside), len(near.placements) - 1]  # not on other devices, where many cost the same
    near.placements = Folded(near.placements.shares.taken(chosen), near.placements.runs)
    quick = ShareSearch(judge, 2e3, needs, 0.1).better_than(limit, near)
    full = ShareSearch(PlainJudge(seen, EVERYONE, 20), 2e3, needs, 0.1).better_than(limit, near)
    assert [shares.keys() for _, shares in quick] == [shares.keys() for _, shares in full]
    assert [cost for cost, _ in quick] == pytest.approx([cost for cost, _ in full], rel=1e-12)
