"""Placements by hand: what is written is placed, mistakes are named with their place, any placement can be written."""

import re
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, divided_placements, shapes

from edgeemu.errors import InfeasibleError, RequestError
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, ffn, head, proj, shards
from edgeemu.placement.placement import Placement, is_divided
from edgeemu.policies import PARTICULAR, POLICIES
from edgeemu.run.given_placement import given_placement
from edgeemu.run.make_plan import make_plan
from edgeemu.run.policy_process.separate_policy import SeparatePolicy
from edgeemu.run.written_placement import placement_yaml, written
from edgeemu.scenario.document import write
from edgeemu.scenario.load import load_scenario, parse_scenario, to_yaml
from edgeemu_kernels.shape import ModelShape

SHAPE = ModelShape("custom", 6, 32, 6, 3, 8, 64, 99, 128)
SCENARIO = """\
model: {shape: {n_layers: 6, d_model: 32, n_heads: 6, n_kv_heads: 3, head_dim: 8, d_ff: 64, vocab_size: 99,
  max_context: 128}}
devices:
  - {name: laptop, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}
  - {name: pi, count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}
network: {default: {bandwidth: 100 Mbit/s, delay: 2 ms}}
workload: {prompts: [{tokens: 8}], max_tokens: 5}
"""
PIS = "count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 50 KiB"
NAMES = ("laptop", "pi-1", "pi-2")
PLACEMENT = """\
placement:
  embed: laptop
  lm_head: pi-2
  layers:
    0-1, 5: laptop
    2:
      heads: {pi-1: 0-1, pi-2: 2}
      proj: pi-1
      ffn: {pi-1: 40 %, pi-2: 60 %}
    3-4: {device: pi-2, heads: {laptop: [0, 2], pi-1: 1}}
"""


def placed(layers: str) -> Placement:
    """Where the layers of a model are put that are written so."""
    text = f"{SCENARIO}placement: {{embed: laptop, lm_head: laptop, layers: {layers}}}\n"
    found = given_placement(parse_scenario(text), SHAPE)
    assert found is not None
    return found


def refusal(layers: str) -> str:
    """The message about layers, without the place of the placement."""
    with pytest.raises(RequestError) as caught:
        placed(layers)
    assert str(caught.value).startswith("scenario.yaml:8: placement.layers")
    return str(caught.value).removeprefix("scenario.yaml:8: placement.layers").removeprefix(".")


def test_what_is_written_is_placed() -> None:
    found = given_placement(parse_scenario(SCENARIO + PLACEMENT), SHAPE)
    expected: dict[Block, int] = {EMBED: 0, LM_HEAD: 2}
    for layer in (0, 1, 5):
        expected |= {head(layer, 0): 0, head(layer, 1): 0, head(layer, 2): 0, proj(layer): 0, ffn(layer): 0}
    expected |= {head(2, 0): 1, head(2, 1): 1, head(2, 2): 2, proj(2): 1}
    expected |= {unit: 1 if unit.group < 26 else 2 for unit in shards(SHAPE, Kind.FFN, 2)}
    for layer in (3, 4):
        expected |= {head(layer, 0): 0, head(layer, 1): 1, head(layer, 2): 0, proj(layer): 2, ffn(layer): 2}
    assert found is not None
    assert found.owner == expected
    found.check(SHAPE, 3)


@pytest.mark.parametrize(
    ("shares", "units"),
    [
        ("{laptop: 1/3, pi-1: 1/3, pi-2: 1/3}", (21, 22, 21)),
        ("{laptop: 26/64, pi-1: 38/64}", (26, 38, 0)),
        ("{pi-1: 0.25, laptop: 75 %}", (48, 16, 0)),
        ("{pi-2: 0-9, laptop: [10-62, 63]}", (54, 0, 10)),
        ("{pi-2: 100 %}", (0, 0, 64)),
    ],
)
def test_shares_are_whole_units_next_to_each_other(shares: str, units: tuple[int, int, int]) -> None:
    found = placed(f"{{0-5: {{device: laptop, ffn: {shares}}}}}").shares(Kind.FFN, 5, 64)
    assert tuple(len(found.get(device, ())) for device in range(3)) == units
    for numbers in found.values():
        assert list(numbers) == list(range(numbers[0], numbers[-1] + 1))


