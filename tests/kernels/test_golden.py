"""Agreement with engines that share no code with ours, logit by logit (`tools/make_golden.py` makes the values).

The first greedy token is right even with the wrong RoPE convention, so every position's logits are compared.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from support.loaded import Loaded

from edgeemu_kernels.decoder import Decoder
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.weights.open_model import Model, open_model

LIMIT = 1e-3  # of any logit at any position


@pytest.fixture(scope="module")
def smollm2_weights(smollm2: Model) -> Loaded:
    """All blocks, half a gigabyte: never copy them. Not for longer, since processes that fork would copy its pages."""
    return Loaded(smollm2.open_source())


@pytest.fixture(scope="module")
def golden(fixtures: Path) -> dict[str, np.ndarray]:
    with np.load(fixtures / "golden_smollm2.npz") as file:
        return dict(file)


def assert_logits(logits: np.ndarray, golden: dict[str, np.ndarray], prompt: int, rows: slice = slice(None)) -> None:
    """[t, vocab] against what was kept of each position."""
    np.testing.assert_allclose(logits[:, golden["subset"]], golden[f"subset_logits_{prompt}"][rows], atol=LIMIT, rtol=0)
    np.testing.assert_allclose(logits.max(1), golden[f"max_logit_{prompt}"][rows], atol=LIMIT, rtol=0)
    np.testing.assert_array_equal(logits.argmax(1), golden[f"max_id_{prompt}"][rows])
    shifted = np.exp((logits - logits.max(1, keepdims=True)).astype(np.float64)).sum(1)
    np.testing.assert_allclose(np.log(shifted) + logits.max(1), golden[f"logsumexp_{prompt}"][rows], atol=LIMIT, rtol=0)


@pytest.mark.parametrize("prompt", [0, 1, 2])
def test_reference_agrees_with_transformers(
    prompt: int, golden: dict[str, np.ndarray], smollm2_weights: Loaded
) -> None:
    ids = golden[f"ids_{prompt}"].tolist()
    assert_logits(Reference(smollm2_weights).logits(ids), golden, prompt)


def test_one_prompt_is_long(golden: dict[str, np.ndarray]) -> None:
    assert len(golden["ids_2"]) > 64
    assert golden["subset_logits_2"].shape == (len(golden["ids_2"]), 256)


def test_decoder_agrees_with_transformers_at_every_position(
    golden: dict[str, np.ndarray], smollm2_weights: Loaded
) -> None:
    """Prefill of a part, then token by token."""
    ids, prompt, cut = golden["ids_1"].tolist(), 1, 15
    decoder = Decoder(smollm2_weights, capacity=20)  # and the cache grows on the way
    logits = [decoder.prefill(ids[:cut]), *(decoder.step(token) for token in ids[cut:])]
    assert_logits(np.stack(logits), golden, prompt, slice(cut - 1, None))


def test_the_files_own_bytes_agree_with_transformers(golden: dict[str, np.ndarray], smollm2: Model) -> None:
    """The file holds Q4_1 and Q8_0, and transformers computed with its numbers in float32."""
    ids, prompt, cut = golden["ids_1"].tolist(), 1, 15
    model = smollm2.at_precision("file")
    assert {model.shape.precision.up, model.shape.precision.lm_head} == {"q4_1", "q8_0"}
    decoder = Decoder(model.open_source())
    logits = [decoder.prefill(ids[:cut]), *(decoder.step(token) for token in ids[cut:])]
    assert_logits(np.stack(logits), golden, prompt, slice(cut - 1, None))


@pytest.mark.parametrize("prompt", [0, 1, 2])
def test_greedy_text_is_transformers_text(prompt: int, golden: dict[str, np.ndarray], smollm2_weights: Loaded) -> None:
    ids, expected = golden[f"ids_{prompt}"].tolist(), golden[f"greedy_{prompt}"].tolist()
    decoder = Decoder(smollm2_weights)
    tokens = [int(decoder.prefill(ids).argmax())]
    while len(tokens) < len(expected):
        tokens.append(int(decoder.step(tokens[-1]).argmax()))
    assert tokens == expected


def test_reference_generates_with_a_cache(golden: dict[str, np.ndarray], smollm2_weights: Loaded) -> None:
    ids, expected = golden["ids_0"].tolist(), golden["greedy_0"].tolist()[:8]
    assert expected[0] == 7042
    reference = Reference(smollm2_weights)
    assert reference.generate(ids, 8) == expected
    stop = frozenset({expected[5]})
    assert reference.generate(ids, 8, stop_ids=stop) == expected[: expected.index(expected[5])]


@pytest.mark.parametrize("name", ["golden_llama", "golden_gpt2"])
def test_huggingface_directories(name: str, fixtures: Path) -> None:
    """A sharded Llama with grouped queries, half-split RoPE and Llama 3's scaling; GPT-2."""
    model = open_model(fixtures / name)
    weights = Loaded(model.open_source())
    with np.load(fixtures / name / "golden.npz") as file:
        ids, expected = file["ids"].tolist(), file["logits"]
    np.testing.assert_allclose(Reference(weights).logits(ids), expected, atol=1e-4, rtol=0)
    decoder = Decoder(weights)
    got = [decoder.prefill(ids[:60]), *(decoder.step(token) for token in ids[60:])]
    np.testing.assert_allclose(np.stack(got), expected[59:], atol=1e-4, rtol=0)


def test_tokens_are_those_of_llama_cpp(fixtures: Path, smollm2: Model) -> None:
    tokenizer = smollm2.tokenizer
    assert tokenizer is not None
    for entry in json.loads((fixtures / "golden_tokens.json").read_text()):
        assert tokenizer.encode(entry["text"]) == entry["ids"], entry["text"]
