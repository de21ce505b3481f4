"""Values of `--vary`: the items of a YAML list, each applied as `--set` applies it."""

import pytest

from edgeemu.errors import RequestError
from edgeemu.scenario.load import parse_scenario
from edgeemu.scenario.varied import read_varied

SCENARIO = """
model: smollm2-135m-instruct
devices: [{name: pi, profile: raspberry-pi-4, count: 2}]
network: {default: {bandwidth: 100 Mbit/s, delay: 2 ms}}
workload: {prompts: [Why is the sky blue?]}
"""


@pytest.mark.parametrize(
    ("text", "path", "values"),
    [
        ("devices[0].count=1,2, 4", "devices[0].count", ["1", "2", "4"]),
        ("network.default.bandwidth=10 Mbit/s,1 Gbit/s", "network.default.bandwidth", ["10 Mbit/s", "1 Gbit/s"]),
        ("network.default={bandwidth: 1 Mbit/s, delay: 1 ms},ethernet-1g", "network.default", None),
        ("a=[1,2],[3]", "a", ["[1,2]", "[3]"]),
        ("a='x, y',\"z\"", "a", ["'x, y'", '"z"']),
        ("a={b: [1,2]},", "a", ["{b: [1,2]}"]),
        ("a=x=1,y=2", "a", ["x=1", "y=2"]),
    ],
)
def test_values_are_the_items_of_a_list(text: str, path: str, values: list[str] | None) -> None:
    varied = read_varied(text)
    assert varied.path == path
    assert list(varied.values) == (values or ["{bandwidth: 1 Mbit/s, delay: 1 ms}", "ethernet-1g"])
    assert varied.settings[0] == f"{path}={varied.values[0]}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("devices", "write PATH=A,B,C"),
        ("=1,2", "write PATH=A,B,C"),
        ("a=", "--vary a: no value is given"),
        ("a=1,,2", "--vary a: 1,,2 is no list of values"),
        ("a=[1", "is no list of values"),
        ("a=1],[2", "is no list of values"),
        ("a=1 # 2", "is no list of values"),
        ("a=1,2,1", "--vary a: 1 is there twice"),
        (f"a={'[' * 3000}", "is no list of values"),
    ],
)
def test_what_is_no_list_is_refused(text: str, message: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_varied(text)
    assert message in str(refused.value)


def test_a_varied_value_is_applied_after_the_settings_and_named_in_errors() -> None:
    scenario = parse_scenario(SCENARIO, overrides=["devices[0].count=3"], varied=["devices[0].count=4"])
    assert len(scenario.device_names) == 4
    with pytest.raises(RequestError, match=r'--vary network.default.bandwidth: .*"10 MB" is not'):
        parse_scenario(SCENARIO, varied=["network.default.bandwidth=10 MB"])
    with pytest.raises(RequestError, match=r"--vary devices\[3\].count: devices has 1 entries"):
        parse_scenario(SCENARIO, varied=["devices[3].count=1"])
