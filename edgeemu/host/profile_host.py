"""`edgeemu profile host`: arithmetic, memory, caches, timers and messages of this host, as one core has them.

In processor time, but for sleeps; clocks are passed in. Starts a process only to see what a BLAS does without the
variables that choose its kernels.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import zmq

from edgeemu.host.limits import ONE_THREAD
from edgeemu.host.timers import measure_lateness
from edgeemu_kernels.profile.blas import Blas, choosing, cpu_flags, held_down
from edgeemu_kernels.profile.timing import Timing, timing

MESSAGE_BYTES = (1024, 16 * 1024, 256 * 1024)
MESSAGES = 100  # in a sample
MESSAGE_SAMPLES = 15
CHILD_LIMIT_S = 60.0

Clock = Callable[[], float]


class Clocks(NamedTuple):
    """Clocks in seconds: processor time of this thread and of this process, and the wall's; and a sleep."""

    thread: Clock
    process: Clock
    wall: Clock
    sleep: Callable[[float], None]


def profile_host(clocks: Clocks, environment: Mapping[str, str], on_phase: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything; takes some 3 s of processor time. `on_phase` is called with the name of each step."""
    from threadpoolctl import threadpool_limits

    from edgeemu_kernels.profile.blas import loaded_blas
    from edgeemu_kernels.profile.host import ROUNDS, HostProbe, cache_bandwidths, caches, stream_bytes

    found, blas = caches(), loaded_blas()
    with threadpool_limits(1, "blas"):
        on_phase("arithmetic and memory")
        probe = HostProbe(clocks.thread, stream_bytes(found))
        for _ in range(ROUNDS):
            probe.sample()
        speed, product, read = probe.speed, probe.product, probe.read
        del probe
        on_phase("caches")
        bandwidths = list(cache_bandwidths(clocks.thread, stream_bytes(found)))
    on_phase("timers")
    timers = measure_lateness(clocks.wall, clocks.sleep)
    on_phase("messages")
    messages = [_message_document(size_bytes, time) for size_bytes, time in _messages(clocks.process)]
    on_phase("BLAS")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "clock": "processor time of one thread",
        "matrix_product": {"flops_per_s": speed.gflops * 1e9, **timing_document(product)},
        "memory_read": {
            "bytes_per_s": speed.mem_bytes_per_s,
            "array_bytes": stream_bytes(found),
            **timing_document(read),
        },
        "caches": [each._asdict() for each in found],
        "reads": [
            {
                "working_set_bytes": each.working_set_bytes,
                "bytes_per_s": each.bytes_per_s,
                **timing_document(each.read),
            }
            for each in bandwidths
        ],
        "timers": {
            "realtime": timers.realtime,
            "used": timers.used,
            "late_p50_s": timers.late_p50_s,
            "late_p99_s": timers.late_p99_s,
        },
        "messages": messages,
        "blas": blas_document(blas, environment, speed.gflops * 1e9, flops_per_s_without),
    }


def timing_document(time: Timing) -> dict[str, Any]:
    """Make the part of a document that tells a measured time."""
    return {**time._asdict(), "spread": time.spread}


def blas_document(
    blas: Blas, environment: Mapping[str, str], flops_per_s: float, without: Callable[[Mapping[str, str]], float | None]
) -> dict[str, Any]:
    """Make the part of the document about the BLAS.

    `without` measures a matrix product without the variables that choose its kernels, in an environment without them;
    None if that failed.
    """
    chosen_by = choosing(environment)
    free = {name: value for name, value in environment.items() if name not in chosen_by}
    return {
        "name": blas.name,
        "version": blas.version,
        "kernels": blas.kernels,
        "chosen_by": chosen_by,
        "held_down": held_down(blas, cpu_flags(), environment),
        "flops_per_s": flops_per_s,
        "flops_per_s_without": without(free) if chosen_by else None,
    }


def flops_per_s_without(environment: Mapping[str, str]) -> float | None:
    """Measure the matrix product in a process with this environment; None if it fails."""
    code = "import time; from edgeemu_kernels.profile.host import measure; print(measure(time.thread_time, 8).gflops)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, **ONE_THREAD},
            capture_output=True,
            text=True,
            check=True,
            timeout=CHILD_LIMIT_S,
        )
        return float(done.stdout) * 1e9
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _messages(process: Clock) -> Iterator[tuple[int, Timing]]:
    """Measure the processor time of a message from socket to socket, sender, receiver and ZeroMQ's thread together."""
    with (
        tempfile.TemporaryDirectory() as directory,
        zmq.Context() as context,
        context.socket(zmq.PULL) as receiver,
        context.socket(zmq.PUSH) as sender,
    ):
        receiver.bind(f"ipc://{directory}/s")
        sender.connect(f"ipc://{directory}/s")
        for size_bytes in MESSAGE_BYTES:
            payload, samples_s = bytes(size_bytes), []
            for _ in range(MESSAGE_SAMPLES + 1):  # the first warms up
                start_s = process()
                for _ in range(MESSAGES):
                    sender.send(payload)
                    receiver.recv()
                samples_s.append(process() - start_s)
            yield size_bytes, timing(samples_s[1:]).each(MESSAGES)


def _message_document(size_bytes: int, time: Timing) -> dict[str, Any]:
    return {"message_bytes": size_bytes, **timing_document(time)}
