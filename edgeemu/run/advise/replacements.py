"""Boards of the catalog that could be in place of a scenario's: which are worth a simulation. Pure."""

from collections.abc import Sequence
from math import inf

from edgeemu.scenario.catalog import DeviceProfile, device_profiles
from edgeemu.scenario.catalog.engines import IDEAL
from edgeemu.scenario.catalog.profile_files import is_file, profile_of
from edgeemu.scenario.devices import DeviceSpec

MAX_BOARDS = 8  # in place of one kind of a scenario's
_FIGURES = ("gflops", "mem_bandwidth", "host_fraction", "overhead", "remote_overhead", "message_overhead")
_OWN = (*_FIGURES, "byte_overhead", "message_latency")


def price_usd(profile: str | None) -> float | None:
    """Price of a board by its profile; None: it is not known."""
    found = profile_of(profile)
    return None if found is None or found.price_usd is None else found.price_usd.value


def faster_boards(spec: DeviceSpec, engine: str) -> list[DeviceProfile]:
    """Boards of the catalog that read weights faster than a device, the next faster first; none for a device by hand.

    Of boards whose price is known, those are left out that another one beats in price, bandwidth and arithmetic. With
    an engine only boards count with which somebody has measured it: what a memory gives to whoever copies is more.
    """
    if spec.profile is None or is_file(spec.profile) or any(getattr(spec, field) is not None for field in _OWN):
        return []
    ideal = engine == IDEAL
    now = device_profiles()[spec.profile]
    known = [board for board in device_profiles().values() if board.memory and (ideal or board.decode_bandwidth)]
    if not ideal and now.decode_bandwidth is None:
        return []
    faster = [board for board in known if _rate(board, ideal=ideal) > _rate(now, ideal=ideal)]
    worth = [board for board in faster if not any(_beats(other, board, ideal=ideal) for other in faster)]
    return sorted(worth, key=lambda board: _rate(board, ideal=ideal))[:MAX_BOARDS]


def _rate(board: DeviceProfile, *, ideal: bool) -> float:
    return board.bandwidth(ideal=ideal).value


def _beats(one: DeviceProfile, other: DeviceProfile, *, ideal: bool) -> bool:
    """Whether a board whose price is known is nowhere worse than another whose price is known, and somewhere better."""
    if one.price_usd is None or other.price_usd is None:
        return False
    mine, theirs = (
        (-board.price_usd.value if board.price_usd else -inf, _rate(board, ideal=ideal), board.gflops.value)
        for board in (one, other)
    )
    return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))


def unpriced_kinds(specs: Sequence[DeviceSpec]) -> list[str]:
    """Names of the kinds of devices whose price is not known."""
    return [spec.name for spec in specs if price_usd(spec.profile) is None]
