"""Figures of devices and links as texts with units, by the names of their keys in a scenario."""

from edgeemu.units import BIT_RATE, BYTE_RATE, DURATION, ENERGY_PER_BIT, FLOP_RATE, FRACTION, POWER, SIZE

_QUANTITIES = {
    "gflops": FLOP_RATE,
    "mem_bandwidth": BYTE_RATE,
    "overhead": DURATION,
    "message_overhead": DURATION,
    "byte_overhead": DURATION,
    "message_latency": DURATION,
    "remote_overhead": DURATION,
    "decode_bandwidth": BYTE_RATE,
    "memory": SIZE,
    "memory_reserved": SIZE,
    "nic": BIT_RATE,
    "bandwidth": BIT_RATE,
    "delay": DURATION,
    "jitter": DURATION,
    "loss": FRACTION,
    "energy": ENERGY_PER_BIT,
    "duration": DURATION,
    "power": POWER,
    "share": FRACTION,
}


def exact_text(key: str, value: float) -> str:
    """Text that is read back to the same bits."""
    return _QUANTITIES[key].format_exact(value)


def human_text(key: str, value: float) -> str:
    """Text with three digits or so, for tables."""
    return _QUANTITIES[key].format_human(value)


def value_of(key: str, text: str) -> float:
    """Value of a text in base units. Raises `RequestError`."""
    return _QUANTITIES[key].parse(text)
