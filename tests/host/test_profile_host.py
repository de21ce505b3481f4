"""`edgeemu profile host`: all is measured by the clocks that it is given; a BLAS is tried without its variables."""

import subprocess
from collections.abc import Callable
from itertools import count

import pytest

from edgeemu.host import profile_host as profiling
from edgeemu.host import timers
from edgeemu.host.limits import ONE_THREAD
from edgeemu.host.profile_host import Clocks, blas_document, flops_per_s_without, profile_host
from edgeemu_kernels.profile import host as hosting
from edgeemu_kernels.profile.blas import Blas

BLAS = Blas("openblas", "0.3", "Haswell", 1)


def steps_of_a_second() -> Callable[[], float]:
    ticks = count()
    return lambda: float(next(ticks))


def test_the_document_has_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "MIN_STREAM_BYTES", 2**16)
    monkeypatch.setattr(hosting, "MAX_STREAM_BYTES", 2**16)
    monkeypatch.setattr(profiling, "MESSAGES", 2)
    monkeypatch.setattr(timers, "NAPS", 3)
    steps: list[str] = []
    clocks = Clocks(*(steps_of_a_second() for _ in range(3)), sleep=lambda _: None)
    document = profile_host(clocks, {}, steps.append)
    assert steps == ["arithmetic and memory", "caches", "timers", "messages", "BLAS"]
    assert document["matrix_product"]["flops_per_s"] == pytest.approx(2 * 768**3)
    assert document["memory_read"]["bytes_per_s"] == 2**16
    assert [each["working_set_bytes"] for each in document["reads"]] == [2**13, 2**14, 2**15, 2**16]
    assert [each["message_bytes"] for each in document["messages"]] == [1024, 16384, 262144]
    assert {each["median_s"] for each in document["messages"]} == {0.5}  # one of two in a second
    assert document["timers"]["late_p50_s"] == pytest.approx(1 - timers.NAP_S)
    assert document["blas"]["flops_per_s_without"] is None  # no variable chooses its kernels


def test_a_blas_is_tried_without_the_variables_that_choose_its_kernels() -> None:
    tried: list[dict[str, str]] = []

    def without(environment: object) -> float:
        tried.append(dict(environment))  # type: ignore[call-overload]
        return 2e11

    environment = {"OPENBLAS_CORETYPE": "Haswell", "HOME": "/home"}
    document = blas_document(BLAS, environment, 1e11, without)
    assert tried == [{"HOME": "/home"}]
    assert document["chosen_by"] == ["OPENBLAS_CORETYPE"]
    assert document["flops_per_s_without"] == 2e11


def test_the_trial_is_a_process_in_that_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, str]] = []

    def run(command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(env)
        if not started[1:]:
            return subprocess.CompletedProcess(command, 0, stdout="235.5\n")
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(profiling.subprocess, "run", run)
    assert flops_per_s_without({"HOME": "/home"}) == 235.5e9
    assert started == [{"HOME": "/home", **ONE_THREAD}]
    assert flops_per_s_without({}) is None
