"""Collects what the figures of a scenario rest on, from its catalog entries and from what it gives itself."""

from collections.abc import Iterator
from typing import NamedTuple

from edgeemu.cluster.draw.profile import ProfileUnderEngine
from edgeemu.report.basis import LABELS, Basis, HeldAgainst
from edgeemu.scenario.catalog import DeviceProfile, Sourced, link_type
from edgeemu.scenario.catalog.engines import EngineEntry, engine_entry
from edgeemu.scenario.catalog.profile_files import FittedProfile, profile_of
from edgeemu.scenario.catalog.validated import ValidatedEntry, validated_entries
from edgeemu.scenario.devices import DeviceSpec
from edgeemu.scenario.network import LinkSpec
from edgeemu.scenario.scenario import Scenario

_RATES = ("gflops", "mem_bandwidth", "host_fraction")
_COSTS = ("overhead", "remote_overhead", "message_overhead", "byte_overhead", "message_latency")
_OF_DEVICE = (*_RATES, *_COSTS, "nic")
_SHARES = {"gflops": "compute_share", "mem_bandwidth": "bandwidth_share"}  # keys of engines, by those of devices
_OVERHEADS = {"overhead": "operation_overhead"}
_OF_LINK = ("bandwidth", "delay", "jitter", "loss")
_GIVEN_OF_LINK = (*_OF_LINK, "bandwidth_trace", "variation")


class _Used(NamedTuple):
    """Figure that is used: its label, and its name."""

    label: str
    name: str


def basis_of(scenario: Scenario) -> Basis:
    """Collect what times rest on, and energy where a scenario asks for it. Sizes of memory are no part."""
    engine = engine_entry(scenario.engine)
    profiles = [profile_of(spec.profile) for spec in scenario.devices]
    used: list[_Used] = []
    for spec, profile in zip(scenario.devices, profiles, strict=True):
        used += _of_device(spec, ProfileUnderEngine(profile, engine))
        if scenario.objective == "energy" or scenario.energy_budget is not None:
            used += _of_power(spec, profile)
    if len(scenario.device_names) > 1:
        for link in (scenario.network.default, *scenario.network.links):
            used += _of_link(link) if link is not None else ()
    names = {label: list(dict.fromkeys(each.name for each in used if each.label == label)) for label in LABELS}
    held = _held_against(scenario, engine, profiles)
    fitted = (each for each in profiles if isinstance(each, FittedProfile) and each.fit is not None)
    fits = {each.name: each.fit.worst_error for each in fitted if each.fit is not None}
    figures = {label: found for label, found in names.items() if found}
    return Basis(engine.name, figures, held, fits, scenario.formats_of_engine)


def _of_device(spec: DeviceSpec, implied: ProfileUnderEngine) -> Iterator[_Used]:
    """Figures of a device that it gives itself, else those of its profile, else those of the engine."""
    profile, engine = implied.profile, implied.engine
    for field in _OF_DEVICE:
        sourced = implied.sourced(field)
        if getattr(spec, field, None) is not None:
            yield _Used("given", f"{field} of {spec.name}")
        elif spec.host_fraction is not None and field in _RATES:
            continue
        elif sourced is not None and profile is not None:
            name = "decode_bandwidth" if sourced is profile.decode_bandwidth else field
            yield _Used(sourced.label, f"{name} of {profile.name}")
            if engine.share(field) != 1 and not implied.is_fitted:
                yield _of_engine(engine, _SHARES[field])
        elif engine.device_figure(field):
            yield _of_engine(engine, _OVERHEADS.get(field, field))


def _of_engine(engine: EngineEntry, field: str) -> _Used:
    return _Used(getattr(engine, field).label, f"{field} of {engine.name}")


def _of_power(spec: DeviceSpec, profile: DeviceProfile | None) -> Iterator[_Used]:
    for field in ("idle", "busy"):
        sourced = getattr(profile.power, field) if profile is not None else None
        if getattr(spec.power, field) is not None:
            yield _Used("given", f"power.{field} of {spec.name}")
        elif sourced is not None and profile is not None:
            yield _Used(sourced.label, f"power.{field} of {profile.name}")


def _of_link(spec: LinkSpec) -> Iterator[_Used]:
    """Figures of a link that it gives itself, else those of its type."""
    given = [field for field in _GIVEN_OF_LINK if getattr(spec, field) is not None]
    yield from (_Used("given", f"{field} of links") for field in given)
    if spec.type is not None:
        kind = link_type(spec.type)
        for field in _OF_LINK:
            sourced: Sourced[float] | None = getattr(kind, field)
            if sourced is not None and field not in given:
                yield _Used(sourced.label, f"{field} of {kind.name}")


def _held_against(scenario: Scenario, engine: EngineEntry, profiles: list[DeviceProfile | None]) -> HeldAgainst | None:
    """Find the worst data set of predictions for these boards under this engine; None if one of them has none."""
    found: list[ValidatedEntry] = []
    for spec, profile in zip(scenario.devices, profiles, strict=True):
        if profile is None or any(getattr(spec, field) is not None for field in _RATES):
            return None
        mine = [entry for entry in validated_entries().values() if entry.is_of(engine.name, profile.title)]
        if not mine:
            return None
        found += mine
    worst = max(found, key=lambda entry: entry.worst_error)
    calibrated = all(ProfileUnderEngine(profile, engine).is_fitted for profile in profiles)
    return HeldAgainst(worst.boards, worst.name, worst.median_error, worst.worst_error, calibrated)
