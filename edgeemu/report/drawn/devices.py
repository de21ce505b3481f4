"""Pictures of the devices of a run: when they computed, one token in detail, their memory, their true speed."""

from __future__ import annotations

import numpy as np

from edgeemu.report.critical.critical_path import TimePart
from edgeemu.report.critical.recorded_steps import NONE
from edgeemu.report.drawn.palette import ALARM, GRID, INK, MEMORY, OTHERS
from edgeemu.report.drawn.run_data import MAX_NAMED, RunData
from edgeemu.report.drawn.sheet import Drawing, Sheet

ROW = 22  # pixels of a device's row
_MIB = 1 << 20


def rows_of(data: RunData) -> tuple[list[str], list[str]]:
    """Return the devices that have a row each, and those that share the last one."""
    shown = set(data.shown)
    return data.shown, [device for device in data.computing if device not in shown]


def occupation_drawing(data: RunData) -> Drawing | None:
    """Share of the time in which each device computed, along the run; None: nothing was computed."""
    if not data.busy_s or not data.tokens.number:
        return None
    caption = "Share of the time in which each device computed, along the timeline; a full row is all of the time"
    return Drawing("occupation", "When devices compute", caption, lambda sheet: _occupation(sheet, data))


def _occupation(sheet: Sheet, data: RunData) -> None:
    devices, others = rows_of(data)
    devices = [device for device in devices if device in data.busy_s] or devices
    names = [*devices, *([f"{len(others)} others (mean)"] if others else [])]
    width_s = np.diff(data.time.edges)
    axes = sheet.axes(60 + ROW * len(names))
    zero = np.zeros(data.time.number)
    for at, name in enumerate(names):
        members = [name] if at < len(devices) else others
        share = sum((data.busy_s.get(device, zero) for device in members), zero) / len(members) / width_s
        colour = data.colours.of(name) if at < len(devices) else OTHERS
        bottom = len(names) - 1 - at
        axes.axhline(bottom, color=GRID.light, linewidth=0.8)
        top = bottom + 0.86 * np.clip(share, 0, 1)
        axes.stairs(top, data.time.edges, baseline=np.full(len(top), bottom), fill=True, color=colour.light)
    axes.set_yticks(np.arange(len(names))[::-1] + 0.43, names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.05, len(names))
    axes.set_xlim(data.time.edges[0], data.time.edges[-1])
    axes.set_xlabel("time on the timeline (s)")
    for epoch in data.changes[:12]:
        axes.axvline(epoch.at_s, color=ALARM.light, linewidth=1.0, linestyle=(0, (4, 2)))


def one_token_drawing(data: RunData) -> Drawing | None:
    """Operations of one typical token on their devices, with its critical path; None: none is recorded."""
    if data.one_token is None or not len(data.one_token.start_s):
        return None
    which = f"token {data.one_token.step + 1} of sequence {data.one_token.sequence + 1}"
    caption = f"Operations of {which}, of the median latency, on their devices, and the path that it waited for"
    return Drawing("one-token", f"A typical token ({which})", caption, lambda sheet: _one_token(sheet, data))


def _one_token(sheet: Sheet, data: RunData) -> None:
    token = data.one_token
    assert token is not None
    spent_s: dict[str, float] = {}
    for device, begin_s, end_s in zip(token.device, token.start_s, token.end_s, strict=True):
        spent_s[device] = spent_s.get(device, 0.0) + end_s - begin_s
    chosen = set(sorted(spent_s, key=lambda device: -spent_s[device])[:MAX_NAMED])
    names = [device.name for device in data.facts.devices if device.name in chosen]
    at = {name: len(names) - 1 - number for number, name in enumerate(names)}
    zero_s = float(token.start_s.min())
    whole_ms = 1000 * (float(token.end_s.max()) - zero_s)
    x, y = _critical(data, at, zero_s)
    turns = [place for place, before, after in zip(x[1:], y, y[1:], strict=False) if before != after]
    most = 40 if sheet.narrow else 100  # turns of the path that can be told apart
    shown_ms = whole_ms if len(turns) <= most else min(whole_ms, turns[most])
    axes = sheet.axes(66 + ROW * len(names))
    for name in names:
        mine = [number for number, device in enumerate(token.device) if device == name]
        spans = [(1000 * (token.start_s[i] - zero_s), 1000 * (token.end_s[i] - token.start_s[i])) for i in mine]
        near = [span for span in spans if span[0] < shown_ms]
        axes.axhline(at[name], color=GRID.light, linewidth=0.8)
        axes.broken_barh(_joined(near, shown_ms / 2000), (at[name], 0.6), color=data.colours.of(name).light)
    axes.set_yticks([at[name] + 0.4 for name in names], names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.05, len(names))
    axes.set_xlim(0, shown_ms)
    of = "" if shown_ms == whole_ms else f", the first of {whole_ms:,.4g}"
    axes.set_xlabel(f"time (ms){of}")
    words = "what the token waited for (critical path)"
    sheet.legend(axes.plot(x, y, color=INK.light, linewidth=1.3, label=words) if x else [])


