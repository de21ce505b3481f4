"""Real inputs, from which others are made: files of the repo and of the model's package, and messages of real types."""

import json
from collections.abc import Callable
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import tokenizers

from edgeemu.scenario.model import ModelSpec
from fuzzing.example import ROOT

FIXTURE = ROOT / "tests" / "fixtures" / "golden_llama"
ALPHABET = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())

TEMPLATES = [
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' %}{% set system = messages[0].content | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}{{ system }}"
    "{{ 'Today is ' + strftime_now('%d %b %Y') }}{% for m in messages %}{% if (m.role == 'user') != "
    "(loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }}]{{ m.content }}"
    "{{ eos_token }}{% endfor %}",
    "{% macro line(m, depth=0) %}{% if depth < 3 %}{{ m | tojson }}{{ line(m, depth + 1) }}{% endif %}{% endmacro %}"
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% generation %}{{ line(m) }}"
    "{% endgeneration %}{% if ns.n > 5 %}{% break %}{% endif %}{% endfor %}{{ dict(a=1).items() | list }}{{ tools }}",
]

# A scenario that names a file of each kind.
FILES_SCENARIO = """
model:
  shape: {n_layers: 1, d_model: 8, n_heads: 2, n_kv_heads: 1, head_dim: 4, d_ff: 8, vocab_size: 9, max_context: 64}
devices: [{name: pi, count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 1 GiB}]
network: {default: {bandwidth: 10 Mbit/s, delay: 2 ms%s}}
workload: {prompts: %s, max_tokens: 4%s}
"""

TRACES = [
    b"time [s],rate [Mbit/s]\n0,50\n0.25,0.5\n2.25,4\n",
    b"# measured\n1700000000.5,50 Mbit/s\n1700000000.75,500 kbit/s\n1700000002.75,0\n1700000004,4e6 bit/s\n",
    b"\xef\xbb\xbft [ms],rate [kbit/s]\r\n0,5e4\r\n100,5e2\r\n2000,1\r\n",
]
PACKETS = [b"0\n0\n3\n7\n7\n12\n2000\n", b"1\n2\n3\n1700\n", b"1700000000000\n1700000000003\n1700000000100\n"]
ARRIVALS = [b"0\n0.5\n1.25 s\n", b"1700000000\n1700000001.5\n# late\n1700000009\n", b"0 ms\n10 ms\n1 min\n"]
PROMPTS = [
    b'{"prompt": "Why?", "max_tokens": 3}\n{"tokens": 5, "seed": 1, "repeat": 2}\n{"text": "So", "stop": ["a", 2]}\n',
    b'{"tokens": 2}\n\n{"tokens": 60, "max_tokens": 1, "stop": []}\n',
]
PLACEMENTS = [
    b"placement: {embed: pi-1, lm_head: pi-2, layers: {0: {device: pi-1, ffn: {pi-1: 40 %, pi-2: 60 %}}}}\n",
    b"placement:\n  embed: pi-1\n  lm_head: pi-1\n  layers:\n    0: {heads: {pi-1: [0]}, proj: pi-2, "
    b"ffn: {pi-2: 0-7}}\n",
]
LINES = [b"Why is the sky blue?\nAnd the sea?\n\n", "été\r\nüber 日本\r\n".encode(), b"a\n" * 100]
SETTINGS = [b"devices[0].memory=1GiB", b"workload.prompts=[{tokens: 64}, Why?]", b"network.default.delay=20 ms"]
SETTINGS += [b"workload.arrivals={poisson: {rate: 2 /s}}", b"model=llama-2-7b", b"devices[1].load=[[0 s, 50 %]]"]


def scenario_texts() -> list[bytes]:
    """The scenarios of the repo, and one with a placement by hand."""
    by_hand = (FILES_SCENARIO % ("", "[{tokens: 2}]", "")).encode() + PLACEMENTS[0]
    return [*(file.read_bytes() for file in sorted((ROOT / "scenarios").rglob("*.yaml"))), by_hand]


