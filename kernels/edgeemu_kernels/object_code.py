"""Compilation of LLVM modules for this processor, and their machine code in memory, ready to be called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from inspect import isfunction
from itertools import chain
from pathlib import Path
from typing import Any, get_type_hints

import llvmlite
from llvmlite import binding

from edgeemu_kernels.object_cache import kept, key_of

Function = Callable[..., object]


def compile_module(
    name: str, text: Callable[[], str], functions: Sequence[Function] = (), *, loops: bool = True
) -> Any:
    """Compile a module for this processor, and return the engine that owns the machine code.

    What has been compiled before is read from disk, by its name and all that `text` makes it from: the source files of
    this package, and `functions` with all that they call. `loops`: make several turns of a loop at a time, which takes
    longer to compile.
    """

    def key() -> str | None:
        files = _source_files({each.partition(".")[0] for each in (__name__, *(f.__module__ for f in functions))})
        made_by = llvmlite.__version__, sys.version, *_host(), str(loops)
        return None if files is None else key_of([name, *made_by, *_reached(functions), *files])

    before = key()
    if before is None:
        return _loaded(_object_code(text(), loops=loops))
    # A file that somebody changes meanwhile is in the code, and not in the key.
    return _loaded(kept(before, lambda: _object_code(text(), loops=loops), lambda: key() == before))


def _source_files(packages: Iterable[str]) -> list[str | bytes] | None:
    """Names and contents of all source files of packages; None where one has none. Constants can be in any of them."""
    found: list[str | bytes] = []
    for module in (sys.modules[each] for each in sorted(packages)):
        folders = getattr(module, "__path__", None)
        files = [str(module.__file__)] if folders is None else list(chain.from_iterable(map(_python_files, folders)))
        if not files:
            return None
        for file in sorted(files):
            found += [file, Path(file).read_bytes()]
    return found


def _python_files(folder: str) -> Iterator[str]:
    for where, _, names in os.walk(folder):
        yield from (f"{where}/{name}" for name in names if name.endswith(".py"))


def _reached(functions: Iterable[Function]) -> Iterator[str]:
    """Yield what this process has of functions, and of all that they call: their files can have changed since."""
    seen, left = set[Function](), list(functions)
    while left:
        function = left.pop()
        if function in seen:
            continue
        seen.add(function)
        code, known = function.__code__, function.__globals__
        yield repr((function.__qualname__, code.co_code, code.co_consts, code.co_names, code.co_varnames))
        yield repr([getattr(hint, "__annotations__", hint) for hint in get_type_hints(function).values()])
        for name in code.co_names:
            used = known.get(name)
            if isfunction(used):
                left.append(used)
            elif isinstance(used, (bool, int, float)):
                yield repr((name, used))


@cache
def _host() -> tuple[str, str, str]:
    """Processor that machine code is for: its triple, name and features."""
    return binding.get_default_triple(), binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()


def _machine() -> Any:
    """LLVM's description of this processor."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    triple, name, features = _host()
    return binding.Target.from_triple(triple).create_target_machine(cpu=name, features=features, opt=3, jit=True)


def _object_code(text: str, *, loops: bool) -> bytes:
    """Compile the text of a module."""
    machine = _machine()
    parsed = binding.parse_assembly(text)
    parsed.verify()
    tuning = binding.create_pipeline_tuning_options(speed_level=2 if loops else 1)
    tuning.loop_unrolling = tuning.loop_vectorization = tuning.loop_interleaving = loops
    passes = binding.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(parsed, passes)
    code: bytes = machine.emit_object(parsed)
    return code


def _loaded(code: bytes) -> Any:
    """Put object code into memory, and return the engine that owns it."""
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def can_convert_halves() -> bool:
    """Whether this processor converts float16 by itself."""
    return bool(binding.get_host_cpu_features().get("f16c")) or binding.get_default_triple().startswith(
        ("aarch64", "arm64")
    )
