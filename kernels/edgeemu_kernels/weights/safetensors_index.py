"""Index of the tensors of a Hugging Face directory, and why a wanted one is not there. No config, no weights.

Formats: `model.safetensors.index.json` as transformers writes it; safetensors' header (8 bytes little-endian length,
then JSON). No file outside the directory is opened, whatever an index says.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.weights.json_files import (
    CONFIG_BYTES,
    check_inside,
    parse_json,
    read_json,
    refuse_pointer,
    short,
    typed,
)
from edgeemu_kernels.weights.quants import named_format
from edgeemu_kernels.weights.tensorfile import Dims, check_apart, check_complete

Entry = tuple[str, int, str, tuple[int, ...]]  # file, offset in it, dtype, dims

_BASE_PREFIXES = ("model.", "transformer.")  # what the head model puts before the base model's names
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_BLANK = b" \t\r\n\xef\xbb\xbf"  # what may stand before the object
_MAX_FILES, _MAX_TENSORS = 1000, 2**16
_OTHER_FORMATS = ("pytorch_model*.bin*", "consolidated*.pth", "*.pt", "tf_model.h5", "flax_model.msgpack")

Size = Annotated[int, msgspec.Meta(ge=0, le=2**60)]


class _Index(msgspec.Struct):
    """Keys of an index."""

    weight_map: dict[str, Any]


class _Tensor(msgspec.Struct):
    """Entry of a safetensors header."""

    dtype: str
    shape: Annotated[list[Size], msgspec.Meta(max_length=8)]
    data_offsets: tuple[Size, Size]


def read_index(directory: Path) -> dict[str, Entry]:
    """Index of every tensor of the directory's safetensors, named without the base model's prefix.

    ModelFileError if one does not lie within its file, or the index does not describe its files.
    """
    weight_map = _weight_map(directory)
    entries: dict[str, Entry] = {}
    held: dict[str, str] = {}  # file by tensor, under its full name
    for file in sorted(set(weight_map.values())) if weight_map else [_SINGLE]:
        for name, entry in _read_safetensors(directory / file).items():
            prefix = next((prefix for prefix in _BASE_PREFIXES if name.startswith(prefix)), "")
            bare = name.removeprefix(prefix)
            if bare in entries:
                raise ModelFileError(
                    directory / file, f"tensor {short(name)} is there twice, also in {entries[bare][0]}"
                )
            entries[bare], held[name] = entry, file
        if len(entries) > _MAX_TENSORS:
            raise ModelFileError(directory, f"has more than {_MAX_TENSORS} tensors")
    for name, file in weight_map.items():
        if held.get(name) != file:
            where = f"it is in {held[name]}" if name in held else "it is nowhere"
            raise ModelFileError(
                directory / _INDEX,
                f"is stale: it places tensor {short(name)} in {file}, but {where}; remove or renew it",
            )
    return entries


def _weight_map(directory: Path) -> dict[str, str]:
    """File by tensor, as the index says; empty for a single file without an index."""
    path = directory / _INDEX
    single = (directory / _SINGLE).exists()
    if not path.exists():
        if not single:
            raise ModelFileError(directory, _why_no_safetensors(directory))
        return {}
    weight_map = typed(path, read_json(path), _Index).weight_map
    for name, file in weight_map.items():
        if not isinstance(file, str):
            raise ModelFileError(path, f"weight_map: {short(name)} is {short(file)}, not the name of a file")
    files = set(weight_map.values())
    if not files or len(files) > _MAX_FILES:
        raise ModelFileError(path, f"weight_map names {len(files)} files")
    for file in sorted(files):
        if Path(file).name != file or not file.isprintable() or not file.endswith(".safetensors"):
            raise ModelFileError(
                path, f"weight_map names {short(file)}, which is not the name of a safetensors file in its directory"
            )
    if single and _SINGLE not in files:
        raise ModelFileError(path, f"is an index of other files than {_SINGLE}, which is there too; remove the older")
    return weight_map


def _why_no_safetensors(directory: Path) -> str:
    found = sorted(file.name for pattern in _OTHER_FORMATS for file in directory.glob(pattern))
    if found:
        return (
            f"has no {_SINGLE}, only {found[0]}; convert it with transformers: "
            'AutoModelForCausalLM.from_pretrained("DIRECTORY").save_pretrained("NEW")'
        )
    shards = sorted(file.name for file in directory.glob("*.safetensors"))
    if "adapter_model.safetensors" in shards:
        return "is a PEFT (LoRA) adapter without its model; merge them with merge_and_unload()"
    return f"has neither {_SINGLE} nor {_INDEX}" + (f", only {shards[0]}" if shards else "")


def _read_safetensors(path: Path) -> dict[str, Entry]:
    size, header = _read_header(path)
    start, end = 8 + len(header), size
    entries: dict[str, Entry] = {}
    spans: dict[str, tuple[int, int]] = {}
    for name, raw in parse_json(path, header).items():
        if name == "__metadata__":
            continue
        if not isinstance(raw, dict):
            raise ModelFileError(path, f"tensor {short(name)} is {short(raw)}, not an object")
        tensor = typed(path, raw, _Tensor, within=f"tensor {short(name)}")
        first, last = (start + offset for offset in tensor.data_offsets)
        if last > end:
            raise ModelFileError(
                path, f"is truncated: tensor {short(name)} ends at byte {last}, the file at byte {end}"
            )
        number_format = named_format(tensor.dtype)
        whole = last - first if number_format is None else prod(tensor.shape) * number_format.block_bytes
        if last - first != whole or last < first:
            dims, dtype = tensor.shape, short(tensor.dtype)
            raise ModelFileError(path, f"tensor {short(name)} has {last - first} bytes for {dims} {dtype}")
        if last > first:
            spans[name] = (first, last)
        entries[name] = (path.name, first, tensor.dtype, tuple(tensor.shape))
    check_apart(path, spans)
    return entries


def _read_header(path: Path) -> tuple[int, bytes]:
    """Size of a safetensors file, and its header's JSON."""
    check_inside(path)
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            first = file.read(64)
            refuse_pointer(path, first)
            length = int.from_bytes(first[:8], "little")
            if first[8:] and not first[8:].lstrip(_BLANK).startswith(b"{"):
                raise ModelFileError(path, "is not a safetensors file: its header is no JSON object")
            if size < 8 or length > size - 8:
                raise ModelFileError(path, f"is truncated: it ends at byte {size}, within its header")
            if length > CONFIG_BYTES:
                raise ModelFileError(path, f"has a header of {length} bytes, more than the limit, {CONFIG_BYTES}")
            file.seek(8)
            return size, file.read(length)
    except OSError as error:
        raise ModelFileError(path, f"cannot be read: {error.strerror}") from error


