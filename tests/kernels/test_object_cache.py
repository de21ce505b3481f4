"""Object code is compiled once, and never taken for that of another source, or from what is damaged or another's."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeemu_kernels.object_cache import MOST_KEPT, SUFFIX, cache_directory, kept, key_of
from edgeemu_kernels.object_code import compile_module

CODE = b"machine code"
MODULE = '''
from edgeemu_kernels.scalar_functions import MachineCode

FACTOR = 3

def scaled(number: float) -> float:
    """A number times a constant."""
    return number * FACTOR

if __name__ == "__main__":
    import os, sys, work
    if "CHANGE" in os.environ:  # this process has the one source, and its file then has another
        source = open("work.py").read()
        open("work.py", "w").write(source.replace("FACTOR = 3", "FACTOR = 4"))
    made = MachineCode(work.scaled)
    print(made[work.scaled](2.5), "edgeemu_kernels.scalar_code" in sys.modules)
'''


def always() -> bool:
    return True


class Maker:
    """Makes object code, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> bytes:
        self.times += 1
        return CODE


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEEMU_CACHE_DIR", str(tmp_path / "cache" / "here"))
    return tmp_path / "cache" / "here"


def test_code_is_made_once_and_is_this_users_alone(directory: Path) -> None:
    make = Maker()
    assert [kept("one", make, always), kept("one", make, always), kept("two", make, always)] == [CODE] * 3
    assert make.times == 2
    assert {path.name for path in directory.iterdir()} == {"one" + SUFFIX, "two" + SUFFIX}
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [b"", b"short", CODE, b"0" * 32 + CODE])
def test_what_is_damaged_is_made_again(directory: Path, content: bytes) -> None:
    make = Maker()
    kept("one", make, always)
    (directory / f"one{SUFFIX}").write_bytes(content)
    assert [kept("one", make, always), kept("one", make, always)] == [CODE] * 2
    assert make.times == 2


def test_what_others_can_write_is_not_used(directory: Path) -> None:
    make = Maker()
    kept("one", make, always)
    directory.chmod(0o770)
    assert kept("one", make, always) == CODE
    assert make.times == 2
    directory.chmod(0o755)
    assert kept("one", make, always) == CODE
    assert make.times == 2


def test_a_file_that_others_can_write_is_not_used(directory: Path) -> None:
    make = Maker()
    kept("one", make, always)
    (directory / f"one{SUFFIX}").chmod(0o666)
    assert kept("one", make, always) == CODE
    assert make.times == 2


def test_what_is_not_right_is_not_kept(directory: Path) -> None:
    make = Maker()
    assert [kept("one", make, lambda: False), kept("one", make, always)] == [CODE] * 2
    assert make.times == 2
    assert directory.is_dir()


@pytest.mark.parametrize("place", ["/proc/nowhere", "{file}/below"])
def test_where_nothing_can_be_written_code_is_made_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEEMU_CACHE_DIR", place.format(file=tmp_path / "file"))
    make = Maker()
    assert [kept("one", make, always), kept("one", make, always)] == [CODE] * 2
    assert make.times == 2


def test_where_there_is_no_room_code_is_still_made(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True)
    (directory / f"one{SUFFIX}").mkdir()  # no file can take its place
    make = Maker()
    assert kept("one", make, always) == CODE
    assert [path.name for path in directory.iterdir()] == [f"one{SUFFIX}"]


def test_the_files_that_were_used_last_stay(directory: Path) -> None:
    for number in range(MOST_KEPT + 3):
        kept(str(number), Maker(), always)
        os.utime(directory / f"{number}{SUFFIX}", (number, number))
    kept("3", Maker(), always)  # is used once more
    kept("newest", Maker(), always)
    left = {path.stem for path in directory.iterdir()}
    assert left == {"newest", "3", *map(str, range(5, MOST_KEPT + 3))}


def test_the_directory_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory({}) == tmp_path / ".cache" / "edgeemu"
    assert cache_directory({"XDG_CACHE_HOME": "/var/x", "EDGEEMU_CACHE_DIR": ""}) == Path("/var/x/edgeemu")
    assert cache_directory({"XDG_CACHE_HOME": "/var/x", "EDGEEMU_CACHE_DIR": "/own"}) == Path("/own")
    assert cache_directory({"XDG_CACHE_HOME": "relative"}) == tmp_path / ".cache" / "edgeemu", "as its standard says"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_nothing_is_made_in_the_home_of_another_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGEEMU_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "theirs"))
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, 12345)
    assert kept("one", Maker(), always) == CODE
    assert not list((tmp_path / "theirs").iterdir())


@given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
def test_a_key_says_all_parts_and_where_they_end(one: list[bytes], other: list[bytes]) -> None:
    assert (key_of(one) == key_of(other)) == (one == other)


@pytest.fixture
def answer(tmp_path: Path, directory: Path) -> Callable[..., str]:
    """Answer of a process whose module has some source."""
    del directory  # where it keeps code

    def answer(source: str, **variables: str) -> str:
        (tmp_path / "work.py").write_text(source)
        path = os.pathsep.join([str(tmp_path), *sys.path])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **variables}
        command = [sys.executable, "work.py"]
        ran = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=True, env=environment)
        return ran.stdout.strip()

    return answer


def test_another_source_is_compiled_anew(answer: Callable[..., str], directory: Path) -> None:
    assert [answer(MODULE), answer(MODULE)] == ["7.5 True", "7.5 False"]
    assert answer(MODULE.replace("FACTOR = 3", "FACTOR = 4")) == "10.0 True"
    assert len(list(directory.iterdir())) == 2


def test_code_of_a_source_that_has_changed_since_is_not_taken_for_that_of_the_new_one(
    answer: Callable[..., str],
) -> None:
    assert answer(MODULE, CHANGE="1").startswith("7.5")
    assert answer(MODULE.replace("FACTOR = 3", "FACTOR = 4")).startswith("10.0")


def test_what_has_no_source_files_is_not_kept(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def named(number: float) -> float:
        return number

    nowhere = ModuleType("nowhere")
    nowhere.__path__ = []
    monkeypatch.setitem(sys.modules, "nowhere", nowhere)
    named.__module__ = "nowhere"
    made = compile_module("nowhere", lambda: "define i64 @one() {\n  ret i64 1\n}", [named])
    assert made.get_function_address("one")
    assert not directory.exists()
