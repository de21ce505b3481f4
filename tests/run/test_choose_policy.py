"""Trust: no scenario runs a user's code by being read; what the user names on the command line may run."""

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edgeemu.cli import app
from edgeemu.errors import RequestError
from edgeemu.policies import loading
from edgeemu.run.choose_policy import check_policy
from edgeemu.run.make_plan import check, make_plan
from edgeemu.scenario.load import load_scenario, parse_scenario, to_yaml

SCENARIO = """
model:
  shape: {n_layers: 1, d_model: 16, n_heads: 2, n_kv_heads: 2, head_dim: 8, d_ff: 32, vocab_size: 50, max_context: 64}
devices: [{name: a, count: 2, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 1 MiB}]
network: {default: {bandwidth: 10 Mbit/s, delay: 1 ms}}
workload: {prompts: [{tokens: 4}], max_tokens: 2}
policy: mine.py:Mine
"""
POLICY = """
from pathlib import Path
from edgeemu.policies.api import policy
Path(__file__).with_name("it ran").touch()
class Mine:
    def __call__(self, view, current):
        return policy("greedy")(view, current)
"""
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A scenario and the policy that it names, in a directory of their own."""
    inner = tmp_path / "theirs"
    inner.mkdir()
    (inner / "s.yaml").write_text(SCENARIO)
    (inner / "mine.py").write_text(POLICY)
    return inner


@pytest.fixture
def call(directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """A command on the scenario, from another directory than its own."""
    monkeypatch.chdir(directory.parent)

    def call(command: str, *arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            app.main([command, *arguments])
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("command", ["plan", "simulate", "run"])
def test_a_scenarios_file_is_not_run_without_trust(call: Call, directory: Path, command: str) -> None:
    status, _, told = call(command, "theirs/s.yaml")
    file = f"{directory}/mine.py:Mine"
    assert status == 2
    assert told.endswith(
        f"theirs/s.yaml:7: policy: {file} is code that this scenario wants to run; if you trust it, add --trust, "
        f"or give --policy {file}\n"
    )
    assert not (directory / "it ran").exists()


def test_nothing_is_run_by_checking_a_scenario(call: Call, directory: Path) -> None:
    status, out, _ = call("validate", "theirs/s.yaml")
    assert status == 0
    assert out.endswith(f"custom on 2 devices, 1 prompt; {directory}/mine.py:Mine was not run (--policy runs it)\n")
    assert json.loads(call("validate", "theirs/s.yaml", "--json")[1])["placed"] is False
    assert not (directory / "it ran").exists()
    status, out, _ = call("validate", "theirs/s.yaml", "--policy", "theirs/mine.py:Mine")
    assert status == 0
    assert "theirs/mine.py:Mine finds room for it" in out
    (directory / "mine.py").unlink()
    status, _, told = call("validate", "theirs/s.yaml")
    assert (status, told) == (2, f"edgeemu: theirs/s.yaml:7: policy: there is no policy file {directory}/mine.py\n")


def test_a_run_says_what_it_ran_and_can_be_repeated(call: Call, directory: Path) -> None:
    status, out, _ = call("simulate", "theirs/s.yaml", "--policy", "theirs/mine.py:Mine", "--json")
    assert status == 0
    written = Path(json.loads(out)["directory"]) / "scenario.yaml"
    assert load_scenario(written).policy == f"{directory}/mine.py:Mine"
    assert call("simulate", str(written))[0] == 2
    status, out, _ = call("simulate", str(written), "--trust", "--json")
    assert status == 0
    assert "mine.py-Mine" in Path(json.loads(out)["directory"]).name


def test_a_file_that_the_command_line_sets_is_the_users_own(directory: Path) -> None:
    scenario = load_scenario(directory / "s.yaml", ["policy=mine.py:Mine"])
    made = make_plan(scenario)
    made.close()
    assert (directory / "it ran").exists()
    assert check(scenario).placed


def test_file_names_of_policies_are_relative_to_the_scenario(directory: Path) -> None:
    scenario = load_scenario(directory / "s.yaml")
    assert scenario.policy == f"{directory}/mine.py:Mine"
    assert parse_scenario(to_yaml(scenario), base=Path("/elsewhere")).policy == scenario.policy
    for name in ("greedy", "theirs", "no.python"):
        assert parse_scenario(SCENARIO.replace("mine.py:Mine", name)).policy == name


def test_an_installed_policy_is_looked_up_and_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("theirs", "no_such_module:place", loading.GROUP)]
    monkeypatch.setattr(loading, "entry_points", lambda group: points if group == loading.GROUP else [])
    checked = check(parse_scenario(SCENARIO.replace("mine.py:Mine", "theirs")))
    assert (checked.policy, checked.placed) == ("theirs", False)
    check_policy("theirs")
    with pytest.raises(RequestError, match=r'policy: there is no policy "their" \(did you mean "theirs"\?\)'):
        check(parse_scenario(SCENARIO.replace("mine.py:Mine", "their")))
