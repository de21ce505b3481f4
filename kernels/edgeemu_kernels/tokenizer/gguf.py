"""Tokenizer from a GGUF file's metadata. Knows the `tokenizer.ggml.*` keys; no tensors.

Two models of the format: `gpt2`, byte-level BPE, whose pre-tokenizer is only named (`tokenizer.ggml.pre`; the
expressions are those of llama.cpp's `llama-vocab.cpp`), and `llama`, SentencePiece BPE with scores.
"""

from __future__ import annotations

from collections import Counter
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.tokenizer import tokenizer
from edgeemu_kernels.tokenizer.chat import ChatTemplate
from edgeemu_kernels.tokenizer.library import checked_id, library_errors, surround
from edgeemu_kernels.weights.json_files import short, typed

_PREFIX = "tokenizer.ggml."
_TEMPLATE = "tokenizer.chat_template"
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # enum llama_token_type
_DIGITS_APART = ("smollm", "starcoder", "refact", "command-r", "codeshell")
_GPT2 = ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling")
_LLAMA3 = ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "dbrx", "smaug-bpe")
_LLAMA3_ADDS_BOS = ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral")
_LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_END_OF_GENERATION = (  # those that llama.cpp knows by their texts, whatever their type
    *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>"),
    *("<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>"),
    "<end_of_utterance>",
)
_LONGEST_PIECE = 512  # characters of a SentencePiece token; every way to cut it is tried
_SPACE = "▁"  # SentencePiece writes a space so


class GgmlTokenizer(msgspec.Struct, rename=_PREFIX.__add__):
    """Metadata `tokenizer.ggml.*` of a file."""

    model: str | None = None
    pre: str = "default"
    tokens: list[str] = []
    token_type: list[int] | None = None
    scores: list[float] | None = None
    merges: list[str] = []
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    eot_token_id: int | None = None
    eom_token_id: int | None = None
    unknown_token_id: int | None = None
    seperator_token_id: int | None = None  # as the format spells it
    padding_token_id: int | None = None
    cls_token_id: int | None = None
    mask_token_id: int | None = None
    add_bos_token: bool | None = None
    add_eos_token: bool = False
    add_space_prefix: bool = True

    def use_llama_defaults(self) -> None:
        """Number the special tokens that the file does not, as llama.cpp does for this model of tokenizers."""
        for name, default in (("unknown_token_id", 0), ("bos_token_id", 1), ("eos_token_id", 2)):
            if getattr(self, name) is None and default < len(self.tokens):
                setattr(self, name, default)

    def check(self, path: Path) -> None:
        """Raise ModelFileError unless all lists are of one length, and all ids of tokens in it."""
        size = len(self.tokens)
        for name in ("token_type", "scores"):
            given = getattr(self, name)
            if given is not None and len(given) != size:
                raise ModelFileError(path, f"{_PREFIX}{name} has {len(given)} values for {size} tokens")
        for name in self.__struct_fields__:
            if name.endswith("_token_id"):
                checked_id(path, _PREFIX + name, getattr(self, name), size)
        if self.scores is not None and not all(isfinite(score) for score in self.scores):
            raise ModelFileError(path, f"{_PREFIX}scores has a value that is not finite")
        if len(set(self.tokens)) != size:
            [(twice, _)] = Counter(self.tokens).most_common(1)
            raise ModelFileError(path, f"{_PREFIX}tokens has {twice!r} twice")


def gguf_tokenizer(path: Path, metadata: dict[str, Any]) -> tokenizer.Tokenizer:
    """Build the tokenizer. Raises ModelFileError if the file has none, or one that is damaged or of another kind."""
    given = typed(path, metadata, GgmlTokenizer)
    if not given.tokens:
        raise ModelFileError(path, "has no tokenizer (metadata tokenizer.ggml.tokens)")
    if given.model == "llama":
        given.use_llama_defaults()
    given.check(path)
    with library_errors(path, "tokenizer"):
        if given.model == "gpt2":
            core, adds_bos = _byte_level(path, given), given.pre in _LLAMA3_ADDS_BOS
        elif given.model == "llama":
            core, adds_bos = _sentencepiece(path, given), True
        else:
            raise ModelFileError(path, f"tokenizer model {given.model!r} is not supported ('gpt2', 'llama')")
        _add_tokens(core, given)
        bos_id, eos_id = given.bos_token_id, given.eos_token_id
        for name, wanted, token in (("bos", given.add_bos_token, bos_id), ("eos", given.add_eos_token, eos_id)):
            if wanted and token is None:
                raise ModelFileError(path, f"{_PREFIX}add_{name}_token is true, but there is no {name}_token_id")
        adds_bos = adds_bos if given.add_bos_token is None else given.add_bos_token
        surround(core, bos_id if adds_bos else None, eos_id if given.add_eos_token else None)
        end_ids = {end for end in (eos_id, given.eot_token_id, given.eom_token_id) if end is not None}
        end_ids |= {i for i, token in enumerate(given.tokens) if token in _END_OF_GENERATION}
        return tokenizer.Tokenizer(core, bos_id, end_ids, _template(path, metadata, given), path)


