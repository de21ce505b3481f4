"""Device profiles in files of a user's: what `edgeemu calibrate` writes, and a scenario names (`profile: pi.yaml`)."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, field_validator

from edgeemu.errors import RequestError
from edgeemu.scenario.catalog import DeviceProfile, device_profile
from edgeemu.scenario.catalog.engines import engine_entry
from edgeemu.scenario.document import Document, read
from edgeemu.scenario.files import existing, read_text
from edgeemu.scenario.validation import Strict, validate
from edgeemu.units import Fraction

SUFFIXES = (".yaml", ".yml")


class Fit(Strict):
    """How a profile was fitted: to which data, how surely, and how near it comes to them."""

    data: tuple[str, ...] = Field(min_length=1)
    standard_errors: Mapping[str, Fraction] = Field(default={})  # by figure, relative to its value
    not_told_apart: Mapping[str, str] = Field(default={})  # by figure: why the data say nothing of it, and what would
    median_error: Fraction | None = None  # of the predicted times of the data themselves
    worst_error: Fraction | None = None


class FittedProfile(DeviceProfile):
    """Device profile of a file. `engine`: with which it was measured, so that its rates take no share under it."""

    engine: str | None = None
    fit: Fit | None = None

    @field_validator("engine")
    @classmethod
    def _known(cls, engine: str | None) -> str | None:
        return engine if engine is None else engine_entry(engine).name


def is_file(profile: str) -> bool:
    """Whether the profile of a device is a file's name, and not one of the catalog."""
    return profile.endswith(SUFFIXES)


def find_profile(profile: str, base: Path) -> str:
    """Profile as a scenario holds it: a name of the catalog, or the absolute path of a file that is read to check it.

    Raises ValueError, or `RequestError`, which is one, with the nearest name.
    """
    if not is_file(profile):
        return device_profile(profile).name
    path = existing(profile, base)
    try:
        read_profile(path)
    except RequestError as error:
        raise ValueError(f"cannot be used: {error}") from error
    return str(path)


def read_profile(path: Path) -> FittedProfile:
    """Read a device profile. Raises `RequestError` with file, line and reason."""
    try:
        document = read(read_text(path, str(path)), str(path))
    except OSError as error:
        raise RequestError((error.strerror or str(error)).lower(), file=str(path)) from error
    if not isinstance(document.data, dict):
        raise document.error((), "must be a mapping of a device's figures, as edgeemu calibrate writes it")
    name = {"name": path.stem} | document.data
    return validate(FittedProfile, Document(name, document.file, document.lines))


def profile_of(profile: str | None) -> DeviceProfile | None:
    """Profile that a checked scenario names for a device: of the catalog, or of a file. None for none."""
    if profile is None:
        return None
    return read_profile(Path(profile)) if is_file(profile) else device_profile(profile)
