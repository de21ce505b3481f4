"""Tokenizer from a Hugging Face directory: `tokenizer.json` with what its companions add to it.

As transformers (version 5) builds it, but for `add_bos_token` and `add_eos_token`: beside a `tokenizer.json` version 5
ignores them, and here they count, as in version 4 and in llama.cpp's converter.
"""

from __future__ import annotations

from pathlib import Path

import tokenizers

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.tokenizer.bounds import check_bounds
from edgeemu_kernels.tokenizer.huggingface_files import Companions, model_token_ids, read_companions
from edgeemu_kernels.tokenizer.library import library_errors, surround
from edgeemu_kernels.tokenizer.tokenizer import Tokenizer
from edgeemu_kernels.weights.json_files import read_bounded

_TOKENIZER_BYTES = 64 * 2**20  # the largest of known models, with 262,000 tokens, has 33 MB


def huggingface_tokenizer(directory: Path) -> Tokenizer:
    """Build the tokenizer. Raises ModelFileError if `tokenizer.json` is missing, or it or a companion is wrong."""
    path = directory / "tokenizer.json"
    core, companions = _core(path), read_companions(directory)
    with library_errors(path, "tokenizer"):
        _add_tokens(core, companions)
        ids = {name: core.token_to_id(token.content) for name, token in companions.named.items()}
        model_bos_id, end_ids = model_token_ids(directory, core.get_vocab_size())
        bos_id, eos_id = ids.get("bos_token", model_bos_id), ids.get("eos_token")
        _surround(core, companions, bos_id, eos_id)
        end_ids |= set() if eos_id is None else {eos_id}
        return Tokenizer(core, bos_id, end_ids, companions.template(), path)


def _core(path: Path) -> tokenizers.Tokenizer:
    """Load a `tokenizer.json`, and refuse one under which texts could grow without end, or tokens would be random."""
    data = read_bounded(path, _TOKENIZER_BYTES)
    with library_errors(path, "is not a tokenizer"):
        core = tokenizers.Tokenizer.from_buffer(data)
        core.no_padding()  # before anything is encoded: it can be to any length
        core.no_truncation()
        check_bounds(path, core)
    return core


def _add_tokens(core: tokenizers.Tokenizer, companions: Companions) -> None:
    """Add the tokens of the companions, and check that the numbers that they have there are those that they get."""
    core.encode_special_tokens = bool(companions.config.split_special_tokens)
    flagged = {token.content: token for token in core.get_added_tokens_decoder().values()}
    listed = {token.content: token.built() for file, _, token in companions.numbered if file == companions.config_path}
    added = {token.content: token.built() for _, _, token in companions.numbered} | flagged | listed
    core.add_tokens([token for text, token in added.items() if repr(token) != repr(flagged.get(text))])
    special = []
    for token in (*companions.named.values(), *companions.unnamed):
        built = added.get(token.content, token.built())
        if not built.special or token.content not in added:
            built.special = True
            special.append(built)
    core.add_special_tokens(special)
    for file, number, token in companions.numbered:
        actual = core.token_to_id(token.content)
        if token.content and actual != number:
            raise ModelFileError(
                file, f"gives {token.content!r} the number {number}, but in tokenizer.json it is {actual}"
            )


def _surround(core: tokenizers.Tokenizer, companions: Companions, bos_id: int | None, eos_id: int | None) -> None:
    """Have BOS and EOS added as `add_bos_token` and `add_eos_token` say; without them, as the post-processor does."""
    plain, whole = (core.encode("a", add_special_tokens=special).ids for special in (False, True))
    has_bos = bos_id is not None and len(whole) > len(plain) and whole[0] == bos_id
    has_eos = eos_id is not None and len(whole) > len(plain) + has_bos and whole[-1] == eos_id
    config = companions.config
    bos = has_bos if config.add_bos_token is None else config.add_bos_token
    eos = has_eos if config.add_eos_token is None else config.add_eos_token
    for name, wanted, token in (("bos", bos, bos_id), ("eos", eos, eos_id)):
        if wanted and token is None:
            raise ModelFileError(companions.config_path, f"add_{name}_token is true, but there is no {name}_token")
    if (bos, eos) != (has_bos, has_eos):
        surround(core, bos_id if bos else None, eos_id if eos else None)
