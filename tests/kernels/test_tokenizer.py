"""Tokenizers from GGUF metadata and from tokenizer.json: round trips, streams, chats, stop tokens."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from support.gguf_files import write

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.tokenizer.tokenizer import Tokenizer
from edgeemu_kernels.weights.open_model import Model, open_model


def chat(user: str, system: str | None = None) -> list[dict[str, str]]:
    before = [] if system is None else [{"role": "system", "content": system}]
    return [*before, {"role": "user", "content": user}]


@pytest.fixture(scope="module")
def smol(smollm2: Model) -> Tokenizer:
    assert smollm2.tokenizer is not None
    return smollm2.tokenizer


def test_known_ids(smol: Tokenizer) -> None:
    assert smol.encode("The capital of France is") == [504, 3575, 282, 4649, 314]
    assert smol.decode([7042]) == " Paris"
    assert smol.encode("<|im_start|>user<|im_end|>") == [1, 4093, 2]
    assert smol.stop_ids == {0, 2}
    assert smol.vocab_size == 49152


@given(
    text=st.text(st.characters(max_codepoint=0x3FFFF, exclude_categories=["Cc", "Cs"]))
)  # all that the vocabulary has
def test_round_trip(smollm2: Model, text: str) -> None:
    smol = smollm2.tokenizer
    assert smol is not None
    ids = smol.encode(text)
    assert smol.decode(ids) == text
    stream = smol.stream()
    assert "".join(stream.add(token) for token in ids) + stream.finish() == text


def test_a_stream_never_breaks_a_character(smol: Tokenizer) -> None:
    text = "🙂 日本語 naïve 👩‍👩‍👧!"
    ids, stream = smol.encode(text), smol.stream()
    pieces = [stream.add(token) for token in ids]
    assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) == text
    assert "" in pieces  # the emoji takes several tokens
    half = smol.stream()
    first = smol.encode("🙂")[0]
    assert half.add(first) == ""
    assert half.finish() == "\ufffd"


@given(ids=st.lists(st.integers(0, 49151), max_size=30))
@example(ids=list(range(140, 160)))
def test_any_stream_ends_as_the_whole_text(smollm2: Model, ids: list[int]) -> None:
    """Also for ids that make no text: bytes that belong together nowhere."""
    smol = smollm2.tokenizer
    assert smol is not None
    stream = smol.stream()
    got = "".join(stream.add(token) for token in ids) + stream.finish()
    assert got.replace("\ufffd", "") == smol.decode(ids).replace("\ufffd", "")


def test_chat(smol: Tokenizer) -> None:
    assert smol.has_chat_template
    with_system, without = smol.render([chat("Hi!", system="Be brief."), chat("Hi!")])
    assert with_system == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "named SmolLM" in without


SPM_TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
SPM_TOKENS += ["▁", "h", "e", "l", "o", "w", "r", "d", "▁h", "el", "lo", "ell", "▁hello", "hello", "▁w", "or", "▁wor"]


def spm_metadata(**overrides: object) -> dict:
    types = [2, 3, 3, *[6] * 256, *[1] * (len(SPM_TOKENS) - 259)]
    scores = [0.0] * 259 + [-float(i) for i in range(len(SPM_TOKENS) - 259)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": SPM_TOKENS,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    } | overrides


def test_sentencepiece(tmp_path: Path) -> None:
    """Scores decide what joins first: `el` (best), then `lo`, and `hello` only by way of pieces that exist."""
    tokenizer = open_model(write(tmp_path / "spm.gguf", metadata=spm_metadata())).tokenizer
    assert tokenizer is not None
    texts = [SPM_TOKENS[token] for token in tokenizer.encode("hello wor")]
    assert texts == ["<s>", *best_first("▁hello▁wor")]
    for text in ("hello world", "  two  spaces ", "日本 🙂"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert [SPM_TOKENS[i] for i in tokenizer.encode("é")] == ["<s>", "▁", "<0xC3>", "<0xA9>"]
    pieces = [SPM_TOKENS[i] for i in tokenizer.encode("w<s>r")]
    assert pieces == ["<s>", "▁w", "<s>", "▁", "r"]  # as llama.cpp: a space before each text, after special tokens too
    assert tokenizer.stop_ids == {2}
    assert not tokenizer.has_chat_template
    with pytest.raises(ModelFileError, match="has no chat template"):
        tokenizer.render([chat("hi")])


def best_first(text: str) -> list[str]:
    """SentencePiece's rule written out: join the neighbours whose union has the best score, leftmost first."""
    pieces, score = list(text), {token: -i for i, token in enumerate(SPM_TOKENS)}
    while True:
        joins = [(score[a + b], -i) for i, (a, b) in enumerate(pairwise(pieces)) if a + b in score]
        if not joins:
            return pieces
        i = -max(joins)[1]
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


