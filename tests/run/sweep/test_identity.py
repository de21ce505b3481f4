"""Keys of runs: what decides figures changes them, and nothing else does."""

import os
from pathlib import Path

import pytest
from support.model_directories import copied

from edgeemu.run.sweep import identity
from edgeemu.run.sweep.identity import key_of
from edgeemu.scenario.load import parse_scenario

SHAPE = "{n_layers: 1, d_model: 8, n_heads: 2, n_kv_heads: 1, head_dim: 4, d_ff: 8, vocab_size: 9, max_context: 99}"
TEXT = f"""
model: {{shape: {SHAPE}}}
devices:
  - {{name: a, count: 2, gflops: {{uniform: {{low: 1 GFLOPS, high: 2 GFLOPS}}}}, mem_bandwidth: 1 GB/s, memory: 1 MiB}}
network: {{default: {{bandwidth: 1 Mbit/s, delay: 1 ms}}}}
workload: {{prompts: [{{tokens: 2}}], max_tokens: 2}}
"""
FIXTURE = Path(__file__).parents[2] / "fixtures" / "golden_llama"


def key(
    *settings: str, text: str = TEXT, policy: str | None = "layers", simulate: bool = True, base: Path | None = None
) -> str:
    return key_of(parse_scenario(text, overrides=settings, base=base), policy, simulate=simulate)


def test_equal_runs_have_equal_keys() -> None:
    assert key() == key()
    assert key(policy=None) == key(policy="lookahead"), "it is the scenario's"
    assert key() == key("description=other words")
    assert key() == key("network.default.bandwidth=1000 kbit/s")
    assert len(key()) == 20


@pytest.mark.parametrize(
    "setting", ["seed=1", "network.default.bandwidth=2 Mbit/s", "devices[0].count=3", "workload.max_tokens=3", "name=b"]
)
def test_every_value_counts(setting: str) -> None:
    assert key(setting) != key()


def test_policy_mode_and_code_count(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {key(), key(policy="mdi"), key(simulate=False)}
    monkeypatch.setattr(identity, "software_here", lambda: "0.2.0 abc")
    assert len(keys | {key()}) == 4


def test_files_count_with_what_is_in_them(tmp_path: Path) -> None:
    policy = tmp_path / "mine.py"
    policy.write_text("def place(view, current): ...")
    before = key(policy=str(policy))
    policy.write_text("def place(view, current): return None")
    assert key(policy=str(policy)) != before

    copied(FIXTURE, tmp_path / "model")
    text = TEXT.replace(f"{{shape: {SHAPE}}}", "{directory: model}")
    before = key(text=text, base=tmp_path)
    assert key(text=text, base=tmp_path) == before
    os.utime(tmp_path / "model" / "config.json", (1, 1))
    assert key(text=text, base=tmp_path) != before


def test_a_profile_in_a_file_counts_with_its_figures(tmp_path: Path) -> None:
    def with_profile(bandwidth: str) -> str:
        figures = {"gflops": "1 GFLOPS", "mem_bandwidth": bandwidth, "memory": "1 MiB"}
        lines = [
            f"{name}: {{value: {value}, source: measured by hand, label: measured}}" for name, value in figures.items()
        ]
        (tmp_path / "pi.yaml").write_text("\n".join(["title: Pi", *lines]))
        return key("devices=[{name: a, profile: pi.yaml}]", base=tmp_path)

    assert with_profile("1 GB/s") == with_profile("1 GB/s") != with_profile("2 GB/s")
