"""Tables of the catalog and of this host."""

from collections.abc import Iterable, Mapping
from typing import Any

from edgeemu.placement.model_bytes import SHOWN, bytes_by_format
from edgeemu.report.formats import Table, size
from edgeemu.scenario.catalog import DeviceProfile, ModelEntry
from edgeemu.units import BIT_RATE, BYTE_RATE, FLOP_RATE, POWER


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
    rows = [
        [
            profile.name,
            profile.title,
            FLOP_RATE.format_human(profile.gflops.value),
            BYTE_RATE.format_human(profile.mem_bandwidth.value),
            size(profile.memory.value) if profile.memory else "–",
            BIT_RATE.format_human(profile.nic.value) if profile.nic else "–",
            *(POWER.format_human(p.value) if p else "–" for p in (profile.power.idle, profile.power.busy)),
        ]
        for profile in profiles
    ]
    return Table(
        ("profile", "device", ">arithmetic", ">memory bandwidth", ">memory", ">network", ">idle", ">busy"), rows
    )


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
    return Table(("model", "description", ">layers", ">width", ">heads/KV", ">FFN", *formats, "weights"), rows)
