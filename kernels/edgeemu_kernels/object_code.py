"""Compilation of LLVM modules for this processor, and their machine code in memory, ready to be called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
from llvmlite import binding

from edgeemu_kernels.object_cache import kept, key_of


def compile_module(source: Iterable[str | bytes], text: Callable[[], str], *, loops: bool = True) -> Any:
    """Compile a module for this processor, and return the engine that owns the machine code.

    What has been compiled before is read from disk, by its source: its name, and all that `text` makes it from.
    `loops`: make several turns of a loop at a time, which takes longer to compile.
    """
    key = key_of([llvmlite.__version__, *map(str, (sys.version, _host(), loops)), *source])
    return _loaded(kept(key, lambda: _object_code(text(), loops=loops)))


def sources(functions: Iterable[Callable[..., object]] = ()) -> Iterator[str | bytes]:
    """Yield all source files of this package, and of those of functions: all that modules written from them depend on.

    Constants that functions use can be anywhere in their package.
    """
    tops = {name.partition(".")[0] for name in (__name__, *(each.__module__ for each in functions))}
    for module in (sys.modules[top] for top in sorted(tops)):
        for folder in getattr(module, "__path__", ()):
            for file in sorted(_python_files(folder)):
                yield os.path.relpath(file, folder)
                yield Path(file).read_bytes()
        if not hasattr(module, "__path__"):
            yield Path(str(module.__file__)).read_bytes()


def _python_files(folder: str) -> Iterator[str]:
    for where, _, names in os.walk(folder):
        yield from (f"{where}/{name}" for name in names if name.endswith(".py"))


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
