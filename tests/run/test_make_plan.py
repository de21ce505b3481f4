"""Plans need a tokenizer, prompts and a policy that fit the scenario, and say so if one does not."""

import shutil
from pathlib import Path

import pytest
import tokenizers

from edgeemu.errors import RequestError
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import parse_scenario

FIXTURES = Path(__file__).parent.parent / "fixtures"
REST = """
devices: [{name: a, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 64 MiB}]
workload: {prompts: [PROMPT], max_tokens: 4}
"""


def refusal(text: str, policy: str | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        make_plan(parse_scenario(text, "s"), policy)
    return str(caught.value)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A Hugging Face model of 101 tokens without a tokenizer."""
    return shutil.copytree(FIXTURES / "golden_gpt2", tmp_path / "model")


def text(directory: Path, prompt: str) -> str:
    return f"model: {{directory: {directory}}}{REST.replace('PROMPT', prompt)}"


def save_tokenizer(directory: Path, vocabulary: dict[str, int]) -> None:
    core = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    core.save(str(directory / "tokenizer.json"))


def test_a_model_without_a_tokenizer_takes_random_tokens(directory: Path) -> None:
    plan = make_plan(parse_scenario(text(directory, "{tokens: 7}")))
    assert plan.model.tokenizer is None
    (request,) = plan.requests
    assert len(request.ids) == 7
    assert max(request.ids) < plan.model.shape.vocab_size == 101


def test_a_text_without_a_tokenizer_is_refused(directory: Path) -> None:
    reason = "has no tokenizer; give a number of random tokens: {tokens: 64}"
    assert refusal(text(directory, "hello")) == (
        f"s.yaml:3: workload.prompts[0]: model without a tokenizer.json {reason}"
    )
    seeded = f"model: {{name: smollm2-135m-instruct, layers: 2}}{REST.replace('PROMPT', 'hello')}"
    assert refusal(seeded) == f"s.yaml:3: workload.prompts[0]: smollm2-135m-instruct with weights from a seed {reason}"


@pytest.mark.parametrize("prompt", ["hello", "{tokens: 7}"])
def test_a_broken_tokenizer_is_the_models_fault(directory: Path, prompt: str) -> None:
    (directory / "tokenizer.json").write_text("{}")
    message = refusal(text(directory, prompt))
    assert message.startswith(f"s.yaml:1: model: {directory}/tokenizer.json: is not a tokenizer: ")


def test_another_models_tokenizer_is_found_out(directory: Path) -> None:
    save_tokenizer(directory, {"a": 5, "b": 101})
    assert make_plan(parse_scenario(text(directory, "aa"))).requests[0].ids == (5, 5)
    assert refusal(text(directory, "ab")) == (
        "s.yaml:3: workload.prompts[0]: the tokenizer yields token 101 ('b'), but model has 101 tokens: "
        "the tokenizer is another model's"
    )


def test_a_policy_is_refused_where_it_was_named(directory: Path) -> None:
    wrong = (
        'there is no policy "gredy" (did you mean "greedy"?); see: edgeemu policies; a file\'s policy is path.py:Name'
    )
    assert refusal(text(directory, "{tokens: 7}"), "gredy") == f"--policy: {wrong}"
    assert refusal(text(directory, "{tokens: 7}") + "policy: gredy\n") == f"s.yaml:4: policy: {wrong}"
