"""A short part of the fuzzing: no damaged input ends in anything but a declared error. And fuzzing sees what does."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fuzzing.example import InputDirectory, Target, try_input
from fuzzing.inputs import Editor, Twice, as_json
from fuzzing.run import WorkerError, ended_by, run_target, try_again
from fuzzing.targets import TARGETS
from fuzzing.worker import Job, inputs_of
from support import fuzzed

ROOT = Path(__file__).parents[2]
PATH = f"{ROOT / 'tools'}:{ROOT / 'tests'}"  # from where workers import
COUNTS = {"template": 3, "wire": 100, "control": 100, "gguf": 100, "yaml": 30, "records": 30}  # of inputs; others: 60


class Unedited(Editor):
    """Makes no edits."""

    def edited(self, seeds: Sequence[bytes], words: Sequence[bytes] = ()) -> bytes:  # noqa: ARG002
        return self.choose(seeds)

    def edited_tree(self, trees: Sequence[Any], words: Sequence[str] = ()) -> Any:  # noqa: ARG002
        return self.choose(trees)

    def rearranged(self, pieces: Sequence[str], more: Sequence[str]) -> list[str]:  # noqa: ARG002
        return list(pieces)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_are_refused_as_declared(name: str, tmp_path: Path) -> None:
    files = InputDirectory(tmp_path)
    for given in inputs_of(TARGETS[name], seed=0, number=0, count=COUNTS.get(name, 60)):
        files.write(given)
        found = try_input(TARGETS[name], tmp_path, hang_s=None)
        assert found is None, found.trace


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_are_right_before_they_are_edited(name: str, tmp_path: Path) -> None:
    files, editor = InputDirectory(tmp_path), Unedited(0, 0)
    for _ in range(2 if name == "template" else 12):
        files.write(TARGETS[name].make(editor))
        TARGETS[name].run(tmp_path)


def tried(target: Target, directory: Path) -> str:
    """One line on what is found with an input, empty if nothing is."""
    (directory / "input").write_bytes(b"a")
    found = try_input(target, directory, hang_s=None)
    return found.what if found else ""


def test_errors_that_are_not_declared_are_found_and_too_much_memory_is(tmp_path: Path) -> None:
    found = {name: tried(fuzzed.TARGETS[name], tmp_path) for name in fuzzed.TARGETS if name not in ("hang", "crash")}
    assert {name: what.partition(" at ")[0] for name, what in found.items()} == {
        "refuse": "",
        "raise_another": "KeyError",
        "take_memory": "MemoryError",
        "take_memory_and_refuse": "ValueError",
        "take_less_memory": "",
    }


def test_a_hang_and_a_crash_end_the_worker_and_are_saved_with_their_input(tmp_path: Path) -> None:
    job = Job("hang", "", str(tmp_path), module="support.fuzzed", hang_s=0.2, seconds=0.1)
    outcome = run_target(job, lambda _: None, PATH)
    [(what, saved)] = outcome.found.items()
    assert what.startswith("hang")
    assert "in hang" in (saved / "finding.txt").read_text()
    again = try_again(replace(job, files=str(saved / "input")), PATH)
    assert list(again.found) == [what]

    told: list[int] = []
    crashing = replace(job, target="crash", seconds=0.4, seed=3)
    outcome = run_target(crashing, lambda outcome: told.append(len(outcome.found)), PATH)
    [(what, saved)] = outcome.found.items()
    assert what == "the process ended, SIGSEGV"
    assert b"a" not in (saved / "input" / "input").read_bytes()
    assert told[-1] == 1


def test_where_an_input_ended_its_worker_is_told_if_that_is_in_what_is_fuzzed() -> None:
    """Also in a directory that is called edgeemu."""
    frames = [f'File "{ROOT}/{file}", line 7 in f' for file in ("tests/edgeemu/x.py", ".venv/edgeemu_kernels/x.py")]
    own = f'File "{ROOT}/kernels/edgeemu_kernels/x.py", line 9 in g'
    assert ended_by(-11, "\n".join(frames)).what == "the process ended, SIGSEGV"
    assert ended_by(-11, "\n".join([*frames, own])).what == f"the process ended, SIGSEGV: {own}"


def test_a_worker_that_cannot_begin_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="KeyError: 'no such'"):
        run_target(Job("no such", "", str(tmp_path), module="support.fuzzed"), lambda _: None, PATH)


def test_a_seed_gives_the_same_inputs() -> None:
    first, again, other = (list(inputs_of(TARGETS["wire"], 0, number, 20)) for number in (1, 1, 2))
    assert first == again != other


def test_json_is_written_with_what_it_should_not_have() -> None:
    assert as_json({"a": 1, Twice("a"): 2}) == b'{"a": 1, "a": 2}'
    assert as_json(["<number>"]) == b"[1e999999]"
    assert as_json("<deep>").startswith(b"[[[[[[")
