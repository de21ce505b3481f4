"""Files of models as inputs: GGUF, safetensors, configs, tokenizers, chat templates."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from edgeemu_kernels.tokenizer.chat import ChatTemplate
from edgeemu_kernels.tokenizer.gguf import gguf_tokenizer
from edgeemu_kernels.tokenizer.huggingface import huggingface_tokenizer
from edgeemu_kernels.tokenizer.tokenizer import Tokenizer
from edgeemu_kernels.weights.open_model import Model, open_gguf, open_huggingface
from fuzzing import corpora
from fuzzing.gguf_file import Q8_0, gguf_bytes, pairs, tiny_llama, tokenizer_of
from fuzzing.inputs import Editor, Files, as_json

CONFIG_WORDS = ["llama3", "linear", "dynamic", "yarn", "longrope", "F8_E4M3", "BF16", "model.safetensors"]
CONFIG_WORDS += ["rope_scaling", "sliding_window", "layer_types", "quantization_config", "num_hidden_layers"]
TOKENIZER_WORDS = ["<s>", "<t>", "ab", "(a+)+$", "default", "ByteLevel", "BPE", "Unigram", "WordPiece", "Replace"]
TOKENIZER_WORDS += ["Sequence", "Precompiled", "Metaspace", "Split", "Regex", "chat_template", "add_eos_token"]
GGUF_WORDS = ["llama.rope.scaling.type", "llama.rope.dimension_count", "general.alignment", "output.weight", "gpt2"]
GGUF_WORDS += ["rope_freqs.weight", "tokenizer.ggml.add_bos_token", "llama.attention.sliding_window", "qwen2", "linear"]
JSON_WORDS = [b"\xff", b"[" * 4000, b'{"a":', b"\xef\xbb\xbf", b"1e999", b"\\ud800", b"NaN", b"null", b","]
TEMPLATE_WORDS = [b"{%", b"%}", b"{{", b"}}", b"{%- ", b"{% endfor %}", b"{% endif %}", b"messages", b" | ", b"(", b"'"]
STATEMENTS = [
    *("{% for x in range(10**9) %}{% endfor %}", "{{ range(10**9) | list }}", "{{ messages * 10**8 }}", "{{ 1 / 0 }}"),
    *("{{ 'a' * 10**9 }}", "{{ 9 ** 9 ** 9 }}", "{{ 'x' | center(10**9) }}", "{{ '%1000000000d' % 1 }}", "{{ x.y.z }}"),
    *("{{ ('x' * 10**6) | wordwrap(1) }}", "{{ ('a' * 10**5) | replace('', 'b' * 10**5) }}", "{{ ''.__class__ }}"),
    *("{% for k in [1] recursive %}{{ loop([1]) }}{% endfor %}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
    *("{{ '{0.__class__}'.format(1) }}", "{{ '{:>1000000000}'.format(1) }}", "{% include 'x' %}", "{% extends 'x' %}"),
    *("{{ strftime_now('%Y' * 10**6) }}", "{{ strftime_now(1) }}", "{{ '\\ud800' }}", "{{ raise_exception([1]) }}"),
    *("{{ messages | tojson(indent=10**9) }}", "{{ messages | groupby('role') }}", "{{ [1] | sum(start='x') }}"),
    *("{% set messages = 1 %}", "{% set bos_token = bos_token * 1000 %}", "{{ messages | map('upper') | list }}"),
    *("{% set ns = namespace(a=1) %}{% set ns.__class__ = 1 %}", "{{ 1e308 * 10 | int }}", "{{ 10**4400 }}"),
    *("{% generation %}", "{% break %}", "{% call x() %}{% endcall %}", "{{ self.x() }}", "{{ cycler('a').next() }}"),
]
_BETWEEN = re.compile(r"(?<=[%}]\})")


def use_tokenizer(tokenizer: Tokenizer | None) -> None:
    if tokenizer is not None:
        ids = tokenizer.encode("ab <s> é")
        stream = tokenizer.stream()
        assert isinstance("".join(stream.add(token) for token in ids) + stream.finish(), str)
        assert all(type(token) is int for token in tokenizer.stop_ids)


def use_model(model: Model) -> None:
    """As devices and a plan use it: every tensor of a layer, and the tokenizer."""
    source, shape = model.open_source(), model.shape
    source.embed(), source.heads(0, range(shape.n_groups)), source.proj(0), source.ffn(0), source.lm_head()
    use_tokenizer(model.tokenizer)


def use_gguf(directory: Path) -> None:
    model = open_gguf(directory / "model.gguf")
    use_model(model)
    use_model(model.at_precision("file", "q8_0", "f16"))


def use_directory(directory: Path) -> None:
    use_model(open_huggingface(directory))


@cache
def gguf_trees() -> tuple[dict[str, Any], ...]:
    tokenizers = [tokenizer_of(corpora.smollm2(), 300), pairs(corpora.piece_tokenizer())]
    models = [tiny_llama(300), tiny_llama(263, Q8_0)]
    return tuple(model | {"metadata": model["metadata"] + more} for model, more in zip(models, tokenizers, strict=True))


@cache
def gguf_seeds() -> list[bytes]:
    return [gguf_bytes(tree) for tree in gguf_trees()]


def make_gguf(editor: Editor) -> Files:
    as_bytes = editor.odds(0.5)
    return {
        "model.gguf": editor.edited(gguf_seeds())
        if as_bytes
        else gguf_bytes(editor.edited_tree(gguf_trees(), GGUF_WORDS))
    }


fixture_files = cache(corpora.fixture_files)


def make_safetensors(editor: Editor) -> Files:
    files = fixture_files()
    name = editor.choose([name for name in files if name.endswith(".safetensors")])
    raw = files[name]
    start = 8 + int.from_bytes(raw[:8], "little")
    if editor.odds(0.7):
        text = as_json(editor.edited_tree([json.loads(raw[8:start])], CONFIG_WORDS))
        return files | {name: len(text).to_bytes(8, "little") + text + raw[start:]}
    return files | {name: editor.edited([raw[: start + 64]]) + raw[start + 64 :]}


def edit_json(editor: Editor, trees: dict[str, Any], words: list[str]) -> Files:
    """One or two of these files edited, mostly as JSON."""
    made = {}
    for name in dict.fromkeys(editor.choose(list(trees)) for _ in range(2)):
        tree = trees[name]
        as_tree = editor.odds(0.75)
        made[name] = (
            as_json(editor.edited_tree([tree], words)) if as_tree else editor.edited([as_json(tree)], JSON_WORDS)
        )
    return made


@cache
def config_trees() -> dict[str, Any]:
    return {name: json.loads(raw) for name, raw in fixture_files().items() if name.endswith(".json")}


def make_config(editor: Editor) -> Files:
    return fixture_files() | edit_json(editor, config_trees(), CONFIG_WORDS)


@cache
def tokenizer_trees() -> dict[str, Any]:
    return corpora.tokenizer_files()


@cache
def tokenizer_files() -> Files:
    return {name: as_json(tree) for name, tree in tokenizer_trees().items()}


def make_tokenizer(editor: Editor) -> Files:
    if editor.odds(0.2):
        return {"metadata": as_json(editor.edited_tree([corpora.piece_tokenizer()], TOKENIZER_WORDS))}
    return tokenizer_files() | edit_json(editor, tokenizer_trees(), TOKENIZER_WORDS)


def use_tokenizer_files(directory: Path) -> None:
    if not (directory / "metadata").exists():
        use_tokenizer(huggingface_tokenizer(directory))
        return
    try:
        metadata = json.loads((directory / "metadata").read_bytes())
        json.dumps(metadata, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # no header of a GGUF file can say it
        return
    if isinstance(metadata, dict):
        use_tokenizer(gguf_tokenizer(directory / "metadata", metadata))


def make_template(editor: Editor) -> Files:
    """A template with bytes edited, or with other statements between its own."""
    if editor.odds(0.4):
        return {"template": editor.edited([source.encode() for source in corpora.TEMPLATES], TEMPLATE_WORDS)}
    pieces = _BETWEEN.split(editor.choose(corpora.TEMPLATES))
    return {"template": "".join(editor.rearranged(pieces, STATEMENTS)).encode()}


def render_template(directory: Path) -> None:
    source = (directory / "template").read_text(errors="replace")
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}, directory / "template")
    chat = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "é"}]
    template.render([chat[:1], chat], "2026-01-31")