def _critical(data: RunData, at: dict[str, int], zero_s: float) -> tuple[list[float], list[float]]:
    """Points of the critical path, in milliseconds and rows: along devices that compute, and from one to another."""
    token, paths = data.one_token, data.paths
    assert token is not None
    number = np.flatnonzero((paths.sequence == token.sequence) & (paths.step == token.step))
    x: list[float] = []
    y: list[float] = []
    for i in np.flatnonzero(paths.token == number[0])[::-1].tolist():
        device, target = (paths.devices[k] if k != NONE else None for k in (paths.device[i], paths.target[i]))
        if device not in at or (target is not None and target not in at):
            continue
        if target is None and paths.part[i] not in (TimePart.COMPUTE, TimePart.MESSAGE_OVERHEAD):
            continue
        begin_ms = 1000 * (paths.begin_s[i] - zero_s)
        x += [begin_ms, begin_ms + 1000 * paths.spent_s[i]]
        y += [at[device] + 0.75, at[target or device] + 0.75]
    return x, y


def _joined(spans: list[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Spans, those together that are too near each other to be told apart."""
    found: list[tuple[float, float]] = []
    for begin, width in sorted(spans):
        if found and begin - sum(found[-1]) < gap:
            found[-1] = found[-1][0], max(found[-1][1], begin + width - found[-1][0])
        else:
            found.append((begin, width))
    return found


def memory_drawing(data: RunData) -> Drawing | None:
    """Memory of each device by kind when it held most, against its cap; None: nothing is recorded."""
    if not data.memory_bytes:
        return None
    caption = "Memory of each device by kind when it held most, in MiB, against what it has"
    return Drawing("memory", "Memory", caption, lambda sheet: _memory(sheet, data))


def _memory(sheet: Sheet, data: RunData) -> None:
    caps = {device.name: device.cap_bytes / _MIB for device in data.facts.devices}
    names = [name for name in data.shown if name in data.memory_bytes]
    most = max(sum(data.memory_bytes[name]) for name in names) / _MIB
    axes = sheet.axes(70 + ROW * len(names))
    axes.grid(visible=True, axis="x")
    at = np.arange(len(names))
    begin = np.zeros(len(names))
    handles: list[object] = []
    for number, (kind, colour) in enumerate(MEMORY.items()):
        width = np.array([data.memory_bytes[name][number] for name in names]) / _MIB
        if width.any():
            handles.append(axes.barh(at, width, left=begin, height=0.62, color=colour.light, label=kind))
        begin = begin + width
    limit = 1.15 * max(most, max((caps[name] for name in names if caps[name] <= 3 * most), default=0.0))
    capped = [(place, caps[name]) for place, name in zip(at, names, strict=True) if caps[name] <= limit]
    if capped:
        y, x = zip(*capped, strict=True)
        marks = axes.vlines(x, np.array(y) - 0.42, np.array(y) + 0.42, color=ALARM.light, linewidth=2.0, label="cap")
        handles.append(marks)
    axes.set_yticks(at, names)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, limit)
    axes.set_xlabel("memory (MiB)" + ("" if len(capped) == len(names) else "; caps beyond are not shown"))
    sheet.legend(handles)


def conditions_drawing(data: RunData) -> Drawing | None:
    """True speed of devices whose speed changed; None: none did."""
    speeds: dict[str, set[float]] = {}
    for row in data.conditions:
        speeds.setdefault(row.device, set()).add(row.speed)
    changed = [device for device, values in speeds.items() if len(values) > 1]
    if not changed:
        return None
    caption = f"Share of their speed that other work leaves to {', '.join(changed[:8])}, along the timeline"
    return Drawing("conditions", "True speed of devices", caption, lambda sheet: _conditions(sheet, data, changed[:8]))


def _conditions(sheet: Sheet, data: RunData, changed: list[str]) -> None:
    axes = sheet.axes(210)
    axes.grid(visible=True, axis="y")
    handles = []
    for device in changed:
        rows = [row for row in data.conditions if row.device == device]
        x, y = [row.at_s for row in rows], [100 * row.speed for row in rows]
        colour = data.colours.of(device).light
        handles += axes.step([*x, data.end_s], [*y, y[-1]], where="post", color=colour, label=device)
    axes.set_ylim(0, 108)
    axes.set_xlim(data.begin_s, max(data.end_s, data.begin_s + 1e-9))
    axes.set(xlabel="time on the timeline (s)", ylabel="speed left (%)")
    sheet.legend(handles)
