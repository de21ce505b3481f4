"""Tokenizers of Hugging Face directories: every file that says something of tokens counts, or is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.tokenizer.huggingface import huggingface_tokenizer
from edgeemu_kernels.tokenizer.tokenizer import Tokenizer

VOCABULARY = {"a": 0, "b": 1, "ab": 2, "<s>": 3, "</s>": 4, "<end>": 5, "<pad>": 6}
PLAIN = {"bos_token": "<s>", "eos_token": "</s>"}
USER = [{"role": "user", "content": "ab"}]

Model = Callable[..., Tokenizer]


def core(**parts: Any) -> dict[str, Any]:
    """A `tokenizer.json`; `parts` replace those of the file."""
    built = tokenizers.Tokenizer(tokenizers.models.BPE(VOCABULARY, [("a", "b")]))
    built.add_special_tokens(["<s>", "</s>"])
    data: dict[str, Any] = json.loads(built.to_str())
    return data | parts


def bos(*pieces: str) -> dict[str, Any]:
    """Post-processor that adds `<s>` and the like around a text, `$A`."""
    single = [
        {"Sequence": {"id": "A", "type_id": 0}} if it == "$A" else {"SpecialToken": {"id": it, "type_id": 0}}
        for it in pieces
    ]
    special = {it: {"id": it, "ids": [VOCABULARY[it]], "tokens": [it]} for it in pieces if it != "$A"}
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}


@pytest.fixture
def made(tmp_path: Path) -> Model:
    def make(tokenizer_config: Any = PLAIN, tokenizer: Any = None, **files: Any) -> Tokenizer:
        """Write files of a model, named without `.json`, and read its tokenizer."""
        named = {
            "tokenizer": tokenizer or core(),
            "tokenizer_config": tokenizer_config,
            "config": {"vocab_size": 7},
        } | files
        for name, content in named.items():
            if content is not None:
                (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return huggingface_tokenizer(tmp_path)

    return make


def of_template(tokenizer: Tokenizer) -> str:
    [text] = tokenizer.render([USER])
    return text


def test_what_a_template_wrote_gets_no_bos(made: Model) -> None:
    tokenizer = made(tokenizer=core(post_processor=bos("<s>", "$A")))
    assert tokenizer.encode("ab") == [3, 2]
    assert tokenizer.encode("<s>ab") == [3, 2]  # not twice
    assert tokenizer.encode("ab", add_special_tokens=False) == [2]
    assert tokenizer.encode("") == [3]


@pytest.mark.parametrize(
    ("pieces", "flags", "expected"),
    [
        (("<s>", "$A", "</s>"), {}, [3, 2, 4]),
        (("<s>", "$A", "</s>"), {"add_bos_token": True, "add_eos_token": False}, [3, 2]),
        (("<s>", "$A"), {"add_bos_token": False}, [2]),
        (("$A",), {"add_bos_token": True}, [3, 2]),
        (("$A",), {"add_bos_token": True, "add_eos_token": True}, [3, 2, 4]),
        (("$A", "</s>"), {"add_bos_token": False}, [2, 4]),
    ],
)
def test_bos_and_eos_are_what_the_files_say(
    made: Model, pieces: tuple[str, ...], flags: dict[str, bool], expected: list[int]
) -> None:
    assert made(PLAIN | flags, core(post_processor=bos(*pieces))).encode("ab") == expected


def test_a_template_gets_the_eos_token_that_is_named_so(made: Model) -> None:
    written = {"chat_template": "{{ eos_token }}{{ unk_token is defined }}{{ pad_token }}{{ image_token }}"}
    tokenizer = made(
        PLAIN | written | {"eos_token": {"content": "<end>"}, "pad_token": "<pad>", "image_token": "<image>"},
        config={"vocab_size": 7, "eos_token_id": 4},
        generation_config={"eos_token_id": [4, 1]},
    )
    assert of_template(tokenizer) == "<end>False<pad><image>"
    assert tokenizer.stop_ids == {1, 4, 5}
    assert tokenizer.decode([2, 5, 2]) == "ab ab"  # named tokens are special ones, whatever tokenizer.json says


def test_tokens_come_from_every_file_that_has_some(made: Model) -> None:
    template = {"chat_template": "{{ bos_token }}{{ eos_token }}{{ additional_special_tokens }}"}
    tokenizer = made(
        template | {"eos_token": "</s>"},
        special_tokens_map={
            "bos_token": {"content": "<s>"},
            "eos_token": "<end>",
            "additional_special_tokens": ["<x>"],
        },
        added_tokens={"<pad>": 6, "<x>": 7},
    )
    assert of_template(tokenizer) == "<s><end>['<x>']"
    assert tokenizer.encode("a<pad><x><end>") == [0, 6, 7, 5]
    assert tokenizer.decode([0, 7, 5]) == "a"
    tokenizer = made(
        template | {"eos_token": "</s>", "added_tokens_decoder": {"5": {"content": "<end>", "rstrip": True}}},
    )
    assert of_template(tokenizer) == "<s></s>['<x>']"  # now tokenizer_config.json counts first
    assert tokenizer.encode("<end>  a") == [5, 0]


def test_tokens_that_are_named_for_one_model_are_special(made: Model) -> None:
    """As transformers 5 writes them."""
    written = {"chat_template": "{{ image_token }}", "model_specific_special_tokens": {"image_token": "<image>"}}
    tokenizer = made(PLAIN | written)
    assert of_template(tokenizer) == "<image>"
    assert tokenizer.encode("a<image>") == [0, 7]
    assert tokenizer.decode([0, 7, 1]) == "a b"


def test_special_tokens_are_text_where_the_config_says_so(made: Model) -> None:
    assert made(PLAIN | {"split_special_tokens": True}).encode("<s>") == []  # characters that are no tokens here


def test_padding_and_truncation_are_not_for_prompts(made: Model) -> None:
    built = tokenizers.Tokenizer(tokenizers.models.BPE(VOCABULARY, []))
    built.enable_padding(length=50)
    built.enable_truncation(2)
    assert made(tokenizer=json.loads(built.to_str())).encode("aaaaa") == [0] * 5
    built.add_special_tokens(["<s>", "</s>"])
    built.enable_padding(length=2**31)
    built.enable_truncation(1)
    data = json.loads(built.to_str()) | {"post_processor": bos("<s>", "$A")}
    assert made(PLAIN | {"add_eos_token": True}, data).encode("aa") == [3, 0, 0, 4]


def test_the_templates_of_a_directory(made: Model, tmp_path: Path) -> None:
    by_name = [{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}]
    assert of_template(made(PLAIN | {"chat_template": by_name})) == "D"
    with pytest.raises(ModelFileError, match=r"tokenizer_config.json: chat template: has several \(tools\)"):
        made(PLAIN | {"chat_template": by_name[:1]}).render([USER])
    (tmp_path / "chat_template.jinja").write_bytes(b"\xef\xbb\xbfJ\r\n{{ bos_token }}\n")
    assert of_template(made(PLAIN | {"chat_template": by_name})) == "J\n<s>"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("R")
    assert of_template(made(PLAIN)) == "J\n<s>"
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(ModelFileError, match=r"has several \(rag\), and none is the default"):
        made(PLAIN | {"chat_template": by_name}).render([USER])
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ModelFileError, match=r"chat_template.jinja: is not text in UTF-8"):
        made()


def growing(times: int) -> dict[str, Any]:
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
    return {"type": "Sequence", "normalizers": [step] * times}


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"tokenizer": {"version": "1.0"}}, "tokenizer.json: is not a tokenizer: "),
        ({"tokenizer": core(normalizer=growing(9))}, "its steps can make a text 1000000000 times"),
        ({"tokenizer": core(post_processor=bos(*["$A"] * 20_000))}, "its steps can make a text 20000 times"),
        ({"tokenizer": core(post_processor=bos(*["<s>"] * 2000, "$A"))}, "its steps can make a text 2000 times"),
        ({"tokenizer": core(normalizer={"type": "Prepend", "prepend": "a" * 5000})}, "can make a text 5001 times"),
        ({"tokenizer": core(model=core()["model"] | {"dropout": 0.5})}, "tokenizer.json: has a BPE dropout"),
        ({"tokenizer": core(model=core()["model"] | {"continuing_subword_prefix": "#" * 99})}, "is not a tokenizer: "),
        ({"config": {"vocab_size": 7, "eos_token_id": 9}}, "config.json: eos_token_id is 9, but the vocabulary has 7"),
        ({"config": {"vocab_size": 7, "bos_token_id": -1}}, "config.json: bos_token_id is -1"),
        ({"generation_config": {"eos_token_id": [1, "2"]}}, "generation_config.json: eos_token_id[1]: expected int"),
        ({"generation_config": {"eos_token_id": 2.5}}, "generation_config.json: eos_token_id: expected int"),
        ({"config": PLAIN | {"eos_token_id": True}}, "config.json: eos_token_id: expected int"),
        ({"tokenizer_config": {"eos_token": 5}}, "tokenizer_config.json: eos_token: expected str"),
        ({"tokenizer_config": {"bos_token": {"text": "<s>"}}}, "tokenizer_config.json: bos_token: lacks content"),
        ({"tokenizer_config": {"x_token": {}}}, "tokenizer_config.json: [...]: lacks content"),
        ({"tokenizer_config": {"chat_template": 1.5}}, "tokenizer_config.json: chat_template: expected str"),
        ({"tokenizer_config": {"chat_template": [["default"]]}}, "tokenizer_config.json: chat_template[0]: "),
        ({"tokenizer_config": {"add_bos_token": "yes"}}, "tokenizer_config.json: add_bos_token: expected bool"),
        ({"tokenizer_config": {"add_bos_token": True}}, "tokenizer_config.json: add_bos_token is true, but"),
        (
            {"tokenizer_config": {"added_tokens_decoder": {"a": {"content": "b"}}}},
            "tokenizer_config.json: expected int, got str - at key",
        ),
        ({"tokenizer_config": {"added_tokens_decoder": {"9": {"content": "new"}}}}, "gives 'new' the number 9, but"),
        ({"added_tokens": {"<s>": 6}}, "added_tokens.json: gives '<s>' the number 6, but in tokenizer.json it is 3"),
        ({"added_tokens": {"<s>": None}}, "added_tokens.json: [...]: expected int, got null"),
        ({"special_tokens_map": {"additional_special_tokens": [3]}}, "special_tokens_map.json: additional_s"),
        ({"special_tokens_map": {"bos_token": "\ud800"}}, "special_tokens_map.json: is not JSON: "),
    ],
)
def test_wrong_files_are_named(made: Model, files: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelFileError) as refused:
        made(**files)
    assert problem in str(refused.value)


def test_an_expression_that_never_ends_is_ended(made: Model) -> None:
    """The library's own limit; its PanicException is no Exception."""
    never = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    tokenizer = made(tokenizer=core(pre_tokenizer=never))
    with pytest.raises(ModelFileError, match=r"tokenizer.json: tokenizer: .*retry-limit-in-match"):
        tokenizer.encode("a" * 40 + "b")
