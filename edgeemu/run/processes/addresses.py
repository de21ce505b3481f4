"""Addresses of the sockets of one run, in its private directory."""

from pathlib import Path


class Addresses:
    """Where the processes of a run listen."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def address(self, device: int) -> str:
        """Return where a device listens for data."""
        return self._address(f"d{device}")

    def requests_address(self, device: int) -> str:
        """Return where a device listens for its controller."""
        return self._address(f"r{device}")

    @property
    def control_address(self) -> str:
        """Where the controller listens."""
        return self._address("control")

    @property
    def orders_address(self) -> str:
        """Where the process that shapes kernel links listens for its controller."""
        return self._address("orders")

    def _address(self, name: str) -> str:
        return f"ipc://{self._directory}/{name}"
