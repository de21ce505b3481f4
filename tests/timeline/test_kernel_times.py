"""Kernels of one kind and size take what they usually take, whatever the host did during one of them."""

import random
from dataclasses import replace

import pytest
from support.builders import even_cluster

from edgeemu.cluster.links import Link
from edgeemu.placement.blocks import Kind
from edgeemu.placement.program import MessageKind, Op, Slot
from edgeemu.timeline.kernel_times import KEPT, KernelTimes, relative_s


def op(layer: int = 0, device: int = 0, kind: Kind = Kind.FFN) -> Op:
    slot = Slot(MessageKind.HIDDEN, layer, 0)
    return Op(0, kind, layer, (), device, (slot,), slot, ())


def test_a_disturbed_measurement_changes_nothing() -> None:
    times, draw = KernelTimes(), random.Random(3)
    calm = [1e-3 + 1e-5 * draw.random() for _ in range(4 * KEPT)]
    taken = [times.add(op(layer), 1, cpu_s) for layer, cpu_s in enumerate(calm)]
    disturbed = [times.add(op(layer), 1, 5e-3 if layer % 3 == 0 else cpu_s) for layer, cpu_s in enumerate(calm)]
    assert all(1e-3 <= each <= 1.01e-3 for each in (*taken, *disturbed))


def test_kinds_sizes_and_devices_are_apart() -> None:
    times = KernelTimes()
    times.add(op(), 1, 1.0)
    assert times.known(op(layer=7), 1) == 1.0
    assert times.known(op(), 2) is times.known(op(device=1), 1) is times.known(op(kind=Kind.PROJ), 1) is None


def test_a_copy_is_not_changed() -> None:
    times = KernelTimes()
    times.add(op(), 1, 2.0)
    copied = times.copy()
    times.add(op(), 1, 1.0)
    assert (copied.known(op(), 1), times.known(op(), 1)) == (2.0, 1.0)


def test_a_device_takes_its_fraction_of_the_host() -> None:
    device = even_cluster(1, Link(1e6, 0.0)).devices[0]
    half = replace(device, compute=None, host_fraction=0.5, overhead_s=0.25)
    assert relative_s(half, op(), 1.0) == pytest.approx(2.25)
