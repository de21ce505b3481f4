"""Hugging Face directories: what each key and tensor means, and what is refused with its true cause."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.model_directories import (
    MISSING,
    configured,
    copied,
    in_one_file,
    tensors,
    write_raw_safetensors,
    write_safetensors,
)

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.weights.open_model import open_model
from edgeemu_kernels.weights.safetensors_index import read_index

LLAMA, GPT2 = "golden_llama", "golden_gpt2"


def test_a_model_without_a_tokenizer_has_its_end_tokens(fixtures: Path, tmp_path: Path) -> None:
    directory = copied(fixtures / LLAMA, tmp_path / "model", eos_token_id=7)
    assert open_model(directory).end_ids == {7}
    (directory / "generation_config.json").write_text('{"eos_token_id": [9, 11]}')
    assert open_model(directory).end_ids == {7, 9, 11}


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"repetition_penalty": 1.1}, r"repetition_penalty = 1.1 is not supported; remove it"),
        ({"suppress_tokens": [1, 2]}, "suppress_tokens = a list of 2"),
        ({"forced_eos_token_id": 2}, "forced_eos_token_id = 2"),
        ({"repetition_penalty": 1.0, "suppress_tokens": [], "num_beams": 1, "temperature": 0.6, "do_sample": True}, ""),
    ],
)
def test_a_choice_of_tokens_that_we_do_not_make_is_refused(
    fixtures: Path, tmp_path: Path, keys: dict[str, Any], problem: str
) -> None:
    directory = copied(fixtures / LLAMA, tmp_path / "model")
    (directory / "generation_config.json").write_text(json.dumps(keys))
    with pytest.raises(ModelFileError, match=f"generation_config.json: {problem}") if problem else nullcontext():
        open_model(directory)


@pytest.mark.parametrize(
    ("name", "keys", "problem"),
    [
        (LLAMA, {"hidden_size": "48"}, "hidden_size: expected int, got str"),
        (LLAMA, {"hidden_size": MISSING}, "lacks hidden_size"),
        (LLAMA, {"num_hidden_layers": 10**9}, "num_hidden_layers: expected int <= 4096, got 1000000000"),
        (LLAMA, {"num_hidden_layers": 2.5}, "num_hidden_layers: expected int"),
        (LLAMA, {"num_hidden_layers": True}, "num_hidden_layers: expected int, got bool"),
        (LLAMA, {"num_attention_heads": 0}, "num_attention_heads: expected int >= 1"),
        (LLAMA, {"num_key_value_heads": 4}, "must be a multiple of n_kv_heads"),
        (LLAMA, {"num_attention_heads": 5, "head_dim": None}, "not a multiple of num_attention_heads"),
        (LLAMA, {"head_dim": 7}, "even head_dim"),
        (LLAMA, {"rms_norm_eps": 0}, "norm_eps must be positive"),
        (LLAMA, {"rms_norm_eps": 5.0}, "norm_eps must be positive and at most 1"),
        (LLAMA, {"tie_word_embeddings": "no"}, "tie_word_embeddings: expected bool, got str"),
        (LLAMA, {"architectures": 5}, "architectures: 5 is not supported"),
        (LLAMA, {"hidden_act": ["silu"]}, "hidden_act = a list of 1 is not supported"),
        (LLAMA, {"mlp_bias": True}, "mlp_bias = True"),
        (LLAMA, {"layer_types": ["full_attention"]}, "layer_types has 1 entries for 2 layers"),
        (LLAMA, {"eos_token_id": [1, "a"]}, "eos_token_id"),
        (LLAMA, {"eos_token_id": 10**6}, "eos_token_id"),
        (LLAMA, {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0"),
        (LLAMA, {"residual_multiplier": 0.22}, "residual_multiplier = 0.22"),
        (LLAMA, {"attention_multiplier": 0.01}, "attention_multiplier = 0.01"),
        (LLAMA, {"quantization_config": {"quant_method": "gptq"}}, r"quantized weights \('gptq'\).*bf16"),
        (LLAMA, {"layer_types": ["full_attention", "linear_attention"]}, "'linear_attention' is not supported"),
        (LLAMA, {"layer_types": ["sliding_attention"] * 2}, "there is no sliding_window"),
        (LLAMA, {"sliding_window": -1}, "sliding_window: expected int >= 1"),
        (LLAMA, {"model_type": "gemma"}, "model_type 'gemma' is of another architecture than LlamaForCausalLM"),
        (LLAMA, {"model_type": ["llama"]}, "model_type a list of 1 is of another architecture"),
        (LLAMA, {"text_config": {"rope_theta": 5e5}}, "text_config = an object of 1 keys is not supported"),
        (LLAMA, {"num_hidden_layers": 1}, r"has tensor 'layers\.1\..*does not have"),
        (GPT2, {"n_head": False}, "n_head: expected int, got bool"),
        (GPT2, {"n_head": 5}, "is not a multiple of n_head"),
        (GPT2, {"scale_attn_weights": False}, "scale_attn_weights = False"),
        (GPT2, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
        (GPT2, {"add_cross_attention": True}, "add_cross_attention = True"),
        (GPT2, {"model_type": "gpt_neo"}, "model_type 'gpt_neo' is of another architecture than GPT2LMHeadModel"),
        (GPT2, {"num_attention_heads": 2}, "num_attention_heads and n_head differ"),
        (GPT2, {"n_inner": 5}, "the model's shape asks for"),
        (GPT2, {"tie_word_embeddings": False}, "tensor 'lm_head.weight' is missing"),
    ],
)
def test_configs_that_are_refused(
    fixtures: Path, tmp_path: Path, name: str, keys: dict[str, Any], problem: str
) -> None:
    here = copied(fixtures / name, tmp_path / name, **keys)
    with pytest.raises(ModelFileError, match=problem):
        open_model(here)


@pytest.mark.parametrize(
    ("keys", "context", "limit"),
    [
        ({"sliding_window": None}, 256, ""),
        ({"sliding_window": 4096}, 256, ""),
        ({"sliding_window": 100}, 100, "its sliding window of 100 tokens"),
        ({"max_position_embeddings": 6000}, 6000, ""),
        (
            {"max_position_embeddings": 6000, "architectures": ["MistralForCausalLM"]},
            4096,
            "its sliding window of 4096",
        ),
        ({"max_position_embeddings": 6000, "model_type": "mistral"}, 4096, "its sliding window of 4096"),
    ],
)
def test_a_window_limits_the_context(
    fixtures: Path, tmp_path: Path, keys: dict[str, Any], context: int, limit: str
) -> None:
    model = open_model(copied(fixtures / LLAMA, tmp_path / "model", **keys))
    assert model.shape.max_context == context
    assert model.context_limit.startswith(limit)
    assert bool(model.context_limit) == bool(limit)


def test_a_head_that_differs_from_the_embedding_is_kept(fixtures: Path, tmp_path: Path) -> None:
    """As transformers 5 does, whatever tie_word_embeddings says."""
    here = in_one_file(copied(fixtures / LLAMA, tmp_path / "model"))
    untied = Reference(open_model(here).open_source()).logits([3, 1, 4])
    configured(here, tie_word_embeddings=True)
    model = open_model(here)
    assert not model.shape.tied_embeddings
    np.testing.assert_array_equal(Reference(model.open_source()).logits([3, 1, 4]), untied)
    stored = tensors(here)
    stored["lm_head.weight"] = stored["model.embed_tokens.weight"]
    write_safetensors(here / "model.safetensors", dict(stored))
    assert open_model(here).shape.tied_embeddings
    del stored["lm_head.weight"]
    write_safetensors(here / "model.safetensors", dict(stored))
    assert open_model(here).shape.tied_embeddings


def test_other_types_and_names_are_named(fixtures: Path, tmp_path: Path) -> None:
    here = in_one_file(copied(fixtures / LLAMA, tmp_path / "model"))
    stored, query = tensors(here), "model.layers.1.self_attn.q_proj"
    without = {name: value for name, value in stored.items() if name != f"{query}.weight"}
    rows, width = stored[f"{query}.weight"].shape
    for others, problem in (
        ({f"{query}.weight": ("F8_E4M3", [rows, width], bytes(rows * width))}, "has the type 'F8_E4M3'"),
        ({f"{query}.weight": ("F64", [rows, width], bytes(rows * width * 8))}, "has the type 'F64'"),
        (
            {f"{query}.qweight": ("I32", [1], bytes(4))},
            "'layers.1.self_attn.q_proj.qweight': weights quantized by GPTQ",
        ),
        ({}, "is missing; the file has 20 others: 'embed_tokens.weight'"),
        ({f"{query}.bias": np.zeros(4, np.float32)}, "is missing"),
    ):
        write_safetensors(here / "model.safetensors", without | others)
        with pytest.raises(ModelFileError, match=problem):
            open_model(here)
    write_safetensors(here / "model.safetensors", stored | {f"{query}.bias": np.zeros(rows, np.float32)})
    with pytest.raises(ModelFileError, match=r"has tensor 'layers.1.self_attn.q_proj.bias', which a model of this"):
        open_model(here)
    write_safetensors(
        here / "model.safetensors", stored | {"model.layers.1.rotary_emb.inv_freq": np.ones(4, np.float32)}
    )
    open_model(here)
    write_safetensors(here / "model.safetensors", {f"base_model.model.{name}": a for name, a in stored.items()})
    with pytest.raises(ModelFileError, match="PEFT"):
        open_model(here)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "has neither model.safetensors nor"),
        ({"pytorch_model.bin": b""}, r"only pytorch_model\.bin; convert it with transformers"),
        ({"pytorch_model-00001-of-00002.bin": b""}, r"only pytorch_model-00001-of-00002\.bin"),
        ({"adapter_model.safetensors": b""}, "PEFT"),
        ({"model-00001-of-00002.safetensors": b""}, "only model-00001-of-00002"),
        ({"model.safetensors": b"version https://git-lfs.github.com/spec/v1\nsize 9"}, "Git LFS pointer"),
        ({"model.safetensors": (2**60).to_bytes(8, "little") + b"{" * 99}, "is truncated"),
        ({"model.safetensors": (5 << 20).to_bytes(8, "little") + b"{" * (6 << 20)}, "header of 5242880 bytes"),
    ],
)
def test_directories_without_weights(fixtures: Path, tmp_path: Path, files: dict[str, bytes], problem: str) -> None:
    (tmp_path / "config.json").write_bytes((fixtures / LLAMA / "config.json").read_bytes())
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(ModelFileError, match=problem):
        open_model(tmp_path)


def entry(first: Any, last: Any, dims: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(dims), "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ({"a": 5}, "tensor 'a' is 5, not an object"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "tensor 'a': lacks data_offsets"),
        ({"a": entry(-8, 0)}, r"tensor 'a': data_offsets\[0\]: expected int >= 0"),
        ({"a": entry(8, 0)}, "tensor 'a' has -8 bytes"),
        ({"a": entry(0, 8, dims=[2**60, 2**60])}, "tensor 'a' has 8 bytes for"),
        ({"a": entry(0, 8, dims=[1] * 99)}, "expected array of length <= 8"),
        ({"a": entry(0, 8, dims=[2.5])}, r"shape\[0\]: expected int, got float"),
        ({"a": entry(0, 800, dims=[200])}, "is truncated: tensor 'a' ends at byte"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, "tensors 'a' and 'b' overlap"),
        ({"a": entry(0, 8), "model.a": entry(8, 16)}, "is there twice"),
        ({"a\x1b[2J": entry(0, 4)}, r"tensor 'a\\x1b\[2J' has 4 bytes"),
    ],
)
def test_damaged_safetensors_headers(tmp_path: Path, header: dict[str, Any], problem: str) -> None:
    write_raw_safetensors(tmp_path / "model.safetensors", header, bytes(16))
    with pytest.raises(ModelFileError, match=problem):
        read_index(tmp_path)


@pytest.mark.parametrize(
    "start",
    [b"PK\x03\x04\x00\x00\x08\x08archive/data.pkl", b"GGUF\x03\x00\x00\x00\x1e", b"<!DOCTYPE html>", bytes(9)],
)
def test_other_files_under_the_name_are_not_called_truncated(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(start)
    with pytest.raises(ModelFileError, match=r"model.safetensors: is not a safetensors file"):
        read_index(tmp_path)


def test_an_index_describes_files_of_its_directory(fixtures: Path, tmp_path: Path) -> None:
    here = copied(fixtures / LLAMA, tmp_path / "model")
    path = here / "model.safetensors.index.json"
    whole = json.loads(path.read_text())["weight_map"]
    first, second = sorted(set(whole.values()))[:2]
    name = next(name for name, file in whole.items() if file == first)
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes((here / first).read_bytes())
    (here / "linked.safetensors").symlink_to(outside)
    for changed, problem in (
        ({name: second}, f"is stale: it places tensor '{name}' in {second}, but it is in {first}"),
        ({"model.layers.9.x": first}, "is stale: it places tensor 'model.layers.9.x' in .* but it is nowhere"),
        ({name: "../outside.safetensors"}, "is not the name of a safetensors file"),
        ({name: str(outside)}, "is not the name of a safetensors file"),
        ({name: 7}, "is 7, not the name of a file"),
        ({name: "config.json"}, "is not the name of a safetensors file"),
        ({name: "linked.safetensors"}, "is a symbolic link out of its directory"),
        ({name: "gone.safetensors"}, r"gone.safetensors: cannot be read"),
    ):
        path.write_text(json.dumps({"weight_map": whole | changed}))
        with pytest.raises(ModelFileError, match=problem):
            open_model(here)
    path.write_text(json.dumps({"weight_map": whole}))
    open_model(here)
    (here / "model.safetensors").write_bytes(outside.read_bytes())
    with pytest.raises(ModelFileError, match=r"is an index of other files than .*, which is there too"):
        open_model(here)


def test_links_of_the_hub_cache_are_followed(fixtures: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--someone--small"
    blobs, snapshot = cache / "blobs", cache / "snapshots" / "1a2b"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted((fixtures / LLAMA).iterdir())):
        (blobs / f"{number:064x}").write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"{number:064x}")
    assert open_model(snapshot).shape.n_layers == 2


def test_weights_that_are_not_numbers_are_named(fixtures: Path, tmp_path: Path) -> None:
    here = in_one_file(copied(fixtures / LLAMA, tmp_path / "model"))
    stored = tensors(here)
    for value in (np.nan, np.inf, -np.inf):
        down = stored["model.layers.1.mlp.down_proj.weight"].copy()
        down[3, 5] = value
        write_safetensors(here / "model.safetensors", stored | {"model.layers.1.mlp.down_proj.weight": down})
        source = open_model(here).open_source()
        source.ffn(0)
        with pytest.raises(
            ModelFileError, match=r"tensor 'layers.1.mlp.down_proj.weight' has values that are not finite"
        ):
            source.ffn(1)
