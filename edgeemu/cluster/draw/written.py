"""Exact texts of what was drawn, as a scenario says them."""

from collections.abc import Mapping
from typing import Any

from edgeemu.scenario.distributions import Distribution
from edgeemu.units import BIT_RATE, DURATION, ENERGY_PER_BIT


def written_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Exact texts, but for distributions, which stay as they were written."""
    formats = {"bandwidth": BIT_RATE, "delay": DURATION, "jitter": DURATION}
    return {
        field: formats[field].format_exact(value) if field in formats else value
        for field, value in fields.items()
        if not isinstance(value, Distribution)
    }


def written_energy(energy: Mapping[str, Any]) -> dict[str, str]:
    """`energy.send` and `energy.receive` as keys of `energy`, where they are known; not distributions."""
    return {
        field.removeprefix("energy."): ENERGY_PER_BIT.format_exact(value)
        for field, value in energy.items()
        if value is not None and not isinstance(value, Distribution)
    }