@given(text=st.text("helo wrd", max_size=12))
def test_sentencepiece_follows_the_rule(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    tokenizer = spm(tmp_path_factory)
    expected = best_first("▁" + text.replace(" ", "▁")) if text else []
    assert [SPM_TOKENS[token] for token in tokenizer.encode(text)[1:]] == expected


_SPM: list[Tokenizer] = []


def spm(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    if not _SPM:
        model = open_model(write(tmp_path_factory.mktemp("spm") / "spm.gguf", metadata=spm_metadata()))
        assert model.tokenizer is not None
        _SPM.append(model.tokenizer)
    return _SPM[0]


def byte_level_metadata(**overrides: object) -> dict:
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, "12", "123", "Ġ1", "ab", "abc", "<|begin_of_text|>", "<|eot_id|>", "<tool>"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (len(tokens) - 3) + [3, 3, 4],
        "tokenizer.ggml.merges": ["1 2", "12 3", "Ġ 1", "a b"],
        "tokenizer.ggml.bos_token_id": len(tokens) - 3,
        "tokenizer.ggml.eos_token_id": len(tokens) - 2,
    } | overrides


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("gpt-2", " 4123", ["Ġ", "4", "123"]),
        ("smollm", " 123", ["Ġ", "1", "2", "3"]),
        ("llama-bpe", " 4123", ["<|begin_of_text|>", "Ġ", "4", "12", "3"]),
        ("llama-bpe", "abc", ["<|begin_of_text|>", "abc"]),  # in the vocabulary, though no merge makes it
        ("gpt-2", "abc", ["ab", "c"]),
        ("gpt-2", "a<tool>b<|eot_id|>", ["a", "<tool>", "b", "<|eot_id|>"]),
        ("llama-bpe", "<|begin_of_text|>a", ["<|begin_of_text|>", "a"]),  # not twice
        ("default", "a123b", ["a", "123", "b"]),
    ],
)
def test_pre_tokenizers(tmp_path: Path, pre: str, text: str, expected: list[str]) -> None:
    metadata = byte_level_metadata(**{"tokenizer.ggml.pre": pre})
    tokenizer = open_model(write(tmp_path / "bpe.gguf", metadata=metadata)).tokenizer
    assert tokenizer is not None
    assert [metadata["tokenizer.ggml.tokens"][token] for token in tokenizer.encode(text)] == expected


def test_add_bos_is_what_the_file_says(tmp_path: Path) -> None:
    for flag in (True, False):
        metadata = byte_level_metadata(**{"tokenizer.ggml.add_bos_token": flag})
        tokenizer = open_model(write(tmp_path / f"{flag}.gguf", metadata=metadata)).tokenizer
        assert tokenizer is not None
        assert (tokenizer.encode("a")[0] == metadata["tokenizer.ggml.bos_token_id"]) is flag


def test_a_gguf_ends_where_llama_cpp_ends_it(tmp_path: Path) -> None:
    """By the texts of tokens, whatever their type, beside the numbers."""
    metadata = byte_level_metadata()
    metadata["tokenizer.ggml.tokens"][5] = "<end_of_utterance>"
    metadata["tokenizer.ggml.tokens"][7] = "<EOT>"
    tokenizer = open_model(write(tmp_path / "a.gguf", metadata=metadata)).tokenizer
    assert tokenizer is not None
    assert tokenizer.stop_ids >= {5, 7}


def test_a_template_gets_the_special_tokens_that_the_file_numbers(tmp_path: Path) -> None:
    tokens = byte_level_metadata()["tokenizer.ggml.tokens"]
    numbered = {"eos_token_id": len(tokens) - 2, "eot_token_id": 5, "eom_token_id": 7, "padding_token_id": 9}
    metadata = byte_level_metadata(**{f"tokenizer.ggml.{name}": number for name, number in numbered.items()})
    metadata["tokenizer.ggml.add_bos_token"] = True
    template = "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token is defined }}"
    metadata |= {"tokenizer.chat_template": template, "tokenizer.chat_template.rag": "R"}
    tokenizer = open_model(write(tmp_path / "a.gguf", metadata=metadata)).tokenizer
    assert tokenizer is not None
    [text] = tokenizer.render([chat("x")])
    assert text == f"<|begin_of_text|><|eot_id|>{tokens[9]}False"
    assert tokenizer.stop_ids == {5, 7, len(tokens) - 2}
    assert tokenizer.encode("<|eot_id|>", add_special_tokens=False) == [len(tokens) - 2]
    del metadata["tokenizer.chat_template"]
    tokenizer = open_model(write(tmp_path / "b.gguf", metadata=metadata)).tokenizer
    assert tokenizer is not None
    with pytest.raises(ModelFileError, match=r"b.gguf: chat template: has several \(rag\), and none is the default"):
        tokenizer.render([chat("x")])


def test_eos_is_added_where_the_file_says_so(tmp_path: Path) -> None:
    metadata = spm_metadata(**{"tokenizer.ggml.add_eos_token": True, "tokenizer.ggml.add_bos_token": False})
    tokenizer = open_model(write(tmp_path / "a.gguf", metadata=metadata)).tokenizer
    assert tokenizer is not None
    assert [SPM_TOKENS[i] for i in tokenizer.encode("hello")] == ["▁h", "el", "lo", "</s>"]
    assert [SPM_TOKENS[i] for i in tokenizer.encode("<unk>")] == ["<unk>", "</s>"]


