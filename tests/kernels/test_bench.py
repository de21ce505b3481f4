"""The benchmark measures what it says; its real figure is taken by `make bench`."""

import errno
import json
import os
import subprocess
import sys

import pytest
from support.kernel_shapes import SMALL

from edgeemu_kernels.bench import LIMIT, PROMPT_TOKENS, measure
from edgeemu_kernels.bench_limits import Ratio, in_turns
from edgeemu_kernels.decoder import Decoder
from edgeemu_kernels.weights.seeded import SeededSource


def test_medians_of_what_the_clock_says() -> None:
    decoder = Decoder(SeededSource(SMALL, 0))
    now = iter(float(i * i) for i in range(1000))  # later stretches take longer: 1, 5, 9 | 13, …
    result = measure(decoder, "small", 3, lambda: next(now))
    assert result.step_s == 13
    assert result.read_s == {"four streams": 17, "np.dot": 21}
    assert (result.stream_s, result.ratio) == (17, 13 / 17)
    assert result.context == decoder.length == PROMPT_TOKENS + 3
    assert result.weight_bytes == sum(array.nbytes for array in decoder.weight_arrays())


def test_tasks_take_turns_and_the_first_time_does_not_count() -> None:
    order: list[str] = []
    now = iter(float(i * i) for i in range(1000))  # 1, 5 | 9, 13 | 17, 21 | 25, 29
    times = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, lambda: next(now))
    assert times == {"a": 17, "b": 21}
    assert order == ["a", "b"] * 4


def test_a_ratio_says_whether_its_limit_is_met() -> None:
    assert str(Ratio("prefill", 1.25, 1.2)).split() == ["prefill", "1.25", "(at", "most", "1.2)"]
    assert [Ratio("", value, 1.2).met for value in (1.2, 1.21)] == [True, False]
    assert [Ratio("", value, 0.6, at_least=True).met for value in (0.6, 0.59)] == [True, False]


def test_a_step_reads_every_matrix_but_the_embedding() -> None:
    source = SeededSource(SMALL, 0)
    expected = source.lm_head().weight.nbytes
    for layer in range(SMALL.n_layers):
        heads, ffn = source.heads(layer, range(3)), source.ffn(layer)
        expected += heads.weights[0].nbytes + source.proj(layer).weight.nbytes + ffn.up.nbytes + ffn.down.nbytes
    assert sum(array.nbytes for array in Decoder(source).weight_arrays()) == expected


def test_command_line(fixtures: object) -> None:
    command = [sys.executable, "-m", "edgeemu_kernels.bench", f"{fixtures}/golden_gpt2", "--rounds", "3", "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    document = json.loads(done.stdout)
    assert document["ratio"] == pytest.approx(document["step_s"] / document["stream_s"])
    assert document["limit"] == LIMIT
    packed = document["packed"]
    assert packed["of_float32"] == pytest.approx(packed["step_s"] / packed["float32_step_s"])
    assert packed["precision"]["up"] == "q8_0"
    assert packed["weight_bytes"] < document["weight_bytes"] / 3
    missing = subprocess.run([*command[:3], "/nowhere.gguf"], capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert missing.stderr == f"/nowhere.gguf: cannot be read: {os.strerror(errno.ENOENT)}\n"
