"""The command `calibrate`: what it writes is a profile that a scenario can name."""

import json
import re
from pathlib import Path

import pytest
from support.commands import Edgeemu

from edgeemu.cluster.draw.cluster import draw
from edgeemu.scenario.catalog.profile_files import read_profile
from edgeemu.scenario.load import parse_scenario

CSV = """device,nodes,model,weights,link,value,unit
pi,1,Llama 2 7B,Q40,,1312.50,ms
pi,2,Llama 2 7B,Q40,gigabit,793.69,ms
pi,4,Llama 2 7B,Q40,gigabit,494.00,ms
"""
SCENARIO = """
model: llama-2-7b
engine: distributed-llama
devices: [{name: pi, profile: pi.yaml, count: 2}]
network: {default: ethernet-1g}
workload: {prompts: [{tokens: 64}], max_tokens: 4}
"""
ENGINE = ("--engine", "distributed-llama")


@pytest.fixture
def csv(tmp_path: Path) -> str:
    (tmp_path / "measured.csv").write_text(CSV)
    return "measured.csv"


def test_a_calibrated_board_can_be_simulated(edgeemu: Edgeemu, csv: str, tmp_path: Path) -> None:
    options = ("--like", "raspberry-pi-4", "--memory", "8 GiB", "--fit", "nodes=1,2", "--figure", "pi.svg")
    status, out, _ = edgeemu("calibrate", csv, *ENGINE, *options, "--out", "pi.yaml")
    assert status == 0
    assert "mem_bandwidth" in out
    assert "predicted  measured.csv:4" in out
    assert (tmp_path / "pi.svg").read_text().startswith("<?xml")
    profile = read_profile(tmp_path / "pi.yaml")
    assert profile.engine == "distributed-llama"
    assert profile.memory.value == 8 << 30
    assert profile.fit is not None
    assert profile.fit.data == ("measured.csv:2", "measured.csv:3")
    device = draw(parse_scenario(SCENARIO, base=tmp_path)).devices[0]
    assert device.compute is not None
    assert device.compute.mem_bytes_per_s == profile.mem_bandwidth.value
    (tmp_path / "two.yaml").write_text(SCENARIO)
    status, out, _ = edgeemu("simulate", "two.yaml", "--json")
    assert json.loads(out)["tpot_ms"]["mean"] == pytest.approx(793.69, rel=0.01)  # the row that was fitted


def test_the_answer_is_the_same_for_people_and_programs(edgeemu: Edgeemu, csv: str) -> None:
    common = ("calibrate", csv, *ENGINE, "--like", "raspberry-pi-4", "--out", "pi.yaml")
    document = json.loads(edgeemu(*common, "--json")[1])
    assert [row["row"] for row in document["rows"]] == [f"measured.csv:{n}" for n in (2, 3, 4)]
    assert set(document["figures"]) | set(document["not_told_apart"]) >= {"mem_bandwidth", "message_latency"}


def test_rows_that_are_left_out_are_told(edgeemu: Edgeemu, tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text(CSV + "pi,1,GPT-7,Q40,,1,ms\n")
    common = ("calibrate", "some.csv", *ENGINE, "--like", "raspberry-pi-4", "--out", "pi.yaml")
    status, out, _ = edgeemu(*common)
    assert status == 0
    assert 'left out: some.csv:5: model: there is no model "GPT-7" in the catalog' in out
    assert json.loads(edgeemu(*common, "--json")[1])["left_out"][0].startswith("some.csv:5: model: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("measured.csv", "--out", "pi.yaml"), "give --like PROFILE"),
        (("measured.csv", "--out", "pi.yaml", "--like", "raspbery-pi-4"), 'did you mean "raspberry-pi-4"'),
        (("measured.csv", "--out", "pi.yaml", "--memory", "8 Gbit"), "--memory: .*not a size"),
        (("measured.csv", "--out", "pi.yaml", "--memory", "8 GB", "--engine", "lama"), "--engine: there is no engine"),
        (("measured.csv", "--out", "pi.yaml", "--memory", "8 GB", "--fit", "nodes"), '--fit: "nodes" is not COLUMN='),
        (("measured.csv", "--out", "pi.yaml", "--memory", "8 GB", "--figure", "pi.jpg"), '--figure: "pi.jpg"'),
        (
            ("measured.csv", "--out", "no/pi.yaml", "--memory", "8 GB"),
            '--out: "no/pi.yaml" cannot be written: its directory is missing',
        ),
        (("measured.csv", "--out", ".", "--memory", "8 GB"), '--out: "." is a directory; name a file'),
        (("nothing.csv", "--out", "pi.yaml", "--memory", "8 GB"), "nothing.csv: no such file"),
    ],
)
@pytest.mark.usefixtures("csv")
def test_what_cannot_be_is_refused(edgeemu: Edgeemu, arguments: tuple[str, ...], message: str) -> None:
    status, _, err = edgeemu("calibrate", *arguments)
    assert status == 2
    assert re.search(message, err), err


def test_observe_refuses_what_is_no_length(edgeemu: Edgeemu) -> None:
    common = ("observe", "--url", "http://127.0.0.1:9/v1", "--model", "m", "--out", "o.json")
    assert edgeemu(*common, "--prompt-tokens", "16,x")[0] == 2
    assert edgeemu(*common, "--tokens", "1")[0] == 2
    assert edgeemu(*common)[0] == 4
