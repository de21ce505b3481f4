"""Ledger of a device's memory: reservations by name, and the refusal of one that does not fit."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgeemu.errors import EdgeemuError
from edgeemu.placement.memory import Usage

WEIGHTS, CACHE, WORKSPACE, MESSAGES, INCOMING = "weights", "cache", "workspace", "messages", "incoming"


class OutOfMemoryError(EdgeemuError):
    """Raised for a reservation that the budget cannot hold."""

    exit_status = 3


@dataclass(slots=True)
class Ledger:
    """Memory budget of a device: every reservation has a name, and one that does not fit is refused.

    With `steps_apart`, what steps are charged does not raise `peak_bytes`, and all else is charged between steps: then
    the peak does not depend on which steps, and which of their messages, happen to be here at the same time.
    """

    device: str
    cap_bytes: int
    peak_bytes: int = 0
    used_bytes: int = 0
    steps_apart: bool = False
    _held: Counter[str] = field(default_factory=Counter)
    _grown: Counter[tuple[int, int]] = field(default_factory=Counter)  # rows of caches, by sequence and step

    def charge(self, name: str, size_bytes: int, left_bytes: int | None = None, growth_bytes: int = 0) -> None:
        """Add to the reservation `name`. `left_bytes`: part of the cap that other work leaves now; None: all.

        `growth_bytes` must be free beside it: what is held already will need it.

        Raises:
            OutOfMemoryError: nothing is charged; the message has the ledger's page.
        """
        used_bytes = self.used_bytes
        limit_bytes = self.cap_bytes if left_bytes is None else min(left_bytes, self.cap_bytes)
        if used_bytes + growth_bytes + size_bytes > limit_bytes:
            page = ", ".join(f"{key} {value:,} B" for key, value in sorted(self._held.items()) if value)
            growth = f", and to grow by {growth_bytes:,} B" if growth_bytes else ""
            raise OutOfMemoryError(
                f"{self.device} is out of memory: {name} needs {size_bytes:,} B more, "
                f"and {max(0, limit_bytes - used_bytes - growth_bytes):,} B of {limit_bytes:,} B are free "
                f"(held: {page or 'nothing'}{growth})"
            )
        self._held[name] += size_bytes
        self.used_bytes = used_bytes = used_bytes + size_bytes
        if used_bytes > self.peak_bytes:
            self.peak_bytes = used_bytes

    def charge_step(self, step: tuple[int, int], name: str, size_bytes: int) -> None:
        """Add to a reservation for a step (sequence and number).

        Raises: OutOfMemoryError, as `charge`.
        """
        peak_bytes = self.peak_bytes
        self.charge(name, size_bytes)
        if self.steps_apart:
            self.peak_bytes = peak_bytes
        if name == CACHE:
            self._grown[step] += size_bytes

    def give_up_steps(self, size_bytes: int) -> None:
        """Release all messages that steps hold, so many bytes, and forget what caches have grown by."""
        self.release(MESSAGES, size_bytes)
        self._grown.clear()

    def take_growth(self, step: tuple[int, int]) -> int:
        """Return the bytes by which a step, which is over, has had caches grow."""
        return self._grown.pop(step, 0)

    def release(self, name: str, size_bytes: int | None = None) -> None:
        """Release part of a reservation, or all of it."""
        held_bytes = self._held[name]
        size_bytes = held_bytes if size_bytes is None else size_bytes
        if size_bytes > held_bytes:
            raise ValueError(f"{self.device}: {name} holds {held_bytes} B, cannot release {size_bytes} B")
        self._held[name] = held_bytes - size_bytes
        self.used_bytes -= size_bytes

    def page(self) -> dict[str, int]:
        """Reservations by name, in bytes."""
        return {name: size for name, size in sorted(self._held.items()) if size}

    def forget_peak(self) -> None:
        """Restart the peak from the current reservations."""
        self.peak_bytes = self.used_bytes


def between_steps(device: str, cap_bytes: int, held: Sequence[Usage], rows: int) -> Ledger:
    """Ledger of a device between two steps, when caches hold `rows` rows in all.

    `held` is what it holds for each open sequence: the same blocks, each with its own workspace, of which there is one.

    Raises:
        OutOfMemoryError: it would not have come so far.
    """
    usage, ledger = held[0], Ledger(device, cap_bytes)
    ledger.charge(WEIGHTS, usage.page().weights_bytes)
    ledger.charge(CACHE, usage.groups.total() * usage.costs.kv_bytes(rows))
    ledger.charge(WORKSPACE, max(each.page().workspace_bytes for each in held))
    return ledger