def check_tensors(directory: Path, entries: Mapping[str, Entry], wanted: Mapping[str, Dims]) -> None:
    """Check that the model's tensors are there with their dims, in formats that we have, and no more of its blocks.

    ModelFileError names the true cause: weights that are quantized, an adapter, more layers than the config has.
    """
    names = list(entries)
    strange = next((name for name in names if name.startswith("base_model.model.") or ".lora_" in name), None)
    if strange is not None and not any(name in entries for name in wanted):
        problem = f"has tensors of a PEFT (LoRA) adapter ({short(strange)}); merge it into its model first"
        raise ModelFileError(directory, f"{problem}: merge_and_unload() and save_pretrained()")
    for name in wanted:
        if name not in entries:
            raise ModelFileError(directory, _why_missing(name, names))
        dtype = entries[name][2]
        if named_format(dtype) is None:
            raise ModelFileError(
                directory / entries[name][0],
                f"tensor {short(name)} has the type {short(dtype)}, which is not supported (F32, F16, BF16); "
                "convert it with transformers, or take the model as GGUF",
            )
    check_complete(directory, {name: entry[3] for name, entry in entries.items()}, wanted)
    parts = {name.split(".")[0] for name in wanted} | {"lm_head"}
    for name in names:
        if name not in wanted and name.split(".")[0] in parts and not _is_irrelevant(name):
            raise ModelFileError(
                directory / entries[name][0],
                f"has tensor {short(name)}, which a model of this config.json does not have",
            )


def _is_irrelevant(name: str) -> bool:
    """Whether a tensor is a constant that older transformers saved too (masks, RoPE's frequencies), or a tied head."""
    return name.endswith((".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")) or name == "lm_head.weight"


def _why_missing(name: str, names: list[str]) -> str:
    stem = name.removesuffix("weight")
    packed = next((other for other in names if other.startswith(stem) and other != name), None)
    if packed is not None and packed.endswith(("qweight", "weight_packed", "qzeros", "scales")):
        return f"tensor {name!r} is missing, but there is {short(packed)}: weights quantized by GPTQ or AWQ"
    some = ", ".join(short(other) for other in sorted(names)[:3])
    return f"tensor {name!r} is missing; the file has {len(names)} others: {some} …"


def has_own_head(directory: Path, entries: Mapping[str, Any], embedding: str) -> bool:
    """Whether a model that is said to be tied has an output matrix of its own, which differs from the embedding.

    transformers 5 compares the two and keeps the head that differs.
    """
    if "lm_head.weight" not in entries or embedding not in entries:
        return False
    head, table = entries["lm_head.weight"], entries[embedding]
    if head[2:] != table[2:] or named_format(head[2]) is None:
        return True
    n_bytes = prod(head[3]) * named_format(head[2]).block_bytes  # type: ignore[union-attr]  # checked above
    try:
        with (directory / head[0]).open("rb") as one, (directory / table[0]).open("rb") as other:
            one.seek(head[1])
            other.seek(table[1])
            for done in range(0, n_bytes, 2**20):
                step = min(2**20, n_bytes - done)
                if one.read(step) != other.read(step):
                    return True
    except OSError as error:
        raise ModelFileError(directory, f"cannot be read: {error.strerror}") from error
    return False
