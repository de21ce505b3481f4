"""Small Hugging Face directories: copies of a fixture with other keys, other tensors, other files."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

MISSING = object()  # as a value: the key is removed

Stored = np.ndarray | tuple[str, list[int], bytes]  # an array of float32, or dtype, dims and bytes


def copied(source: Path, to: Path, **keys: Any) -> Path:
    """Copy a directory and change keys of its config.json."""
    shutil.copytree(source, to)
    return configured(to, **keys)


def configured(directory: Path, **keys: Any) -> Path:
    path = directory / "config.json"
    config = json.loads(path.read_text()) | keys
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not MISSING}))
    return directory


def tensors(directory: Path) -> dict[str, np.ndarray]:
    """All tensors of a directory of float32, by full name."""
    found = {}
    for file in directory.glob("*.safetensors"):
        raw = file.read_bytes()
        start = 8 + int.from_bytes(raw[:8], "little")
        for name, entry in json.loads(raw[8:start]).items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                found[name] = np.frombuffer(raw[start + first : start + last], np.float32).reshape(entry["shape"])
    return found


def write_safetensors(path: Path, stored: dict[str, Stored]) -> None:
    header: dict[str, Any] = {}
    data = b""
    for name, value in stored.items():
        dtype, dims, raw = ("F32", list(value.shape), value.tobytes()) if isinstance(value, np.ndarray) else value
        header[name] = {"dtype": dtype, "shape": dims, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    write_raw_safetensors(path, header, data)


def write_raw_safetensors(path: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def in_one_file(directory: Path, stored: dict[str, Stored] | None = None) -> Path:
    """Keep these tensors, by default all, in a single file without an index."""
    everything: dict[str, Stored] = dict(tensors(directory)) if stored is None else stored
    for file in [*directory.glob("*.safetensors"), *directory.glob("*.index.json")]:
        file.unlink()
    write_safetensors(directory / "model.safetensors", everything)
    return directory
