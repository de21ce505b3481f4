"""Memory of devices that do not wait, as if they ran steps one after the other, in the order of their start. Pure.

What a device really holds at once depends on which steps this host has it run at the same time. Its ledger refuses what
does not fit then, too; what is recorded is what all hosts have in common.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgeemu.device.protocol_out import Report
from edgeemu.placement.arrays import IntArray
from edgeemu.placement.ledger import CACHE, MESSAGES
from edgeemu.report.usage_rows import ACCOUNTS

_CACHE, _MESSAGES = ACCOUNTS.index(CACHE), ACCOUNTS.index(MESSAGES)


class StepMemory(NamedTuple):
    """Memory of devices after a step."""

    held_bytes: IntArray  # by account, in the order of `ACCOUNTS`: [n_accounts, n_devices]
    peak_bytes: IntArray  # so far: [n_devices]


class DeviceMemory:
    """Ledgers of all devices, from one step to the next."""

    def __init__(self, n_devices: int) -> None:
        self._peak_bytes = np.zeros(n_devices, np.int64)

    def after(
        self, reports: Sequence[tuple[int, Report]], rows: int, own_bytes: IntArray, cached_rows: int | None
    ) -> StepMemory:
        """Take the next step, which has `rows` rows: the reports of devices, each with the device's number.

        `own_bytes` are the most of its own that it holds on each device, [n_devices] (`StepPeaks`). `cached_rows` are
        in the caches of all sequences after it; None: no other step was under way.
        """
        held = np.zeros((len(ACCOUNTS), len(self._peak_bytes)), np.int64)
        for device, report in reports:
            page = [report.held.get(account, 0) for account in ACCOUNTS]
            page[_MESSAGES] = 0  # it has run all of the step; messages that it holds are of others
            if cached_rows is not None:
                page[_CACHE] = report.grown_bytes // rows * cached_rows
            before_bytes = sum(page) - report.grown_bytes
            peaks = self._peak_bytes[device], report.peak_bytes, before_bytes + own_bytes[device]
            self._peak_bytes[device] = max(peaks)
            held[:, device] = page
        return StepMemory(held, self._peak_bytes.copy())

    def restarted(self, device: int) -> None:
        """Note that another process takes a device's place."""
        self._peak_bytes[device] = 0
