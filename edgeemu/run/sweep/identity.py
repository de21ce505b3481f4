"""Names of runs by what decides their figures, so that none is repeated. Reads files; starts nothing."""

import json
from collections.abc import Iterator
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgeemu.cluster.draw.resolve import resolved_yaml
from edgeemu.policies.loading import policy_file
from edgeemu.scenario.scenario import Scenario

PACKAGES = ("edgeemu", "edgeemu_kernels")
KEY_BYTES = 10


def key_of(scenario: Scenario, policy: str | None, *, simulate: bool) -> str:
    """Name of a run: a digest of the resolved scenario, the policy, the mode, and of the code and files behind them.

    A description changes no figure, and is left out. Raises RequestError where a value cannot be drawn.
    """
    name = policy or scenario.policy
    resolved = resolved_yaml(scenario.model_copy(update={"description": ""}), name)
    decides = {
        "simulated": simulate,
        "edgeemu": software_here(),
        "policy": _policy_text(name),
        "model": [_stamp(path) for path in (scenario.model.gguf, scenario.model.directory) if path is not None],
    }
    return _digest(resolved.encode(), json.dumps(decides).encode())


def _digest(*parts: bytes) -> str:
    hashed = blake2b(digest_size=KEY_BYTES)
    for part in parts:
        hashed.update(part)
    return hashed.hexdigest()


@cache
def software_here() -> str:
    """Return the version of edgeemu, with a digest of its files: who develops it changes them under one version."""
    parts = [part for package in PACKAGES for part in _files(Path(str(files(package))))]
    return f"{version('edgeemu')} {_digest(*parts)}"


def _files(folder: Path) -> Iterator[bytes]:
    """Yield the names and contents of a package's files in a fixed order, without what Python compiles from them."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield str(path.relative_to(folder)).encode()
            yield path.read_bytes()


def _policy_text(name: str) -> str | None:
    """Digest of a policy's file; None for a policy without one. Modules that the file imports are not looked at."""
    file = policy_file(name)
    return None if file is None or not Path(file.path).is_file() else _digest(Path(file.path).read_bytes())


def _stamp(path: Path) -> list[Any]:
    """Sizes and times of a model's files, in place of their gigabytes."""
    found = sorted(path.iterdir()) if path.is_dir() else [path]
    return [[file.name, stat.st_size, stat.st_mtime_ns] for file in found if (stat := file.stat())]