def _add_tokens(core: Tokenizer, given: GgmlTokenizer) -> None:
    """Have control tokens, and those of users, found in a text before it is divided."""
    typed_tokens = list(zip(given.tokens, given.token_type or (), strict=False))
    special = [token for token, kind in typed_tokens if kind in (_CONTROL, _UNKNOWN)]
    others = [token for token, kind in typed_tokens if kind == _USER_DEFINED]
    core.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    core.add_tokens([AddedToken(token, normalized=False) for token in others])


def _template(path: Path, metadata: dict[str, Any], given: GgmlTokenizer) -> ChatTemplate | None:
    """Chat template, with the special tokens that the file numbers as its variables."""
    sources = {key: value for key, value in metadata.items() if f"{key}.".startswith(f"{_TEMPLATE}.")}
    if not sources:
        return None
    for key, value in sources.items():
        if not isinstance(value, str):
            raise ModelFileError(path, f"metadata {key} is {short(value)}, not a text")
    ids = {
        "bos_token": given.bos_token_id,
        "eos_token": given.eos_token_id,
        "unk_token": given.unknown_token_id,
        "sep_token": given.seperator_token_id,
        "pad_token": given.padding_token_id,
        "cls_token": given.cls_token_id,
        "mask_token": given.mask_token_id,
    }
    variables: dict[str, str | list[str]] = {n: given.tokens[token] for n, token in ids.items() if token is not None}
    names = [key.removeprefix(f"{_TEMPLATE}.") for key in sources]
    return ChatTemplate(sources.get(_TEMPLATE), variables, path, tuple(names))


def _byte_level(path: Path, given: GgmlTokenizer) -> Tokenizer:
    vocabulary = {token: i for i, token in enumerate(given.tokens)}
    merges = [_merge(path, line) for line in given.merges]
    core = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=given.pre in _LLAMA3))
    core.pre_tokenizer = _pre_tokenizer(path, given.pre)
    core.decoder = decoders.ByteLevel()
    return core


def _merge(path: Path, line: str) -> tuple[str, str]:
    left, space, right = line.partition(" ")
    if not space:
        raise ModelFileError(path, f"tokenizer: {line!r} is not a merge")
    return left, right


def _pre_tokenizer(path: Path, pre: str) -> pre_tokenizers.PreTokenizer:
    steps: list[pre_tokenizers.PreTokenizer]
    if pre in _GPT2:
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if pre in _DIGITS_APART:
        steps = [pre_tokenizers.Digits(individual_digits=True)]
    elif pre == "default":
        steps = [
            pre_tokenizers.Split(Regex(r"[\p{P}\$\+<=>\^~\|`]+"), "isolated"),
            pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
        ]
    elif pre in _LLAMA3:
        steps = [pre_tokenizers.Split(Regex(_LLAMA3_PATTERN), "isolated")]
    else:
        raise ModelFileError(path, f"pre-tokenizer {pre!r} is not supported")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre not in _LLAMA3)
    return pre_tokenizers.Sequence([*steps, byte_level])


def _sentencepiece(path: Path, given: GgmlTokenizer) -> Tokenizer:
    """Merges of SentencePiece, which joins the two neighbors whose union has the best score.

    BPE with merges in that order.
    """
    tokens, scores = given.tokens, given.scores
    if scores is None:
        raise ModelFileError(path, "tokenizer model 'llama' without a score for each token is not supported")
    longest = max(tokens, key=len)
    if len(longest) > _LONGEST_PIECE:
        raise ModelFileError(path, f"{_PREFIX}tokens has one of {len(longest)} characters, of at most {_LONGEST_PIECE}")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = []
    for token, score in zip(tokens, scores, strict=True):
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary:
                merges.append((-score, vocabulary[left], vocabulary[right], left, right))
    merges.sort()
    unknown = tokens[given.unknown_token_id or 0]
    pairs = [(left, right) for _, _, _, left, right in merges]
    core = Tokenizer(models.BPE(vocabulary, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    to_pieces: list[normalizers.Normalizer] = [normalizers.Replace(" ", _SPACE)]
    to_text: list[decoders.Decoder] = [
        decoders.Replace(_SPACE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if given.add_space_prefix:
        to_pieces.insert(0, normalizers.Prepend(_SPACE))
        to_text.append(decoders.Strip(" ", 1, 0))
    core.normalizer = normalizers.Sequence(to_pieces)
    core.decoder = decoders.Sequence(to_text)
    return core
