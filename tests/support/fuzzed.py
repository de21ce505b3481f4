"""Targets of fuzzing that do what no reader may do."""

import os
import signal
from pathlib import Path

from fuzzing.example import Target
from fuzzing.inputs import Editor, Files

MIB = 2**20


def make(editor: Editor) -> Files:
    return {"input": editor.edited([b"a seed"])}


def refuse(directory: Path) -> None:
    raise ValueError(len((directory / "input").read_bytes()))


def raise_another(directory: Path) -> None:
    raise KeyError((directory / "input").read_bytes())


def take_memory(directory: Path) -> None:
    (directory / "input").read_bytes()
    bytearray(250 * MIB)


def take_memory_and_refuse(directory: Path) -> None:
    try:
        take_memory(directory)
    except MemoryError as error:
        raise ValueError("cannot be read") from error


def take_less_memory(directory: Path) -> None:
    (directory / "input").read_bytes()
    bytearray(100 * MIB)


def hang(directory: Path) -> None:
    while (directory / "input").exists():
        pass


def crash(directory: Path) -> None:
    if b"a" not in (directory / "input").read_bytes():
        os.kill(os.getpid(), signal.SIGSEGV)


RUNS = [refuse, raise_another, take_memory, take_memory_and_refuse, take_less_memory, hang, crash]
TARGETS = {run.__name__: Target(make, run, (ValueError,)) for run in RUNS}
