"""GGUF files as trees of JSON, so that they can be edited, and as bytes, whatever the tree has become."""

import struct
from functools import cache
from math import prod
from pathlib import Path
from random import Random
from typing import Any

from edgeemu_kernels.weights.gguf_header import read_header

_LAYOUTS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_ALIGNMENT = 32
_F32, Q8_0 = 0, 8  # types of tensors
_BYTES_OF_32 = {_F32: 128, Q8_0: 34}


def tiny_llama(vocabulary: int, ggml_type: int = _F32) -> dict[str, Any]:
    """The header of a Llama of one layer, its matrices of this type."""
    d, d_ff = 32, 32
    keys = {"block_count": 1, "context_length": 64, "embedding_length": d, "feed_forward_length": d_ff}
    keys |= {"attention.head_count": 2, "attention.head_count_kv": 1, "attention.layer_norm_rms_epsilon": 1e-5}
    metadata = {"general.architecture": "llama", "general.name": "tiny"}
    metadata |= {f"llama.{key}": value for key, value in keys.items()}
    block = {"attn_norm": [d], "attn_q": [d, d], "attn_k": [d, d // 2], "attn_v": [d, d // 2], "attn_output": [d, d]}
    block |= {"ffn_norm": [d], "ffn_gate": [d, d_ff], "ffn_up": [d, d_ff], "ffn_down": [d_ff, d]}
    tensors = {"token_embd.weight": [d, vocabulary], "output_norm.weight": [d]}
    tensors |= {f"blk.0.{name}.weight": dims for name, dims in block.items()}
    placed, at = [], 0
    for name, dims in tensors.items():
        kind = ggml_type if len(dims) > 1 else _F32
        placed.append([name, dims, kind, at])
        at += prod(dims) // 32 * _BYTES_OF_32[kind]
        at += -at % _ALIGNMENT
    return {
        "version": 3,
        "counts": [None, None],  # None: as they are
        "metadata": pairs(metadata),
        "tensors": placed,
        "data_bytes": at,
    }


def pairs(metadata: dict[str, Any]) -> list[list[Any]]:
    """Metadata as in a tree."""
    return [_pair(key, value) for key, value in metadata.items()]


def tokenizer_of(path: Path, tokens: int) -> list[list[Any]]:
    """Metadata of a file about its tokenizer, with its first tokens only."""
    found = {key: value for key, value in read_header(path).metadata.items() if key.startswith("tokenizer.")}
    kept = set(found["tokenizer.ggml.tokens"][:tokens])
    merges = found["tokenizer.ggml.merges"][:tokens]
    found["tokenizer.ggml.merges"] = [line for line in merges if {*line.split(" "), line.replace(" ", "")} <= kept]
    lists = {key: value[:tokens] for key, value in found.items() if isinstance(value, list)}
    return pairs(found | lists)


def _pair(key: str, value: Any) -> list[Any]:
    if isinstance(value, list):
        return [key, _ARRAY, [_kind(value[0]) if value else _STRING, value]]
    return [key, _kind(value), value]


def _kind(value: Any) -> int:
    if isinstance(value, bool):
        return _BOOL
    if isinstance(value, int):
        return _UINT32 if value >= 0 else _INT32
    return _FLOAT32 if isinstance(value, float) else _STRING


def gguf_bytes(tree: Any) -> bytes:
    """The file of such a tree. Where it has been edited to another form, what can be written of it is."""
    tree = tree if isinstance(tree, dict) else {}
    metadata, tensors = _items(tree.get("metadata")), _items(tree.get("tensors"))
    counts = [*_items(tree.get("counts")), None, None]
    out = bytearray(b"GGUF" + _number("I", tree.get("version")))
    for given, items in zip(counts, (tensors, metadata), strict=False):
        out += _number("Q", len(items) if given is None else given)
    for pair in metadata:
        key, kind, value = [*_items(pair), None, None, None][:3]
        out += _text(key) + _number("I", kind) + _value(kind, value)
    for tensor in tensors:
        name, dims, kind, offset = [*_items(tensor), None, None, None, None][:4]
        out += _text(name) + _number("I", len(_items(dims)))
        out += b"".join(_number("Q", dim) for dim in _items(dims)) + _number("I", kind) + _number("Q", offset)
    out += bytes(-len(out) % _ALIGNMENT)
    data_bytes = tree.get("data_bytes")
    return bytes(out) + _data(data_bytes if isinstance(data_bytes, int) and 0 <= data_bytes < 2**20 else 0)


@cache
def _data(size: int) -> bytes:
    """Weights that nobody has trained, finite in every format."""
    return bytes(Random(0).choices(range(60), k=size))


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _value(kind: Any, value: Any) -> bytes:
    if kind == _ARRAY:
        of, items = [*_items(value), None, None][:2]
        return _number("I", of) + _number("Q", len(_items(items))) + b"".join(_value(of, i) for i in _items(items))
    return _text(value) if kind == _STRING or not isinstance(kind, int) else _number(_LAYOUTS.get(kind, "Q"), value)


def _text(value: Any) -> bytes:
    raw = str(value).encode(errors="surrogatepass")
    return struct.pack("<Q", len(raw)) + raw


def _number(layout: str, value: Any) -> bytes:
    given = value if isinstance(value, int | float) else 0
    try:
        return struct.pack(f"<{layout}", given)
    except (struct.error, OverflowError):
        whole = given if isinstance(given, int) else 2**62 - 1
        return (whole % 256 ** struct.calcsize(layout)).to_bytes(struct.calcsize(layout), "little")
