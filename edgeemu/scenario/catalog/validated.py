"""Predictions that were held against measurements, and how far they were off: `validated.yaml` (make validation)."""

import re
from collections.abc import Mapping
from importlib import resources

from edgeemu.scenario.catalog import read_entries
from edgeemu.scenario.validation import Strict
from edgeemu.units import Fraction

FILE = "validated.yaml"


class ValidatedEntry(Strict):
    """Data set of measurements of one engine on one class of boards, and the errors of what was predicted of it.

    The boards were calibrated on `fitted_on`, and `predicted` other rows were predicted.
    """

    name: str
    title: str
    engine: str
    boards: str  # as they are called in titles of profiles
    data: str
    fitted_on: str
    predicted: int
    median_error: Fraction
    worst_error: Fraction
    direction: str

    def is_of(self, engine: str, title: str) -> bool:
        """Whether it says something of an engine on the board of a profile with this title."""
        called = rf"\b{re.escape(self.boards)}(?!\d)"  # a Raspberry Pi 4B is a Raspberry Pi 4, and a 400 is none
        return self.engine == engine and re.search(called, title) is not None


def validated_entries() -> Mapping[str, ValidatedEntry]:
    """Entries by the names of their data sets; none before anything was validated."""
    return read_entries(FILE, ValidatedEntry) if resources.files(__package__).joinpath(FILE).is_file() else {}