def test_llama_tokenizers_have_their_known_special_tokens(tmp_path: Path) -> None:
    """Files that number none of them: as llama.cpp, 0, 1 and 2."""
    names = ("bos_token_id", "eos_token_id", "unknown_token_id")
    metadata = {key: value for key, value in spm_metadata().items() if not key.endswith(names)}
    tokenizer = open_model(write(tmp_path / "a.gguf", metadata=metadata)).tokenizer
    assert tokenizer is not None
    assert [SPM_TOKENS[i] for i in tokenizer.encode("hello")] == ["<s>", "▁h", "el", "lo"]
    assert tokenizer.stop_ids == {2}


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({}, "has no tokenizer"),
        (byte_level_metadata(**{"tokenizer.ggml.model": "bert"}), "tokenizer model 'bert' is not supported"),
        (byte_level_metadata(**{"tokenizer.ggml.pre": "klingon"}), "pre-tokenizer 'klingon' is not supported"),
        (byte_level_metadata(**{"tokenizer.ggml.merges": ["ab"]}), "'ab' is not a merge"),
        (byte_level_metadata(**{"tokenizer.ggml.merges": ["a zzz"]}), "tokenizer: "),
        (byte_level_metadata(**{"tokenizer.chat_template": 5}), "tokenizer.chat_template is 5, not a text"),
        (byte_level_metadata(**{"tokenizer.ggml.merges": [5]}), r"tokenizer.ggml.merges\[0\]: expected str, got int"),
        (byte_level_metadata(**{"tokenizer.ggml.tokens": ["a", "b", "a"]}), "tokenizer.ggml.token"),
        (byte_level_metadata(**{"tokenizer.ggml.eos_token_id": 999}), "eos_token_id is 999, but the vocabulary has"),
        (byte_level_metadata(**{"tokenizer.ggml.eot_token_id": "2"}), "eot_token_id: expected int | null, got str"),
        (byte_level_metadata(**{"tokenizer.ggml.bos_token_id": True}), "bos_token_id: expected int | null, got bool"),
        (
            byte_level_metadata(**{"tokenizer.ggml.eos_token_id": None, "tokenizer.ggml.add_eos_token": True}),
            "no eos_token_id",
        ),
        (byte_level_metadata(**{"tokenizer.ggml.token_type": [1]}), "token_type has 1 values for"),
        (
            spm_metadata(**{"tokenizer.ggml.tokens": [*SPM_TOKENS[:-1], "x" * 9999]}),
            "tokens has one of 9999 characters",
        ),
        (spm_metadata(**{"tokenizer.ggml.scores": [0.0]}), "scores has 1 values for"),
        (
            spm_metadata(**{"tokenizer.ggml.scores": [float("nan")] * len(SPM_TOKENS)}),
            "scores has a value that is not finite",
        ),
    ],
)
def test_tokenizers_that_we_cannot_build_say_why(tmp_path: Path, metadata: dict, problem: str) -> None:
    model = open_model(write(tmp_path / "model.gguf", metadata=metadata))
    with pytest.raises(ModelFileError, match=problem) as raised:
        _ = model.tokenizer
    assert "model.gguf: " in str(raised.value)


def test_huggingface_tokenizer(fixtures: Path, tmp_path: Path) -> None:
    for file in (fixtures / "golden_gpt2").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert open_model(tmp_path).tokenizer is None
    vocabulary = {"<s>": 1, "</s>": 2, "<|im_end|>": 3, "a": 4, "b": 5, "ab": 6}
    core = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [("a", "b")]))
    core.add_special_tokens(["<s>", "</s>", "<|im_end|>"])
    core.save(str(tmp_path / "tokenizer.json"))
    config = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "[{{ messages[0].content }}]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = open_model(tmp_path).tokenizer
    assert tokenizer is not None
    assert tokenizer.encode("aba<|im_end|>") == [6, 4, 3]
    assert tokenizer.stop_ids == {2, 3}
    assert tokenizer.render([chat("ab")]) == ["[ab]"]
    (tmp_path / "chat_template.jinja").write_text("<{{ messages[0].content }}{{ eos_token }}>")
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 5]}')
    core.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    core.save(str(tmp_path / "tokenizer.json"))
    tokenizer = open_model(tmp_path).tokenizer
    assert tokenizer is not None
    assert tokenizer.encode("ab") == [1, 6]
    assert tokenizer.stop_ids == {2, 3, 5}
    assert tokenizer.render([chat("ab")]) == ["<ab</s>>"]
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelFileError, match="is not a tokenizer"):
        _ = open_model(tmp_path).tokenizer


def test_a_seeded_model_has_no_tokenizer(fixtures: Path) -> None:
    from support.kernel_shapes import SMALL

    from edgeemu_kernels.weights.open_model import seeded_model

    assert seeded_model(SMALL, 0).tokenizer is None
    assert np.load(fixtures / "golden_gpt2" / "golden.npz")["ids"].max() < 101
