"""Tables of the catalog and of this host."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edgeemu.placement.model_bytes import SHOWN, bytes_by_format
from edgeemu.report.figure_texts import human_text
from edgeemu.report.formats import Table, size
from edgeemu.scenario.catalog import DeviceProfile, LinkEnergy, LinkType, ModelEntry, Power, Sourced
from edgeemu.units import BIT_RATE, BYTE_RATE, DURATION, FLOP_RATE, POWER


def host_table(found: Mapping[str, Any]) -> Table:
    """Make the table of what `doctor` has found on this host."""
    host, caps, scheduling, links = found["host"], found["caps"], found["scheduling"], found["links"]
    late = " and ".join(f"{1e6 * scheduling[key]:.0f} us" for key in ("late_p50_s", "late_p99_s"))
    rows = [
        ("kernel, Python", f"{host['kernel']}, {host['python']}"),
        ("cores", str(host["cores"])),
        ("memory", f"{size(host['memory_bytes'])}, {size(host['memory_available_bytes'])} of it available"),
        (
            "single-core matmul, memory read",
            f"{host['flops_per_s'] / 1e9:.0f} GFLOP/s, {host['mem_bytes_per_s'] / 1e9:.0f} GB/s",
        ),
        ("BLAS", host["blas"]),
        ("cgroups", ", ".join(caps["mounted"]) or "none mounted"),
        ("cgroup parent", caps["where"] or "none"),
        ("real-time priority", "yes" if scheduling["realtime"] else "no"),
        ("sleep overshoot", f"{late} (p50 and p99)"),
        ("network namespaces", "yes" if links["namespaces"] else "no"),
        ("user namespaces", "yes" if links["user_namespaces"] else "no"),
        ("missing for kernel links", ", ".join(links["missing"]) or "nothing"),
    ]
    return Table(("this host", "has"), rows)


def device_table(profiles: Iterable[DeviceProfile]) -> Table:
    """Make the table of device profiles, as far as a terminal of 80 columns has room."""
    rows = [
        [
            profile.name,
            FLOP_RATE.format_human(profile.gflops.value),
            _bandwidths(profile),
            _memory(profile),
            POWER.format_human(profile.power.busy.value) if profile.power.busy else "–",
        ]
        for profile in profiles
    ]
    return Table(("profile", ">arithmetic", ">decoding, of bandwidth", ">memory", ">busy"), rows)


def _bandwidths(profile: DeviceProfile) -> str:
    """Bandwidth of decoding, if it is known, and of memory: `9.82 of 17.1 GB/s`."""
    memory = BYTE_RATE.format_human(profile.mem_bandwidth.value)
    if profile.decode_bandwidth is None:
        return f"? of {memory}"
    decoding = BYTE_RATE.format_human(profile.decode_bandwidth.value)
    unit = f" {memory.partition(' ')[2]}"
    return f"{decoding.removesuffix(unit)} of {memory}"


def _memory(profile: DeviceProfile) -> str:
    """Memory that runs get; "–" where it is sold with several sizes."""
    if profile.memory is None:
        return "–"
    return size(profile.memory.value - (profile.memory_reserved.value if profile.memory_reserved else 0))


def link_table(kinds: Iterable[LinkType]) -> Table:
    """Make the table of link types."""
    rows = [
        [
            kind.name,
            kind.title,
            BIT_RATE.format_human(kind.bandwidth.value),
            DURATION.format_human(kind.delay.value),
            DURATION.format_human(kind.jitter.value) if kind.jitter else "–",
        ]
        for kind in kinds
    ]
    return Table(("link type", "link", ">bandwidth", ">delay", ">jitter ±"), rows, ("link",))


def figures_table(entry: DeviceProfile | LinkType) -> Table:
    """Make the table of one device profile or link type: each figure with its label and source."""
    rows = [["title", entry.title, "", ""]]
    rows += [
        [name, _figure_text(name, sourced.value), sourced.label, sourced.source] for name, sourced in _figures(entry)
    ]
    return Table((entry.name, "value", "label", "source"), rows, ("label",))


def _figures(entry: DeviceProfile | LinkType) -> Iterator[tuple[str, Sourced[float]]]:
    """Figures that an entry has, with the names of their keys: `power.idle`."""
    for key in type(entry).model_fields:
        value = getattr(entry, key)
        if isinstance(value, Power | LinkEnergy):
            for inner in type(value).model_fields:
                if (sourced := getattr(value, inner)) is not None:
                    yield f"{key}.{inner}", sourced
        elif isinstance(value, Sourced):
            yield key, value


def _figure_text(name: str, value: float) -> str:
    return f"{value:.2f}" if name == "price_usd" else human_text(name.partition(".")[0], value)


def model_document(entries: Iterable[ModelEntry]) -> list[dict[str, Any]]:
    """Make the JSON document of models: their entries in the catalog, and the bytes of their weights by format."""
    return [
        entry.model_dump(mode="json", exclude_none=True) | {"weights_bytes": bytes_by_format(entry.model_shape())}
        for entry in entries
    ]


def model_table(entries: Iterable[ModelEntry]) -> Table:
    rows = []
    for entry in entries:
        shape = entry.model_shape()
        heads = f"{shape.n_heads}/{shape.n_kv_heads}"
        source = entry.package.name if entry.package else "seeded"
        dimensions = [str(number) for number in (shape.n_layers, shape.d_model)]
        sizes = [size(weights_bytes) for weights_bytes in bytes_by_format(shape).values()]
        rows.append([entry.name, entry.title, *dimensions, heads, str(shape.d_ff), *sizes, source])
    formats = [f">{name}" for name in SHOWN]
    return Table(
        ("model", "description", ">layers", ">width", ">heads/KV", ">FFN", *formats, "weights"),
        rows,
        ("description", "FFN", "heads/KV", "width", "f32", "q8_0", "layers"),
    )
