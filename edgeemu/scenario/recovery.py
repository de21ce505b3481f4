"""Recovery of a scenario: how lost devices are noticed, and where the weights and caches that they held come from."""

from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from edgeemu.scenario.catalog.shapes import Count
from edgeemu.scenario.names import Name
from edgeemu.scenario.validation import Shorthand, Strict, at
from edgeemu.units import DURATION, Bytes

LostCaches: TypeAlias = Literal["none", "reprefill", "replicate"]
FLASH = "flash"


class HeartbeatSpec(Strict):
    """Heartbeat by which devices that stand still or cannot be reached are noticed; one that ends is seen at once.

    Beats are at multiples of the interval. What begins between two beats is noticed `misses` intervals after the first
    of them, unless it is over by then.
    """

    interval: Annotated[float, DURATION.above_zero()] = Field(default=1.0, description="Time between two beats.")
    misses: Count = Field(default=3, description="Number of beats in a row without an answer after which it is lost.")
    size: Bytes = Field(default=64, description="Size of a beat, and of its answer.")


class RecoverySpec(Shorthand):
    """Rules of what a run does when devices are lost. Without recovery it ends, with everything generated kept."""

    text_is: ClassVar[str] = "caches"

    caches: LostCaches = Field(
        default="none",
        description="Lost caches: computed again from the tokens so far (`reprefill`), or read from replicas that are "
        "kept up to date in the background (`replicate`). `none`: a run ends when a device is lost. Without it, "
        "`reprefill` where the scenario has `faults`, else `none`.",
    )
    weights: Name = Field(
        default=FLASH,
        description="Where lost blocks' weights come from: `flash`, each device's own storage, read at "
        "`migration.flash_bandwidth`; or the device that has them all on its storage, and sends them.",
    )
    heartbeat: HeartbeatSpec = Field(default=HeartbeatSpec(), description="How devices are noticed that do not answer.")
    replicas: Count = Field(default=1, description="Number of devices that each have a copy of a cache; `replicate`.")

    @model_validator(mode="after")
    def _replicated(self) -> Self:
        if self.replicas > 1 and self.caches != "replicate":
            raise at(["replicas"], f"is for caches: replicate; this is {self.caches}")
        return self


def with_recovery(data: dict[str, Any]) -> dict[str, Any]:
    """Write what lost caches come from into a scenario's data, where it says nothing: what its faults need."""
    given = data.get("recovery", {})
    if not isinstance(given, dict) or "caches" in given:
        return data
    return {**data, "recovery": {**given, "caches": "reprefill" if data.get("faults") else "none"}}
