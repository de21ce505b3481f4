"""Imports point one way, devices stay small, policies stay pure, and only the edges read a clock."""

import ast
import subprocess
import sys
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The folders in the order in which data flows: each may import from those above it, and from the modules beside them.
FOLDERS = [
    "scenario",
    "cluster",
    "placement",
    "timeline",
    "policies",
    "host",
    "links",
    "device",
    "report",
    "run",
    "cli",
]
BESIDE = ["errors", "quantity", "units", "topologies", "records", "__main__"]
ON_TOP = 2  # of these, the last stand on all folders

# Special rules: what a folder may not import although it stands above.
NEVER = {
    "cluster": ["scenario"],  # device processes load it; only `cluster.draw` reads a scenario
    "placement": ["scenario"],
    "timeline": ["scenario"],
    "policies": ["scenario"],
    "host": ["scenario", "cluster", "placement", "timeline", "policies"],
    "links": ["scenario", "policies", "cluster.draw"],
    "device": ["scenario", "policies", "cluster.draw"],
}
EXCEPT = ["edgeemu.cluster.draw"]

# Pairs of places, the kernels and the tools among them, of which one imports from the other.
MAX_ARROWS = 83

# What a device process must never load: it has to stay small, and knows only what it is told.
NOT_IN_DEVICES = [
    *("edgeemu.policies", "edgeemu.scenario", "edgeemu.cluster.draw", "edgeemu.report", "edgeemu.run", "edgeemu.cli"),
    *("edgeemu.host.fleet", "edgeemu.host.doctor", "edgeemu.links.netns"),
    *("edgeemu.placement.compile", "edgeemu.placement.residual_stream"),
    *("pydantic", "pyarrow", "typer", "rich", "tokenizers", "yaml", "jinja2", "asyncio"),
]

# A policy is a function of what it is shown.
NOT_IN_POLICIES = ["zmq", "socket", "multiprocessing", "subprocess", "time", "asyncio", "random", "os", "pathlib"]

QUIET_SOLVER = {"edgeemu.policies.search.mip": {"os"}}  # HiGHS prints to descriptor 1, which it keeps clean

# Who may look at a clock, or at chance, that it was not given: the edges, where processes meet the world.
EDGES = {
    "edgeemu.cli.calibrate_command": "it gives the clock, and words by chance, to who asks a server",
    "edgeemu.cli.profile_commands": "it gives clocks to those who measure the host",
    "edgeemu.cli.compare_command": "it says how long the rest of a comparison takes",
    "edgeemu.cli.run_commands": "it says how long the rest of a run takes",
    "edgeemu.cli.sweep_runs": "it says how long the rest of a sweep takes",
    "edgeemu.cli.options": "it says which day it is, for chat templates that write the date",
    "edgeemu.run.run_scenario": "it says when a run started",
    "edgeemu.run.processes.backend": "it holds the run against the wall clock",
    "edgeemu.run.alarm": "it ends what takes too long",
    "edgeemu.run.ask_policy": "it measures how long a policy takes",
    "edgeemu.run.policy_process.process": "it limits the processor time of a policy, and does not wait for ever",
    "edgeemu.run.policy_process.worker": "it measures how long a policy takes",
    "edgeemu.run.make_plan": "it measures how long a policy takes, and gives the clock to who measures the host",
    "edgeemu.links.netns.process": "it follows what varies, and says how long an order took",
    "edgeemu.device.process": "it measures kernels, sleeps until the timeline's instants, and stamps tokens",
    "edgeemu.device.make_links": "it gives links the wall clock",
    "edgeemu.host.cgroups": "it waits for the kernel to let go of a group",
    "edgeemu.host.clock_watch": "it reads the clocks that it compares",
    "edgeemu.host.doctor": "it measures the host",
    "edgeemu_kernels.bench": "a benchmark",
}
CLOCKS = {"time", "random", "secrets", "uuid"}  # modules
CLOCK_CALLS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "os.urandom"}


@dataclass
class Module:
    """Imports of one file, wherever they stand in it, except those for the type checker only."""

    name: str
    tree: ast.Module
    imports: set[str] = field(default_factory=set)

    @property
    def folder(self) -> str:
        """The folder of `edgeemu` that it stands in, or the module beside the folders."""
        return self.name.split(".")[1] if "." in self.name else ""


def files_by_module() -> dict[str, Path]:
    files = {}
    for package in (ROOT / "edgeemu", ROOT / "kernels" / "edgeemu_kernels"):
        for file in package.rglob("*.py"):
            parts = file.relative_to(package.parent).with_suffix("").parts
            files[".".join(parts).removesuffix(".__init__")] = file
    return files


FILES = files_by_module()


@cache
def parsed() -> dict[str, Module]:
    modules = {name: Module(name, ast.parse(file.read_text(), str(file))) for name, file in FILES.items()}
    for module in modules.values():
        relative = [node for node in ast.walk(module.tree) if isinstance(node, ast.ImportFrom) and node.level]
        assert not relative, f"{module.name}: relative import"
        module.imports.update(imported(module.tree, modules))
    return modules


