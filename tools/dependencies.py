"""Tells what pyproject.toml asks for, for pip and for the lock, and whether the lock has it.

    python tools/dependencies.py wanted   # the requirements to build, run and test edgeemu, one a line
    python tools/dependencies.py model    # the package that brings the model
    python tools/dependencies.py check    # 1 if requirements/lock.txt or requirements/model.txt lacks one of them

Only `check` needs a package: `packaging`, which the lock installs.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK, MODEL_LOCK = "requirements/lock.txt", "requirements/model.txt"


def wanted(pyproject: dict[str, Any]) -> list[str]:
    """The requirements that are installed with their dependencies: to build, run and test."""
    return [
        *pyproject["build-system"]["requires"],
        *pyproject["project"]["dependencies"],
        *chain.from_iterable(pyproject["project"].get("optional-dependencies", {}).values()),  # tests need all extras
        *pyproject["dependency-groups"]["dev"],
    ]


def model(pyproject: dict[str, Any]) -> list[str]:
    """The package that is installed without its dependencies."""
    return list(pyproject["dependency-groups"]["model"])


def missing(requirements: Iterable[str], lock: str) -> list[str]:
    """The requirements that the lock has no version for, or one that they do not allow."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins: dict[str, list[str]] = {}  # a lock may have one for older and one for newer Pythons
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE):
        pins.setdefault(canonicalize_name(name), []).append(version)
    lacking = []
    for text in requirements:
        requirement = Requirement(text)
        versions = pins.get(canonicalize_name(requirement.name), [])
        if not versions or not all(requirement.specifier.contains(version, prereleases=True) for version in versions):
            lacking.append(text)
    return lacking


def check(root: Path, pyproject: dict[str, Any]) -> list[str]:
    """List what the locks lack, a line each."""
    return [
        f"{path} has no {text}, which pyproject.toml asks for; renew it: make lock"
        for path, requirements in ((LOCK, wanted(pyproject)), (MODEL_LOCK, model(pyproject)))
        for text in missing(requirements, (root / path).read_text())
    ]


def main(arguments: list[str]) -> int:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    match arguments:
        case ["wanted"]:
            print(*wanted(pyproject), sep="\n")
        case ["model"]:
            print(*model(pyproject), sep="\n")
        case ["check"]:
            problems = check(ROOT, pyproject)
            print(*problems, sep="\n", end="\n" * bool(problems), file=sys.stderr)
            return int(bool(problems))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
