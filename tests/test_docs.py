"""The documentation is complete and true: every key is there with its default, every column, and examples are valid."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import uvloop
from pydantic import BaseModel

from edgeemu.report.rows import TableName, schema
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.document import read, write
from edgeemu.scenario.load import parse_scenario
from edgeemu.scenario.network import DefaultLink
from edgeemu.scenario.reference import SECTIONS, scenario_json_schema, table
from edgeemu.scenario.scenario import Scenario

ROOT = Path(__file__).parent.parent
REFERENCE = (ROOT / "docs" / "scenario.md").read_text()
RUN = (ROOT / "docs" / "run.md").read_text()

BASE = """
model: smollm2-135m-instruct
devices:
  - {name: pi, profile: raspberry-pi-4, count: 2}
  - {name: board, profile: jetson-nano}
  - {name: laptop, profile: laptop-cpu}
network:
  default: {bandwidth: 100 Mbit/s, delay: 2 ms}
workload:
  prompts: [Why is the sky blue?]
"""


def section(text: str, heading: str) -> str:
    """From a heading to the next one."""
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no heading {heading}"
    return found[1]


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_of_a_section_is_there_with_its_default(heading: str) -> None:
    assert table(SECTIONS[heading]) in section(REFERENCE, heading), "stale; run: python tools/scenario_tables.py"


def test_every_property_of_the_schema_has_a_description_with_kind_and_default() -> None:
    schema = scenario_json_schema()
    forms = [form for model in (schema, *schema["$defs"].values()) for form in (model, *model.get("anyOf", ()))]
    properties = [item for form in forms for item in form.get("properties", {}).items()]
    assert len(properties) >= 202
    for name, field in properties:
        assert re.fullmatch(r"[A-Z`].*[.] Kind: .+[.] Default: .+[.]", field.get("description", "")), name


def test_every_model_of_a_scenario_has_a_section() -> None:
    known = set(SECTIONS.values())
    seen: set[type[BaseModel]] = set()

    def visit(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
            seen.add(annotation)
            for field in annotation.model_fields.values():
                visit(field.annotation)
        for argument in get_args(annotation):
            visit(argument)

    visit(Scenario)
    assert len(seen) > len(known)  # generic ones several times
    missing = [model.__name__ for model in seen - {DefaultLink} if not known.intersection(model.__mro__)]
    assert missing == []


def examples() -> list[tuple[str, str]]:
    """Every YAML example: fenced in docs/, indented in README.md."""
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text()
        blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        blocks += [
            re.sub("^    ", "", block, flags=re.MULTILINE)
            for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE)
            if re.search(r"^    (model|devices|network):", block, re.MULTILINE)
        ]
        found += [(f"{path.name} {number}", block) for number, block in enumerate(blocks, 1)]
    return found


def test_there_are_examples() -> None:
    named = [name for name, _ in examples()]
    assert "README.md 1" in named
    assert sum(name.startswith("scenario.md") for name in named) >= 10


@pytest.mark.parametrize(("name", "example"), examples(), ids=lambda value: value.split("\n")[0])
def test_examples_are_valid(name: str, example: str, tmp_path: Path) -> None:
    """Keys that an example leaves out are taken from a scenario with the devices that the examples name."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "llama.gguf").touch()
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "delay.csv").write_text("time [s],delay [ms]\n0,0\n5,20\n")
    whole = read(BASE, "base").data | read(example, name).data
    if "star" in whole["network"]:
        assert whole["network"]["topology"] == "star"
    parse_scenario(write(whole), name.replace(" ", "-").replace(".", "-"), base=tmp_path)


def named(text: str) -> set[str]:
    """All that stands in code quotes."""
    return set(re.findall(r"`([^`\n]+)`", text))


@pytest.mark.parametrize("table", get_args(TableName))
def test_every_column_is_explained(table: Any) -> None:
    assert set(schema(table).names) <= named(section(RUN, f"{table}.parquet"))


def keys(value: Any, path: str = "") -> Iterator[str]:
    """Names of all keys, but for those that are names of devices or libraries."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if path not in ("memory.by_device", "energy.by_device", "idle.by_device", "utilisation", "libraries"):
                yield key
            yield from keys(inner, f"{path}.{key}".strip("."))


def test_what_a_run_leaves_is_explained(tmp_path: Path) -> None:
    shape = "{n_layers: 1, d_model: 8, n_heads: 2, n_kv_heads: 1, head_dim: 4, d_ff: 8, vocab_size: 9, max_context: 99}"
    text = f"""
model: {{shape: {shape}}}
devices: [{{name: a, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 1 MiB}}]
policy: single
workload: {{prompts: [{{tokens: 2}}], max_tokens: 2}}
time: {{mode: virtual}}
"""
    ran = uvloop.run(run_scenario(parse_scenario(text), policy=None, out=tmp_path, observer=Silent()))
    assert {path.name for path in ran.directory.iterdir()} <= named(RUN)
    assert set(keys(ran.summary)) <= named(RUN)
    meta = json.loads((ran.directory / "meta.json").read_text())
    assert set(keys(meta)) <= named(section(RUN, "meta.json"))
