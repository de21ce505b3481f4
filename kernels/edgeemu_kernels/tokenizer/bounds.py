"""Bounds on what a `tokenizer.json` does to a text: how far the text may grow. Knows the steps of the library.

The regular expressions in it are bounded by the library, which gives up after ten million steps of one match
(Oniguruma's retry limit).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers

from edgeemu_kernels.errors import ModelFileError

MAX_GROWTH = 1000  # times its length
_GROWTH = {"ByteLevel": 2, "BertNormalizer": 3, "Precompiled": 20}  # bytes for a byte, at most or nearly so


def check_bounds(path: Path, core: tokenizers.Tokenizer) -> None:
    """Raise ModelFileError for a tokenizer that makes a long text of a short one, or whose tokens are random."""
    if getattr(core.model, "dropout", None):
        raise ModelFileError(path, "has a BPE dropout, under which the tokens of a text are random; set it to null")
    growth = {"encode": 1, "decode": 1}
    for way, part in (("encode", core.normalizer), ("encode", core.pre_tokenizer), ("decode", core.decoder)):
        for step in _steps(part):
            growth[way] *= _growth(step)
    for step in _steps(core.post_processor):
        growth["encode"] *= _growth_around(step)
    if max(growth.values()) > MAX_GROWTH:
        raise ModelFileError(path, f"its steps can make a text {max(growth.values())} times longer, over {MAX_GROWTH}")


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """Steps of a normalizer, pre-tokenizer, post-processor or decoder, in their order."""
    open_steps = [] if part is None else [json.loads(part.__getstate__())]
    while open_steps:
        step = open_steps.pop(0)
        lists = [
            value for key, value in step.items() if key in ("normalizers", "pretokenizers", "processors", "decoders")
        ]
        if step["type"] == "Sequence" and lists:
            open_steps[:0] = lists[0]
        else:
            yield step


def _growth_around(step: dict[str, Any]) -> int:
    """Return how often a post-processor writes the text, or how many tokens around it if these are more."""
    if step["type"] != "TemplateProcessing":
        return 1
    pieces = step["single"]
    added = (
        len(step["special_tokens"][piece["SpecialToken"]["id"]]["ids"]) for piece in pieces if "Sequence" not in piece
    )
    return max(1, sum("Sequence" in piece for piece in pieces), sum(added))


def _growth(step: dict[str, Any]) -> int:
    if step["type"] == "Prepend":
        return 1 + len(step["prepend"].encode())  # also after each special token
    if step["type"] != "Replace":
        return _GROWTH.get(step["type"], 1)
    bytes_each = len(step["content"].encode())
    return bytes_each + 1 if "Regex" in step["pattern"] else max(1, bytes_each)  # an expression may match nothing