def test_shares_of_heads_and_of_the_projection_are_whole_groups() -> None:
    part = "{pi-2: 60 %, pi-1: 40 %}"
    found = placed(f"{{0-4: laptop, 5: {{heads: {part}, proj: {part}, ffn: pi-1}}}}")
    assert found.groups(5, 3) == found.shares(Kind.PROJ, 5, 3) == {1: (2,), 2: (0, 1)}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("{0-3: laptop}", ': layers 4-5 are on no device: add "4-5: DEVICE"'),
        ('{"0-1, 3-5": laptop}', ': layer 2 is on no device: add "2: DEVICE"'),
        ("{}", ': layers 0-5 are on no device: add "0-5: DEVICE"'),
        ("{0-6: laptop}", "0-6: there is no layer 6: the layers of custom are 0-5"),
        ("{0-3: laptop, 2-5: pi-1}", '2-5: layer 2 is placed twice, here and in "0-3": name it once'),
        ('{"0-5, 3": laptop}', "0-5, 3: layer 3 is placed twice, twice in this entry: name it once"),
        ("{5-0: laptop}", "5-0: 5-0 runs backwards; write 0-5"),
        ("{all: laptop}", 'all: "all" is neither a number nor a range such as 0-3, nor several (0-3, 8)'),
        ("{0-5: board}", '0-5.device: there is no device "board"'),
        ("{0-5: pi}", '0-5.device: "pi" is 2 devices; name one, pi-1 to pi-2'),
        (
            "{0-5: {heads: laptop, proj: pi}}",
            "0-5.ffn: is on no device: give ffn: DEVICE, or ffn: {pi-1: 0-1, pi-2: 2}",
        ),
        ("{0-5: {}}", "0-5.heads: is on no device: give heads: DEVICE, or heads: {pi-1: 0-1, pi-2: 2} or "),
        (
            "{0-5: {device: pi-1, heads: pi-2, proj: pi-2, ffn: pi-2}}",
            "0-5.device: holds nothing: heads, proj and ffn have devices of their own; leave it out",
        ),
        (
            "{0-5: {device: laptop, heads: {pi-1: 0}}}",
            "0-5.heads: 1-2 of the KV groups of layers 0-5 (0-2) are on no device: add 1-2 to one",
        ),
        (
            "{0-5: {device: laptop, heads: {pi-1: 0-1, pi-2: 1-2}}}",
            "0-5.heads.pi-2: 1 of the KV groups of layers 0-5 is placed twice, on pi-1 and pi-2: name it once",
        ),
        (
            "{0-5: {device: laptop, proj: {pi-1: 0-3}}}",
            "0-5.proj.pi-1: there is no 3 of 3 KV groups: they are 0-2",
        ),
        (
            "{0-4: laptop, 5: {device: laptop, ffn: {pi-1: 0-31, pi-2: [32-62]}}}",
            "5.ffn: 63 of the units of layer 5 (0-63) is on no device: add 63 to one",
        ),
        (
            "{0-5: {device: laptop, ffn: {pi-1: 40 %, pi-2: 50 %}}}",
            "0-5.ffn: the shares of layers 0-5 come to 90 %, not 100 % (fractions such as 1/3 are exact)",
        ),
        (
            "{0-5: {device: laptop, ffn: {pi-1: 40 %, pi-2: 0-30}}}",
            "0-5.ffn: pi-1 has a share and another numbers: write one or the other",
        ),
        (
            "{0-5: {device: laptop, heads: {pi-1: 10 %, pi-2: 90 %}}}",
            "0-5.heads.pi-1: this share of 3 KV groups of layers 0-5 is none of them: leave it out",
        ),
        (
            "{0-5: {device: laptop, heads: {pi-1: many}}}",
            '0-5.heads.pi-1: "many" is neither a number nor a range such as 0-3, nor several (0-3, 8), nor a share',
        ),
        ("{0-5: {device: laptop, heads: 2}}", "0-5.heads: give a device, or what each of several holds: {pi-1: 0-1,"),
        (
            "{0-5: {device: laptop, heads: {pi-1: {}}}}",
            "0-5.heads.pi-1: is neither numbers (2, or 0-3, or [0, 2-3]) nor",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(layers: str, message: str) -> None:
    assert refusal(layers).startswith(message)


def test_a_list_is_met_with_the_form_to_write() -> None:
    with pytest.raises(
        RequestError, match=r"^scenario.yaml:8: placement: write embed: DEVICE, lm_head: DEVICE and lay"
    ):
        parse_scenario(SCENARIO + "placement: [{device: laptop, layers: 0-5}]\n")


@pytest.mark.parametrize(("given", "missing"), [("lm_head: laptop", "embed"), ("embed: laptop", "lm_head")])
def test_both_ends_need_a_device(given: str, missing: str) -> None:
    with pytest.raises(RequestError, match=rf"^scenario.yaml:8: placement.{missing}: is missing$"):
        parse_scenario(f"{SCENARIO}placement: {{{given}, layers: {{0-5: laptop}}}}\n")


@QUICK
@given(st.data(), shapes(max_layers=9), st.integers(1, 4))
def test_what_is_written_of_any_placement_is_read_back_as_the_same(
    data: st.DataObject, shape: ModelShape, n_devices: int
) -> None:
    """Also with devices whose names YAML takes for something else."""
    placement = data.draw(divided_placements(shape, n_devices))
    names = data.draw(st.sampled_from([("a", "null", "5", "1e3"), ("no", "0-3", "12", "0x1f")]))[:n_devices]
    devices = [{"name": name, "profile": "raspberry-pi-4"} for name in names]
    text = write({"placement": written(placement, shape, names), "devices": devices})
    rest = "model: gpt2-large\nnetwork: {default: ethernet-1g}\nworkload: {prompts: [{tokens: 2}]}\n"
    scenario = parse_scenario(rest + text)
    assert scenario.policy == "given"
    found = given_placement(scenario, shape)
    assert found is not None
    assert found.owner == placement.owner
    again = given_placement(parse_scenario(to_yaml(scenario)), shape)
    assert again == found


def test_the_placement_of_every_policy_is_written_and_read_back() -> None:
    """All but exact, which has a process of its own."""
    seen = []
    for policy in sorted(POLICIES.keys() - {"given", "exact"} - PARTICULAR):
        plan = make_plan(parse_scenario(SCENARIO), policy)
        again = given_placement(parse_scenario(SCENARIO + placement_yaml(plan, "s.yaml")), plan.model.shape)
        assert again == plan.placement, policy
        seen.append(plan.placement)
    assert any(is_divided(placement, plan.model.shape.n_layers) for placement in seen)
    assert any(len(placement.groups(0, 3)) > 1 for placement in seen)


def test_equal_layers_are_written_together() -> None:
    """However many: a key of YAML that is longer than 128 characters is written in another way."""
    shape = ModelShape("deep", 100, 32, 6, 3, 8, 64, 99, 128)
    by_turns = Placement(
        {EMBED: 0, LM_HEAD: 0, **{block(n): n % 2 for n in range(100) for block in (proj, ffn)}}
        | {head(n, group): n % 2 for n in range(100) for group in range(3)}
    )
    text = write({"placement": written(by_turns, shape, NAMES)})
    assert text.count("laptop") == 3
    assert text.count("pi-1") == 1
    found = given_placement(parse_scenario(SCENARIO + text), shape)
    assert found == by_turns


def test_a_plan_is_written_with_how_to_use_it(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    plan = make_plan(load_scenario(path), "round-robin")
    text = placement_yaml(plan, "small.yaml")
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert re.fullmatch(
        r"# custom on 3 devices as round-robin places it first, \d+\.\d ms per output token .*", comments[0]
    )
    assert comments[-1] == "#   edgeemu run small.yaml --set placement=mine.yaml --policy given"

    (tmp_path / "mine.yaml").write_text(text)
    beside = make_plan(load_scenario(path, ["placement=mine.yaml"]))
    path.write_text(SCENARIO + text)
    appended = make_plan(load_scenario(path))
    for again in (beside, appended):
        assert again.policy == "given"
        assert again.placement == plan.placement
        assert again.decide is None, "it is not asked again"
        assert again.predictions() == plan.predictions()
    assert make_plan(load_scenario(path), "single").placement == make_plan(parse_scenario(SCENARIO), "single").placement


def test_what_a_system_combines_results_with_is_told_with_its_placement(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    plan = make_plan(load_scenario(path), "llama.cpp-rpc")
    text = placement_yaml(plan, "small.yaml")
    (tmp_path / "mine.yaml").write_text(text)
    (command,) = [line for line in text.splitlines() if line.startswith("#   edgeemu run")]
    asked = [word for word in command.split() if "=" in word]
    assert asked == ["placement=mine.yaml", "sharding.collectives=relay"]
    again = make_plan(load_scenario(path, asked))
    assert again.predictions() == plan.predictions()
    assert make_plan(load_scenario(path, asked[:1])).predictions() != plan.predictions()


def test_a_mistake_in_a_file_of_its_own_is_named_with_that_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"# by hand\n{PLACEMENT.replace('3-4:', '3:')}")
    with pytest.raises(RequestError) as caught:
        make_plan(parse_scenario(SCENARIO + "placement: mine.yaml\n", base=tmp_path))
    assert str(caught.value) == 'mine.yaml:5: placement.layers: layer 4 is on no device: add "4: DEVICE"'
    (tmp_path / "mine.yaml").write_text(PLACEMENT.replace("pi-1: 0-1", "pi-3: 0-1"))
    with pytest.raises(RequestError) as caught:
        parse_scenario(SCENARIO, overrides=["placement=mine.yaml"], base=tmp_path)
    assert str(caught.value).startswith(
        'mine.yaml:7: placement.layers.2.heads.pi-3: there is no device "pi-3" (did you'
    )
    (tmp_path / "mine.yaml").write_text(SCENARIO + PLACEMENT)
    with pytest.raises(RequestError, match=r"^mine.yaml:1: must have placement: and nothing else, as edgeemu plan"):
        parse_scenario(SCENARIO, overrides=["placement=mine.yaml"], base=tmp_path)
    with pytest.raises(RequestError, match=r"^--set placement: there is no file \"mein.yaml\" \(did you mean \"mine"):
        parse_scenario(SCENARIO, overrides=["placement=mein.yaml"], base=tmp_path)


def test_a_setting_can_change_one_entry(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(PLACEMENT)
    settings = ["placement=mine.yaml", "placement.layers.2=pi-2"]
    found = given_placement(parse_scenario(SCENARIO, overrides=settings, base=tmp_path), SHAPE)
    assert found is not None
    assert {found.owner[block] for block in (head(2, 0), proj(2), ffn(2))} == {2}
    with pytest.raises(RequestError, match=r"^--set placement.layers.2.heads.pi-1: there is no 3 of 3 KV groups"):
        make_plan(parse_scenario(SCENARIO + PLACEMENT, overrides=["placement.layers.2.heads={pi-1: 0-3}"]))


def test_a_placement_that_does_not_fit_is_refused_with_the_bytes_of_each_device() -> None:
    small = (SCENARIO + PLACEMENT).replace("count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB", PIS)
    with pytest.raises(InfeasibleError) as caught:
        make_plan(parse_scenario(small))
    lines = str(caught.value).splitlines()
    assert lines[0] == "the given placement does not fit:"
    assert re.fullmatch(r"  pi-1 would need 54,\d{3} B \(53\.\d KiB\), and has 51,200 B \(50 KiB\)", lines[1])
    assert lines[-1].startswith("Move blocks to other devices in placement:")
    assert not any("laptop" in line for line in lines)


def test_given_without_a_placement_says_how_to_get_one() -> None:
    with pytest.raises(RequestError, match=r"^--policy: given keeps the placement .* one writes none; edgeemu plan"):
        make_plan(parse_scenario(SCENARIO), "given")
    with pytest.raises(RequestError, match=r"^scenario.yaml:8: policy: given keeps the placement"):
        make_plan(parse_scenario(SCENARIO + "policy: given\n"))


def test_given_keeps_its_placement_when_memory_shrinks() -> None:
    event = "events: [{at_token: 2, device: pi-2, memory: 10 KiB}]\n"
    with closing(make_plan(parse_scenario(SCENARIO + PLACEMENT + event))) as plan:
        assert plan.decide is not None
        assert not isinstance(plan.decide, SeparatePolicy)
        assert plan.decide(plan.view, plan.placement) is plan.placement
