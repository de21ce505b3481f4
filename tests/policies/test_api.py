"""Policy authors need one module, and the documentation, the example and the kit use no other."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import edgeemu.policies.api as api
from edgeemu.host.limits import ONE_THREAD
from edgeemu.policies import POLICIES, kit
from edgeemu.policies.kit import built_in_cases

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policies.md").read_text()
DOOR, KIT = "edgeemu.policies.api", "edgeemu.policies.kit"

VIEW = built_in_cases()[0].views[0]
# Where a name in the text can be looked up.
NAMESPACES: tuple[Any, ...] = (api, kit, VIEW, VIEW.devices[0], VIEW.costs.shape)
# Words in code quotes that are no names of ours: of Python, of the example, of the command line and of scenarios.
OTHER = {"None", "current", "place", "MyPolicy", "overhead", "sharding", "limit_s"}
RECORDS = {"decisions.parquet", "links.parquet", "explored", "tried"}  # files of a run, and an event


def python_in_the_page() -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


def imported(source: str) -> set[tuple[str, str]]:
    """(module, name) of everything that is imported from edgeemu."""
    found: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgeemu"):
            found |= {(node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names if alias.name.startswith("edgeemu")}
    return found


@pytest.mark.parametrize("file", ["examples/my_policy.py", "edgeemu/policies/kit.py"])
def test_the_example_and_the_kit_import_the_door_only(file: str) -> None:
    modules = {module for module, _ in imported((ROOT / file).read_text())}
    assert modules == {DOOR}


def test_the_page_imports_the_door_and_the_kit_only() -> None:
    found = imported(python_in_the_page())
    assert {module for module, _ in found} == {DOOR, KIT}
    for module, name in found:
        assert hasattr({DOOR: api, KIT: kit}[module], name), name


def test_the_door_says_what_it_has() -> None:
    assert all(hasattr(api, name) for name in api.__all__)
    names = {name for name in vars(api) if not name.startswith("_")}
    assert names == set(api.__all__)


def quoted_names() -> set[str]:
    """Identifiers, attributes and calls in code quotes, without their arguments."""
    text = re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    text = text[text.index("**Shards.**") :]
    found = set()
    for quoted in re.findall(r"`([^`\n]+)`", text):
        match = re.fullmatch(r"([A-Za-z_][\w.]*(?:\[i\])?[\w.]*)(\(.*\))?", quoted)
        if match:
            found.add(match[1])
    return found


def known(name: str) -> bool:
    if (
        name in OTHER | RECORDS
        or name in POLICIES
        or name in ONE_THREAD
        or name in (DOOR, KIT)
        or name.endswith((".py", ".md", ".yaml"))
    ):
        return True
    name = name.removeprefix("view.").replace("devices[i].", "").replace("shape.", "").replace("costs.", "")
    return any(hasattr(space, name) for space in (*NAMESPACES, VIEW.costs))


@pytest.mark.parametrize("name", sorted(quoted_names()))
def test_every_name_in_the_text_exists(name: str) -> None:
    assert known(name), f"docs/policies.md names {name}, which nothing has"


def test_many_names_were_found() -> None:
    assert {"bandwidth_bps", "step_s", "faults", "devices[i].memory_bytes", "costs.at_step"} <= quoted_names()
    assert len(POLICIES) == 22
