"""The house keeps its shape: small files and functions, one class of a name, first lines that say what a thing is."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

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

Node = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Definition(NamedTuple):
    """A module, class or function."""

    kind: type[Node]
    name: str
    line: int
    lines: int
    docstring: str


class Source(NamedTuple):
    """A file, as far as tests look at it."""

    lines: int
    definitions: list[Definition]  # the module first
    imports: list[str]


@cache
def source(file: Path) -> Source:
    text = (ROOT / file).read_text()
    definitions, imports = [], []
    for node in ast.walk(ast.parse(text, str(file))):
        if isinstance(node, Node):
            definitions.append(definition(node))
        elif isinstance(node, ast.ImportFrom):
            imports.append(node.module or "")
        elif isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
    return Source(len(text.splitlines()), definitions, imports)


def definition(node: Node) -> Definition:
    docstring = ast.get_docstring(node) or ""
    if isinstance(node, ast.Module):
        return Definition(ast.Module, "", 1, 0, docstring)
    assert node.end_lineno is not None
    return Definition(type(node), node.name, node.lineno, node.end_lineno - node.lineno + 1, docstring)


def test_the_folders_are_the_architecture() -> None:
    modules = [file.name for file in PACKAGE if len(file.parts) == 2 and file.parts[0] == "edgeemu"]
    assert len(modules) <= MAX_MODULES_BESIDE_THE_FOLDERS, modules


def test_every_folder_says_what_it_knows() -> None:
    for init in (file for file in PACKAGE if file.name == "__init__.py"):
        assert source(init).definitions[0].docstring, init


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_is_small_and_says_what_is_in_it(file: Path) -> None:
    """One test for all that is asked of a file: of a thousand files each takes a moment."""
    found = source(file)
    assert found.lines <= MAX_FILE_LINES
    for kind, name, line, lines, docstring in found.definitions:
        if kind in (ast.FunctionDef, ast.AsyncFunctionDef):
            assert lines <= MAX_FUNCTION_LINES, f"{name}, line {line}: {lines} lines"
        first = docstring.split("\n", 1)[0]
        assert not RIDDLES.match(first), f"line {line}: {first}"


def test_no_class_name_stands_twice() -> None:
    places = defaultdict(list)
    for file in (file for file in PACKAGE if file.parts[0] == "edgeemu"):
        for kind, name, line, *_ in source(file).definitions:
            if kind is ast.ClassDef:
                places[name.lstrip("_")].append(f"{file}:{line}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_test_imports_another() -> None:
    for file in (file for file in FILES if file.parts[0] == "tests"):
        names = source(file).imports
        assert not any(name.split(".")[-1].startswith("test_") for name in names), f"{file}: {names}"
