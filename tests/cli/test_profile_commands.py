"""The commands that measure this host: options that are wrong end with status 2, before anything is measured."""

import json
from pathlib import Path

import pytest
from support.commands import Edgeemu

from edgeemu.report import roofline_figure as drawing
from edgeemu.run import profile_kernels as profiling

SHAPE = "{n_layers: 2, d_model: 32, n_heads: 4, n_kv_heads: 2, head_dim: 8, d_ff: 64, vocab_size: 50, max_context: 64}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rows", "0"), '--rows: "0" is not a number of at least 1'),
        (("--rows", "1,x"), '--rows: "x" is not a number'),
        (("--past", "99999999k"), '--past: "99999999k" is not a number'),
        (("--rows", ",".join("1" * 20)), "--rows: 20 numbers are too many"),
        (("--precision", "f32,f23"), '"f23" cannot be measured (did you mean "f32"?)'),
        (("--model", "smollm2-135m-instrct"), 'did you mean "smollm2-135m-instruct"?'),
        (("--model", "/nowhere.gguf"), "--model: /nowhere.gguf: cannot be read"),
        (("--figure", "x.jpg"), '--figure: "x.jpg" is not a .png or .svg file'),
        (("--figure", "/nowhere/x.png"), "--figure: "),
        (("--shape", "{n_layers: 2}"), "--shape:1: "),
    ],
)
def test_what_is_wrong_is_named(edgeemu: Edgeemu, options: tuple[str, str], message: str) -> None:
    status, out, err = edgeemu("profile", "kernels", *options)
    assert (status, out) == (2, "")
    assert message in err


def test_a_profile_of_kernels_is_printed_written_and_drawn(
    edgeemu: Edgeemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "stream_bytes", lambda _: 2**16)
    monkeypatch.setattr(drawing, "draw_roofline", lambda _, files: [file.write_text("drawn") for file in files])
    wanted = ("profile", "kernels", "--shape", SHAPE, "--rows", "2", "--past", "0", "--out", str(tmp_path))
    status, out, err = edgeemu(*wanted)
    assert status == 0
    assert "custom, f32, one thread, processor time:" in out
    assert f"drawn: {tmp_path}/roofline.svg" in out
    assert "s of processor time" in err
    assert "kernels, f32, 1 thread: 18/18" in err
    written = json.loads((tmp_path / "kernels.json").read_text())
    assert [each["kernel"] for each in written["kernels"]] == ["qkv", "attention", "proj", "ffn", "norm", "lm_head"]
    assert (tmp_path / "roofline.png").read_text() == "drawn"
