"""Figures of a device that its scenario does not give: those of its profile, as they are under an engine."""

from typing import NamedTuple

from edgeemu.scenario.catalog import DeviceProfile, Sourced
from edgeemu.scenario.catalog.engines import IDEAL, EngineEntry
from edgeemu.scenario.catalog.profile_files import FittedProfile


class ProfileUnderEngine(NamedTuple):
    """A profile, and the software that runs on it.

    Rates of a profile are multiplied by the share that the engine reaches, unless they were fitted with this engine.
    Its bandwidth is that of decoding, where that is known and the engine is not `ideal`. Overheads of a profile are its
    own; the engine's stand for those that it lacks.
    """

    profile: DeviceProfile | None
    engine: EngineEntry

    def sourced(self, field: str) -> Sourced[float] | None:
        """Figure of the profile that is used under this engine, before its share is taken; None if it has none."""
        if field == "mem_bandwidth" and self.profile is not None:
            return self.profile.bandwidth(ideal=self.engine.name == IDEAL)
        found: Sourced[float] | None = getattr(self.profile, field, None)
        return found

    def figure(self, field: str) -> float | None:
        sourced = self.sourced(field)
        if sourced is None:
            return self.engine.device_figure(field) or None
        return sourced.value if self.is_fitted else sourced.value * self.engine.share(field)

    def power(self, field: str) -> float | None:
        """Power, idle or busy; None if it is not known."""
        sourced: Sourced[float] | None = getattr(self.profile.power, field) if self.profile else None
        return sourced.value if sourced else None

    @property
    def is_fitted(self) -> bool:
        """Whether the profile was fitted with this engine, so that its rates take no share."""
        return isinstance(self.profile, FittedProfile) and self.profile.engine == self.engine.name
