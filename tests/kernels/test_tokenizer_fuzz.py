"""Tokenizer files with wrong values anywhere: a tokenizer that works, or a ModelFileError."""

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.tokenizer.gguf import gguf_tokenizer
from edgeemu_kernels.tokenizer.huggingface import huggingface_tokenizer
from edgeemu_kernels.tokenizer.tokenizer import Tokenizer

ALPHABET = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
TOKEN = {"content": "<t>", "single_word": False, "lstrip": True, "rstrip": True, "normalized": False, "special": True}
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

BYTE_LEVEL = {
    "model": "gpt2",
    "pre": "llama-bpe",
    "tokens": [*ALPHABET, "ab", "<s>", "<t>"],
    "token_type": [1] * 257 + [3, 4],
    "merges": ["a b"],
    "bos_token_id": 257,
    "eos_token_id": 5,
}
PIECES = {
    "model": "llama",
    "tokens": ["<unk>", "<s>", "</s>", *BYTES, "▁", "a", "b", "ab"],
    "scores": [0.0] * 259 + [-1.0, -2.0, -3.0, -0.5],
    "token_type": [2, 3, 3] + [6] * 256 + [1] * 4,
    "add_space_prefix": True,
}


def files() -> dict[str, Any]:
    """Files of a model, each with most of what such a file can say."""
    core = tokenizers.Tokenizer(tokenizers.models.BPE({token: i for i, token in enumerate(BYTE_LEVEL["tokens"])}, []))
    replace, level = tokenizers.normalizers.Replace, tokenizers.pre_tokenizers.ByteLevel
    core.normalizer = tokenizers.normalizers.Sequence([replace("x", "y"), replace(tokenizers.Regex("z+"), "z")])
    core.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([level(add_prefix_space=False)])
    core.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 257)])
    core.decoder = tokenizers.decoders.Sequence([tokenizers.decoders.ByteLevel(), tokenizers.decoders.Strip(" ", 1, 0)])
    core.add_special_tokens(["<s>"])
    names = {"bos_token": "<s>", "eos_token": TOKEN, "extra_special_tokens": ["<u>"]}
    templates = [{"name": "default", "template": "{{ bos_token }}"}, {"name": "x", "template": "x"}]
    more = {"added_tokens_decoder": {"258": TOKEN}, "chat_template": templates, "add_bos_token": True}
    return {
        "tokenizer.json": json.loads(core.to_str()),
        "tokenizer_config.json": names | more,
        "special_tokens_map.json": names,
        "added_tokens.json": {"<s>": 257},
        "config.json": {"vocab_size": 259, "bos_token_id": 257, "eos_token_id": 5},
        "generation_config.json": {"eos_token_id": [5, 258]},
    }


def paths(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places in JSON-like data; of a long list or object only the first few."""
    inner = list(data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ())
    for key, value in inner[:8]:
        yield (*path, key)
        yield from paths(value, (*path, key))


FILES = files()
PLACES = list(paths(FILES))
EXAMPLES = settings(QUICK, suppress_health_check=[HealthCheck.function_scoped_fixture])

texts = st.text(max_size=6) | st.sampled_from(["<s>", "<t>", "ab", "a" * 2000, "(a+)+$", "default", "ByteLevel"])
numbers = st.integers(-(2**65), 2**65) | st.sampled_from([-1, 0, 1, 2**31, 2**32 - 1, 2**63]) | st.floats()
scalars = st.none() | st.booleans() | numbers | texts
junk = scalars | st.lists(scalars, max_size=2) | st.dictionaries(texts, scalars, max_size=2) | st.just(TOKEN)


def check(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("ab <s> é")
    stream = tokenizer.stream()
    assert isinstance("".join(stream.add(token) for token in ids) + stream.finish(), str)
    assert all(type(token) is int for token in tokenizer.stop_ids)


@EXAMPLES
@given(edits=st.lists(st.tuples(st.sampled_from(PLACES), junk), min_size=1, max_size=3))
def test_files_of_a_directory(tmp_path: Path, edits: list[tuple[tuple[Any, ...], Any]]) -> None:
    edited = copy.deepcopy(FILES)
    for (*above, last), value in edits:
        holder: Any = edited
        for key in above:
            holder = holder[key] if isinstance(holder, dict) and key in holder else {}
        if isinstance(holder, dict):
            holder[last] = value
    for name, content in edited.items():
        (tmp_path / name).write_text(json.dumps(content))
    with suppress(ModelFileError):
        check(huggingface_tokenizer(tmp_path))


@EXAMPLES
@given(
    base=st.sampled_from([BYTE_LEVEL, PIECES]),
    edits=st.dictionaries(st.sampled_from(sorted({*BYTE_LEVEL, *PIECES, "add_bos_token", "eot_token_id"})), junk),
    items=st.lists(st.tuples(st.sampled_from(["tokens", "token_type", "scores", "merges"]), st.integers(0, 300), junk)),
)
def test_metadata_of_a_gguf(base: dict[str, Any], edits: dict[str, Any], items: list[tuple[str, int, Any]]) -> None:
    edited = copy.deepcopy(base) | (edits if len(edits) < 3 else {})
    for name, number, value in items:
        values = edited.get(name)
        if isinstance(values, list) and values:
            values[number % len(values)] = value
    with suppress(ModelFileError):
        check(gguf_tokenizer(Path("a.gguf"), {f"tokenizer.ggml.{name}": value for name, value in edited.items()}))


def test_the_files_are_right_before_they_are_edited(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_text(json.dumps(content))
    check(huggingface_tokenizer(tmp_path))
    for base in (BYTE_LEVEL, PIECES):
        check(gguf_tokenizer(Path("a.gguf"), {f"tokenizer.ggml.{name}": value for name, value in base.items()}))
    with pytest.raises(ModelFileError):
        gguf_tokenizer(Path("a.gguf"), {})