def imported(tree: ast.AST, modules: Container[str]) -> Iterator[str]:
    """Names of the modules that a file imports at run time, but relative ones; of those in `modules`, the innermost."""
    for node in at_run_time(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements, and what holds some, but those below `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for node in child.orelse:
                yield from at_run_time(node)
        else:
            yield child
            yield from at_run_time(child)


def matches(name: str, prefixes: list[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def reached_from(package: str) -> dict[str, list[str]]:
    """Everything that a package's modules import, through our own modules; each with the way to it."""
    ways = {name: [name] for name in FILES if matches(name, [package])}
    queue = list(ways)
    for name in queue:  # grows
        for target in parsed()[name].imports if name in FILES else ():
            if target not in ways:
                ways[target] = [*ways[name], target]
                queue.append(target)
    return ways


def test_the_whole_source_is_seen() -> None:
    assert {"edgeemu.host.fork_server", "edgeemu.host.fleet", "edgeemu_kernels.shape"} <= set(FILES)
    assert "edgeemu.host.fork_protocol" in parsed()["edgeemu.host.fleet"].imports
    assert "pyarrow" in parsed()["edgeemu.report.record_files"].imports


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.startswith("edgeemu.")))
def test_imports_point_one_way(name: str) -> None:
    module, order = parsed()[name], [*BESIDE[:-ON_TOP], *FOLDERS, *BESIDE[-ON_TOP:]]
    assert module.folder in order, f"{name} has no place in FOLDERS"
    never = [f"edgeemu.{target}" for target in NEVER.get(module.folder, [])]
    for target in module.imports & set(FILES):
        if target == "edgeemu" or target.startswith("edgeemu_kernels"):
            continue
        backwards = order.index(parsed()[target].folder) > order.index(module.folder)
        assert not backwards, f"{name} imports {target}, which comes after it in FOLDERS"
        assert matches(name, EXCEPT) or not matches(target, never), f"{name} imports {target}"


def place(name: str) -> str:
    """The folder or the module beside the folders that a module of `edgeemu` stands in; else its whole package."""
    package, *inner = name.split(".")
    return inner[0] if package == "edgeemu" and inner else package


def test_few_places_know_each_other() -> None:
    imports = [(place(name), target) for name, module in parsed().items() for target in module.imports]
    for file in (ROOT / "tools").rglob("*.py"):
        imports += [("tools", target) for target in imported(ast.parse(file.read_text(), str(file)), FILES)]
    arrows = {(start, place(target)) for start, target in imports if target in FILES and target != "edgeemu"}
    arrows = {(start, end) for start, end in arrows if start != end}
    assert {("tools", "run"), ("device", "edgeemu_kernels")} <= arrows
    assert len(arrows) <= MAX_ARROWS, sorted(arrows)


def test_the_kernels_know_no_cluster() -> None:
    for name, module in parsed().items():
        if matches(name, ["edgeemu_kernels"]):
            assert not any(matches(target, ["edgeemu"]) for target in module.imports), name


def test_there_is_no_circle() -> None:
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> None:
        assert name not in way, " -> ".join([*way, name])
        if name in FILES and name not in done:
            for target in sorted(parsed()[name].imports):
                visit(target, [*way, name])
            done.add(name)

    for name in FILES:
        visit(name, [])


def test_devices_never_reach_what_is_not_theirs() -> None:
    for target, way in reached_from("edgeemu.device").items():
        assert not matches(target, NOT_IN_DEVICES), " -> ".join(way)


def test_policies_are_pure() -> None:
    for name, module in parsed().items():
        if matches(name, ["edgeemu.policies"]):
            for target in module.imports - QUIET_SOLVER.get(name, set()):
                assert not matches(target, NOT_IN_POLICIES), f"{name} imports {target}"


def clocks_read(module: Module) -> Iterator[str]:
    """Where a module looks at a clock, or at chance, that it was not given."""
    yield from (f"import {name}" for name in module.imports & CLOCKS)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            seedless = "random.rand" in called or (called.endswith("default_rng") and not node.args)
            if seedless or any(called.endswith(call) for call in CLOCK_CALLS):
                yield f"line {node.lineno}: {called}()"


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_module_says_what_it_knows_and_reads_no_clock_that_it_was_not_given(name: str) -> None:
    """Only `EDGES` read one."""
    assert ast.get_docstring(parsed()[name].tree), f"{name} has no docstring"
    found = list(clocks_read(parsed()[name]))
    if name in EDGES:
        assert found, f"{name} reads none any more: take it out of EDGES"
    else:
        assert not found


def test_the_command_line_starts_without_heavy_libraries() -> None:
    heavy = ("numpy", "pyarrow", "zmq", "tokenizers", "pydantic", "yaml", "uvloop", "asyncio")
    code = f"import sys, edgeemu.cli.app; print(*[name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
