"""Tokenizer from a Hugging Face directory: `tokenizer.json` and its companions. Knows their keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.tokenizer import tokenizer
from edgeemu_kernels.weights.json_files import read_json


def huggingface_tokenizer(directory: Path) -> tokenizer.Tokenizer:
    """Build the tokenizer. Raises ModelFileError if `tokenizer.json` is missing or damaged."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise ModelFileError(path, "is missing")
    try:
        core = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:
        raise ModelFileError(path, f"is not a tokenizer: {error}") from error
    config = _optional(directory / "tokenizer_config.json")
    bos = core.token_to_id(_token_text(config.get("bos_token")) or "")
    ends = {core.token_to_id(_token_text(config.get("eos_token")) or "")}
    for file in ("config.json", "generation_config.json"):
        named = _optional(directory / file).get("eos_token_id")
        ends |= set(named) if isinstance(named, list) else {named}
    if bos is None:
        bos = _optional(directory / "config.json").get("bos_token_id")
    special = tokenizer.SpecialTokens(
        bos_id=bos,
        eos_ids=frozenset(end for end in ends if end is not None),
        add_bos=bos is not None and core.encode("a", add_special_tokens=True).ids[:1] == [bos],
    )
    return tokenizer.Tokenizer(core, special, _chat_template(directory, config), path)


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _token_text(entry: str | dict[str, Any] | None) -> str | None:
    """Text of a token, which transformers writes as text or as an object with flags."""
    return entry.get("content") if isinstance(entry, dict) else entry


def _chat_template(directory: Path, config: dict[str, Any]) -> str | None:
    beside = directory / "chat_template.jinja"
    if beside.exists():
        return beside.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):  # several, by name
        return next((entry["template"] for entry in template if entry.get("name") == "default"), None)
    return template
