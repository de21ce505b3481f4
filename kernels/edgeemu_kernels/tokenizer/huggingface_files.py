"""Companions of a Hugging Face `tokenizer.json`: special tokens and chat templates. Knows their keys; builds nothing.

Where two files name the same thing, the one that transformers (version 5) believes counts: `tokenizer_config.json` if
it has `added_tokens_decoder`, else `special_tokens_map.json`; files with templates, else `tokenizer_config.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import tokenizers
from msgspec import UNSET, UnsetType

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.tokenizer.chat import ChatTemplate
from edgeemu_kernels.tokenizer.library import checked_id
from edgeemu_kernels.weights.json_files import read_bounded, read_json, short, typed

# Keys of generation_config.json under which even the most likely token is not taken, with the values that mean "none".
_OTHER_CHOICES: dict[str, tuple[object, ...]] = {
    "repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "num_beams": (1,),
    "guidance_scale": (1,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ({}, []),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
}


class Token(msgspec.Struct):
    """Token with the flags that a file gives it; those that it does not give are the library's."""

    content: str
    single_word: bool | UnsetType = UNSET
    lstrip: bool | UnsetType = UNSET
    rstrip: bool | UnsetType = UNSET
    normalized: bool | UnsetType = UNSET
    special: bool | UnsetType = UNSET

    def built(self) -> tokenizers.AddedToken:
        """Return the library's token."""
        flags = msgspec.structs.asdict(self)
        return tokenizers.AddedToken(**{name: value for name, value in flags.items() if value is not UNSET})


class NamedTemplate(msgspec.Struct):
    """Chat template of several."""

    name: str
    template: str


class TokensByName(msgspec.Struct):
    """Special tokens as `special_tokens_map.json` and `tokenizer_config.json` name them."""

    bos_token: str | Token | None = None
    eos_token: str | Token | None = None
    unk_token: str | Token | None = None
    sep_token: str | Token | None = None
    pad_token: str | Token | None = None
    cls_token: str | Token | None = None
    mask_token: str | Token | None = None
    additional_special_tokens: list[str | Token] | None = None
    extra_special_tokens: list[str | Token] | dict[str, str | Token] | None = None
    model_specific_special_tokens: dict[str, str | Token] | None = None


class TokenizerConfig(TokensByName):
    """Keys of `tokenizer_config.json` that count."""

    added_tokens_decoder: dict[int, Token] | None = None
    chat_template: str | list[NamedTemplate] | dict[str, str] | None = None
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    split_special_tokens: bool | None = None


class ModelTokens(msgspec.Struct):
    """Keys of `config.json` and `generation_config.json` that count here."""

    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    vocab_size: int | None = None


@dataclass(frozen=True, slots=True)
class Companions:
    """Content of the files beside a `tokenizer.json`.

    `named` are special tokens by name (`bos_token` and the like), `unnamed` the other special ones; `numbered` are
    tokens with the file and the number that it gives them.
    """

    directory: Path
    config: TokenizerConfig
    named: Mapping[str, Token]
    unnamed: tuple[Token, ...]
    numbered: tuple[tuple[Path, int, Token], ...]

    @property
    def config_path(self) -> Path:
        return self.directory / "tokenizer_config.json"

    def template(self) -> ChatTemplate | None:
        """Chat template, with the special tokens as its variables. Raises ModelFileError if a file cannot be read."""
        variables: dict[str, str | list[str]] = {name: token.content for name, token in self.named.items()}
        if self.config.additional_special_tokens is not None:
            variables["additional_special_tokens"] = [
                _token(it).content for it in self.config.additional_special_tokens
            ]
        files = {path.stem: path for path in sorted((self.directory / "additional_chat_templates").glob("*.jinja"))}
        main = self.directory / "chat_template.jinja"
        if main.exists():
            files = {"default": main} | files
        if files:
            default = files.get("default")
            source = None if default is None else _text(default)
            return ChatTemplate(source, variables, default or self.directory, tuple(files))
        given = self.config.chat_template
        if given is None:
            return None
        if isinstance(given, str):
            given = {"default": given}
        elif isinstance(given, list):
            given = {entry.name: entry.template for entry in given}
        return ChatTemplate(given.get("default"), variables, self.config_path, tuple(given))


def model_token_ids(directory: Path, vocab_size: int) -> tuple[int | None, set[int]]:
    """Return BOS and the tokens that end a text, of `config.json` and `generation_config.json`.

    Raises ModelFileError for a number that neither the tokenizer, with its `vocab_size`, nor the model has, and for
    keys of `generation_config.json` that ask for another choice of tokens than that of `sampling`.
    """
    bos_id, end_ids = None, set()
    for file in ("config.json", "generation_config.json"):
        path = directory / file
        raw = _optional(path)
        given = typed(path, raw, ModelTokens)
        if file == "generation_config.json":
            _check_choices(path, raw)
        vocab_size = max(vocab_size, given.vocab_size or 0)
        ends = given.eos_token_id if isinstance(given.eos_token_id, list) else [given.eos_token_id]
        end_ids |= {checked_id(path, "eos_token_id", end, vocab_size) for end in ends}
        bos_id = checked_id(path, "bos_token_id", given.bos_token_id, vocab_size) if bos_id is None else bos_id
    return bos_id, {end for end in end_ids if end is not None}


def _check_choices(path: Path, generation: dict[str, Any]) -> None:
    for key, without in _OTHER_CHOICES.items():
        value = generation.get(key)
        if value is not None and value not in without:
            raise ModelFileError(path, f"{key} = {short(value)} is not supported; remove it to generate without it")


def read_companions(directory: Path) -> Companions:
    """Read the files beside a `tokenizer.json`. Raises ModelFileError for one that is damaged or has wrong types."""
    config_path, map_path = directory / "tokenizer_config.json", directory / "special_tokens_map.json"
    raw, older = _optional(config_path), _optional(map_path)
    typed(map_path, older, TokensByName)
    config = typed(config_path, raw, TokenizerConfig)
    merged = raw | older if config.added_tokens_decoder is None else older | raw
    config = typed(config_path, merged, TokenizerConfig)
    of_names = {key: value for key, value in merged.items() if key.endswith("_token") and isinstance(value, str | dict)}
    of_names |= merged.get("model_specific_special_tokens") or {}
    if isinstance(config.extra_special_tokens, dict):
        of_names |= merged["extra_special_tokens"]
    named = {key: _token(entry) for key, entry in typed(config_path, of_names, dict[str, str | Token]).items()}
    extra = config.extra_special_tokens if isinstance(config.extra_special_tokens, list) else []
    unnamed = tuple(_token(entry) for entry in (*(config.additional_special_tokens or ()), *extra))
    numbered = [(config_path, number, token) for number, token in (config.added_tokens_decoder or {}).items()]
    known = {token.content for _, _, token in numbered}
    special = {token.content for token in (*named.values(), *unnamed)}
    added_path = directory / "added_tokens.json"
    for text, number in typed(added_path, _optional(added_path), dict[str, int]).items():
        if text not in known:
            token = Token(text, normalized=text not in special, special=text in special)
            numbered.append((added_path, number, token))
    numbered.sort(key=lambda entry: entry[1])
    return Companions(directory, config, named, unnamed, tuple(numbered))


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _token(entry: str | Token) -> Token:
    """Token that a file gives by its text alone, or with flags."""
    return entry if isinstance(entry, Token) else Token(entry, normalized=False)


def _text(path: Path) -> str:
    try:
        return read_bounded(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelFileError(path, f"is not text in UTF-8: {error}") from error
