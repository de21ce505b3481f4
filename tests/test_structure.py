"""The house keeps its shape: small files and functions, one class of a name, first lines that say what a thing is."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(
    file.relative_to(ROOT)
    for folder in ("edgeemu", "kernels", "tools", "tests", "examples")
    for file in (ROOT / folder).rglob("*.py")
    if "fixtures" not in file.parts
)
PACKAGE = [file for file in FILES if file.parts[0] in ("edgeemu", "kernels")]

MAX_FILE_LINES = 330
MAX_FUNCTION_LINES = 60
MAX_MODULES_BESIDE_THE_FOLDERS = 8

# First words of a docstring that lean on something said elsewhere, or ask where they should tell.
RIDDLES = re.compile(r"(Of|Those|The same|Until|Who|What)\b")

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def tree(file: Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text(), str(file))


def definitions(file: Path) -> Iterator[Definition]:
    for node in ast.walk(tree(file)):
        if isinstance(node, Definition):
            yield node


def test_the_folders_are_the_architecture() -> None:
    modules = [file.name for file in PACKAGE if len(file.parts) == 2 and file.parts[0] == "edgeemu"]
    assert len(modules) <= MAX_MODULES_BESIDE_THE_FOLDERS, modules


def test_every_folder_says_what_it_knows() -> None:
    for init in (file for file in PACKAGE if file.name == "__init__.py"):
        assert ast.get_docstring(tree(init)), init


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_file_is_long(file: Path) -> None:
    assert len((ROOT / file).read_text().splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_function_is_long(file: Path) -> None:
    for node in definitions(file):
        if not isinstance(node, ast.ClassDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name}, line {node.lineno}: {lines} lines"


def test_no_class_name_stands_twice() -> None:
    places = defaultdict(list)
    for file in (file for file in PACKAGE if file.parts[0] == "edgeemu"):
        for node in definitions(file):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(f"{file}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_first_lines_say_what_a_thing_is(file: Path) -> None:
    module = tree(file)
    for node in (module, *definitions(file)):
        first = (ast.get_docstring(node) or "").split("\n", 1)[0]
        line = getattr(node, "lineno", 1)
        assert not RIDDLES.match(first), f"line {line}: {first}"


def test_no_test_imports_another() -> None:
    for file in (file for file in FILES if file.parts[0] == "tests"):
        for node in ast.walk(tree(file)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[-1].startswith("test_") for name in names), f"{file}: {names}"
