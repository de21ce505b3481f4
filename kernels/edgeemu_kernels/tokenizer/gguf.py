"""Tokenizer from a GGUF file's metadata. Knows the `tokenizer.ggml.*` keys; no tensors.

Two models of the format: `gpt2`, byte-level BPE, whose pre-tokenizer is only named (`tokenizer.ggml.pre`; the
expressions are those of llama.cpp's `llama-vocab.cpp`), and `llama`, SentencePiece BPE with scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.tokenizer import tokenizer

_CONTROL, _USER_DEFINED = 3, 4  # enum llama_token_type
_DIGITS_APART = ("smollm", "starcoder", "refact", "command-r", "codeshell")
_GPT2 = ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling")
_LLAMA3 = ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "dbrx", "smaug-bpe")
_LLAMA3_ADDS_BOS = ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral")
_LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPACE = "▁"  # SentencePiece writes a space so


def gguf_tokenizer(path: Path, metadata: dict[str, Any]) -> tokenizer.Tokenizer:
    """Build the tokenizer. Raises ModelFileError if the file has none, or one of another kind."""
    kind = metadata.get("tokenizer.ggml.model")
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not tokens:
        raise ModelFileError(path, "has no tokenizer (metadata tokenizer.ggml.tokens)")
    if kind == "gpt2":
        core, adds_bos = _byte_level(path, metadata, tokens)
    elif kind == "llama":
        core, adds_bos = _sentencepiece(path, metadata, tokens), True
    else:
        raise ModelFileError(path, f"tokenizer model {kind!r} is not supported ('gpt2', 'llama')")
    for token, token_type in zip(tokens, metadata.get("tokenizer.ggml.token_type", ()), strict=False):
        if token_type in (_CONTROL, _USER_DEFINED):
            special = token_type == _CONTROL
            added = AddedToken(token, normalized=False, special=special)
            (core.add_special_tokens if special else core.add_tokens)([added])
    ends = (metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom"))
    bos = metadata.get("tokenizer.ggml.bos_token_id")
    special_tokens = tokenizer.SpecialTokens(
        bos_id=bos,
        eos_ids=frozenset(end for end in ends if end is not None),
        add_bos=bool(metadata.get("tokenizer.ggml.add_bos_token", adds_bos)),
    )
    return tokenizer.Tokenizer(core, special_tokens, metadata.get("tokenizer.chat_template"), path)


def _byte_level(path: Path, metadata: dict[str, Any], tokens: list[str]) -> tuple[Tokenizer, bool]:
    """Tokenizer, and whether this kind puts BOS first unless the file says otherwise."""
    pre = metadata.get("tokenizer.ggml.pre", "default")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = [_merge(path, line) for line in metadata.get("tokenizer.ggml.merges", ())]
    try:
        model = models.BPE(vocabulary, merges, ignore_merges=pre in _LLAMA3)
    except Exception as error:
        raise ModelFileError(path, f"tokenizer: {error}") from error
    core = Tokenizer(model)
    core.pre_tokenizer = _pre_tokenizer(path, pre)
    core.decoder = decoders.ByteLevel()
    return core, pre in _LLAMA3_ADDS_BOS


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


def _sentencepiece(path: Path, metadata: dict[str, Any], tokens: list[str]) -> Tokenizer:
    """Merges of SentencePiece, which joins the two neighbors whose union has the best score.

    BPE with merges in that order.
    """
    scores = metadata.get("tokenizer.ggml.scores")
    if scores is None or len(scores) != len(tokens):
        raise ModelFileError(path, "tokenizer model 'llama' without a score for each token is not supported")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = []
    for token, score in zip(tokens, scores, strict=True):
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary:
                merges.append((-score, vocabulary[left], vocabulary[right], left, right))
    merges.sort()
    unknown = tokens[metadata.get("tokenizer.ggml.unknown_token_id", 0)]
    pairs = [(left, right) for _, _, _, left, right in merges]
    core = Tokenizer(models.BPE(vocabulary, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    to_pieces: list[normalizers.Normalizer] = [normalizers.Replace(" ", _SPACE)]
    to_text: list[decoders.Decoder] = [
        decoders.Replace(_SPACE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if metadata.get("tokenizer.ggml.add_space_prefix", True):
        to_pieces.insert(0, normalizers.Prepend(_SPACE))
        to_text.append(decoders.Strip(" ", 1, 0))
    core.normalizer = normalizers.Sequence(to_pieces)
    core.decoder = decoders.Sequence(to_text)
    return core
