"""The README's question about four boards has the answers that the commands give."""

import re
from pathlib import Path

import pytest

from edgeemu.errors import EdgeemuError
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import load_scenario

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
FASTER = ("network.default=ethernet-2.5g", "devices[0].nic=2.5 Gbit/s")


def per_token_ms(*settings: str) -> float:
    plan = make_plan(load_scenario(ROOT / "scenarios" / "four-pi5.yaml", settings))
    tpot_s = plan.predictions()[0].tpot_s
    assert tpot_s is not None
    return 1e3 * tpot_s


def test_the_times_are_those_of_the_commands():
    now, faster, eight = per_token_ms(), per_token_ms(*FASTER), per_token_ms("devices[0].count=8")
    assert f"{now:.1f} ms" in README
    assert f"{faster:.1f} ms" in README
    assert f"makes {1e3 / now:.1f} tokens per second" in README
    assert f"saves {100 * (1 - faster / now):.0f} %" in README
    assert f"eight would take {eight:.0f} ms per token" in README


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        ("4 gmktec-g3-plus for 4 pi", "devices[0].profile=gmktec-g3-plus"),
        ("4 more pi", "devices[0].count=8"),
    ],
)
def test_the_advice_has_the_times_of_the_same_settings(words: str, setting: str):
    (rate, took_ms) = re.findall(rf"^    {words} +([\d.]+) +([\d.]+) ms", README, re.MULTILINE)[0]
    assert f"{per_token_ms(setting):.1f}" == took_ms
    assert f"{1e3 / per_token_ms(setting):.2f}" == rate


def test_a_fifth_board_is_refused_in_the_same_words():
    with pytest.raises(EdgeemuError) as refused:
        per_token_ms("devices[0].count=5")
    assert f"edgeemu: {refused.value}" in README


def test_the_error_that_it_names_is_that_of_the_page():
    page = (ROOT / "docs" / "validation.md").read_text("utf-8")
    (median,) = re.findall(r"with a median error of ([\d.]+) %", page)
    assert f"on up to four nodes {float(median):.0f} % in the median" in README
