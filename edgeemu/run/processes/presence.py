"""Which devices of a run are there, which stand still, and which are gone. Pure; no processes, no time."""

from collections.abc import Collection, Iterable, Sequence

from edgeemu.host.device_exit import DeviceExit


class Presence:
    """Devices by their numbers.

    One that stands still and will go on by itself is waited for; nothing is expected of one that will not.
    """

    def __init__(self, names: Sequence[str], absent: Collection[int] = ()) -> None:
        self.names = tuple(names)
        self.gone = set(absent)
        self.paused: set[int] = set()  # will go on
        self.stuck: set[int] = set()  # will not
        self._numbers = {name: number for number, name in enumerate(names)}
        self._processes: dict[int, int] = {}  # of devices that are there

    def number(self, name: str) -> int:
        """Return the number of a device. Raises KeyError for another process."""
        return self._numbers[name]

    def is_device(self, name: str) -> bool:
        return name in self._numbers

    def joined(self, device: int, pid: int) -> None:
        """Note that a device is there, with this process."""
        self.gone.discard(device)
        self._processes[device] = pid

    def left(self, device: int) -> None:
        """Note that a device is gone."""
        self._processes.pop(device, None)
        self.goes_on(device)
        self.gone.add(device)

    def stands_still(self, device: int, *, for_good: bool) -> None:
        """Note that a device stands still."""
        (self.stuck if for_good else self.paused).add(device)

    def goes_on(self, device: int) -> None:
        """Note that a device does not stand still."""
        self.paused.discard(device)
        self.stuck.discard(device)

    def answers(self, device: int) -> bool:
        """Whether a device answers what it is asked, perhaps later."""
        return device not in self.gone and device not in self.stuck

    def moves(self, device: int) -> bool:
        """Whether a device answers what it is asked at once."""
        return device not in self.paused and self.answers(device)

    def answering(self) -> list[int]:
        """Return the devices that answer."""
        return [device for device in range(len(self.names)) if self.answers(device)]

    def moving(self, among: Iterable[str]) -> list[str]:
        """Return those of some processes that are devices which move."""
        return [name for name in among if name in self._numbers and self.moves(self._numbers[name])]

    def is_silent(self, name: str) -> bool:
        """Whether what a process says comes from a device that is gone."""
        return self._numbers.get(name) in self.gone

    def was_killed(self, ended: DeviceExit) -> bool:
        """Whether an exit is that of a device which something else has ended than an error in its own code."""
        return ended.name in self._numbers and ended.status <= 0

    def is_over(self, ended: DeviceExit) -> bool:
        """Whether an exit is that of a process which is not a device's any more."""
        number = self._numbers.get(ended.name)
        if number is None:  # of the network's process, which every run needs
            return False
        return number in self.gone or self._processes.get(number, ended.pid) != ended.pid
