"""JSON of a model directory: what is refused, and that the reason and the place are named."""

import os
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.weights.json_files import read_bounded, read_json, short, typed


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b"\xff\xfe{}", "is not JSON: .*utf-8"),
        (b'{"a": NaN}', "is not JSON: NaN is not a JSON number"),
        (b'{"a": ["\\ud83d"]}', "is not JSON: has half of a character"),
        (b'{"\\uDE00": 1}', "is not JSON: has half of a character"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON: 9{20}… is a number of 5000 digits"),
        (b'{"b": {"a\\n": 1, "a\\n": 2}}', r'the key "a\\n" is here twice'),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": "' + b"x" * 2000 + b'"}', "larger than 1000 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git LFS pointer.*git lfs pull"),
    ],
)
def test_what_is_not_an_object_is_refused(tmp_path: Path, raw: bytes, problem: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(raw)
    with pytest.raises(ModelFileError, match=f"config.json: .*{problem}"):
        read_json(path, limit_bytes=1000 if b"xxx" in raw else 1 << 20)


def test_byte_order_marks_and_escaped_characters_are_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == {"a": 1}
    path.write_bytes(b'{"a": "\\ud83d\\ude00"}')
    assert read_json(path) == {"a": "😀"}


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ModelFileError, match="is not a regular file"):
            read_bounded(path)


class Config(msgspec.Struct):
    """A config of one number and a list."""

    layers: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    ids: list[int] = []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, "lacks layers"),
        ({"layers": "4"}, "layers: expected int, got str"),
        ({"layers": 2.5}, "layers: expected int, got float"),
        ({"layers": True}, "layers: expected int, got bool"),
        ({"layers": 10**9}, "layers: expected int <= 1000, got 1000000000"),
        ({"layers": 1, "ids": [1, None]}, r"ids\[1\]: expected int, got null"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(data: dict, problem: str) -> None:
    with pytest.raises(ModelFileError, match=f"config.json: {problem}"):
        typed(Path("config.json"), data, Config)


def test_values_in_messages_are_short_and_printable() -> None:
    assert short("\x1b[2J") == r"'\x1b[2J'"
    assert short([[]] * 7) == "a list of 7"
    assert len(short("x" * 10**6)) < 70
    assert short(10**10_000) == "a number of very many digits"