def smollm2() -> Path:
    """The model of the quickstart, as its package has it."""
    path = ModelSpec.model_validate("smollm2-135m-instruct").weights().gguf
    assert path is not None
    return Path(path)


def fixture_files() -> dict[str, bytes]:
    """A directory of Hugging Face's, of a small Llama."""
    return {file.name: file.read_bytes() for file in sorted(FIXTURE.iterdir()) if file.suffix != ".npz"}


def tokenizer_files() -> dict[str, Any]:
    """The JSON files of a tokenizer, by name, each with most of what such a file can say."""
    vocabulary = [*ALPHABET, "ab", "<s>", "<t>"]
    core = tokenizers.Tokenizer(tokenizers.models.BPE({token: n for n, token in enumerate(vocabulary)}, [("a", "b")]))
    replace, level = tokenizers.normalizers.Replace, tokenizers.pre_tokenizers.ByteLevel
    core.normalizer = tokenizers.normalizers.Sequence([replace("x", "y"), replace(tokenizers.Regex("z+"), "z")])
    core.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([level(add_prefix_space=False)])
    core.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 257)])
    core.decoder = tokenizers.decoders.Sequence([tokenizers.decoders.ByteLevel(), tokenizers.decoders.Strip(" ", 1, 0)])
    core.add_special_tokens(["<s>"])
    flags = {"single_word": False, "lstrip": True, "rstrip": True, "normalized": False, "special": True}
    token = {"content": "<t>"} | flags
    names = {"bos_token": "<s>", "eos_token": token, "extra_special_tokens": ["<u>"]}
    templates = [{"name": "default", "template": "{{ bos_token }}"}, {"name": "x", "template": "x"}]
    more = {"added_tokens_decoder": {"258": token}, "chat_template": templates, "add_bos_token": True}
    return {
        "tokenizer.json": json.loads(core.to_str()),
        "tokenizer_config.json": names | more,
        "special_tokens_map.json": names,
        "added_tokens.json": {"<s>": 257},
        "config.json": {"vocab_size": 259, "bos_token_id": 257, "eos_token_id": 5},
        "generation_config.json": {"eos_token_id": [5, 258]},
    }


def piece_tokenizer() -> dict[str, Any]:
    """Metadata of a GGUF file about a SentencePiece tokenizer."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "ab"]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": [0.0] * 259 + [-1.0, -2.0, -3.0, -0.5],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * 4,
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.chat_template": TEMPLATES[0],
    }


def samples(kind: Any, depth: int = 0) -> list[Any]:
    """A few values of a type that a message may have. Some types hold others of their own kind."""
    origin, parts = get_origin(kind), get_args(kind)
    simple: dict[Any, list[Any]] = {
        int: [3, 0],
        float: [0.5, 2.0],
        str: ["pi-1", ""],
        bytes: [b"\0\1\2\3"],
        bool: [True],
        type(None): [None],
        Any: [{"kind": "seeded", "seed": 0}],
    }
    if kind in simple:
        return simple[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return list(kind)
    if isinstance(kind, UnionType):
        return [sample for part in parts[: 1 if depth > 3 else None] for sample in samples(part, depth + 1)[:2]]
    if origin is list or (origin is tuple and parts[1:] == (...,)):
        return [origin(samples(parts[0], depth + 1)[:2])]
    if origin is dict:
        return [{samples(parts[0])[0]: samples(parts[1])[0]}]
    if origin is tuple:
        return [tuple(samples(part, depth + 1)[0] for part in parts)]
    return _records(kind, depth)


@cache
def _records(kind: Callable[..., Any], depth: int) -> list[Any]:
    fields = {name: samples(part, depth + 1) for name, part in get_type_hints(kind).items()}
    return [kind(**{name: options[n % len(options)] for name, options in fields.items()}) for n in range(3)]
