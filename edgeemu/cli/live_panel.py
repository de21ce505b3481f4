"""Lines of the live view for a terminal of any size: devices, links and moves of a run. Pure; draws nothing itself."""

from collections.abc import Sequence
from textwrap import wrap

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from edgeemu.report.formats import bit_rate, path_text, percent_text, size
from edgeemu.report.printable import printable
from edgeemu.run.live_state import LiveDevice, LiveState
from edgeemu.run.live_use import LinkUse

LEAST_WIDTH, LEAST_HEIGHT = 80, 24  # of a terminal with a live view
ROOMY = 12  # lines from which on what moves can have several
WIDE = 120  # from here on a device has two bars, and a link a line
LEAST_LINES = 6  # a title, a device below its heading, how many others there are, links, and what moves
TEXT_LINES = 6  # that are left for the text, at least; and a quarter of the height
FULL = 0.95  # of a device's memory, from which on its bar is red
GAP = "  "


def panel(state: LiveState, width: int, height: int, left: str = "", *, ascii_only: bool = False) -> list[Text]:
    """Lines about a run, at most `height` of them: as many as there is something to say for. `left`: time left."""
    if height < LEAST_LINES:
        return []
    wide, bar = width >= WIDE, _Bar("#", "-") if ascii_only else _Bar("█", "░")
    lines = [_title(state, left, width)]
    notes = _notes(state, width, 1 if height < ROOMY else 3)
    room = height - len(lines) - len(notes)
    links = _links(state, width, room // 3) if wide else _links_in_a_line(state, width)
    lines += _devices(state, width, room - len(links), bar if wide else None, bar)
    return [*lines, *links, *notes]


class _Bar:
    """Bar of a share: filled signs and empty ones."""

    def __init__(self, full: str, empty: str) -> None:
        self._full, self._empty = full, empty

    def __call__(self, share: float, width: int, style: str) -> Text:
        filled = max(0, min(width, round(share * width)))
        return Text.assemble((self._full * filled, style), (self._empty * (width - filled), "dim"))


def _title(state: LiveState, left: str, width: int) -> Text:
    done = f"token {state.tokens} of {state.max_tokens}" if state.several else ""  # else the bar says it
    parts = [state.policy, left, done, f"{state.now_s:.1f} s emulated"]
    return Text(_cut(" · ".join(part for part in parts if part), width), style="bold")


def _devices(state: LiveState, width: int, height: int, load_bar: _Bar | None, memory_bar: _Bar) -> list[Text]:
    """A line for each device that holds something, or the most loaded of them; and one for the others."""
    holding = [device for device in state.devices if device.holds]
    idle = len(state.devices) - len(holding)
    shown = holding
    if len(holding) + 1 + (idle > 0) > height:
        most = sorted(holding, key=lambda device: -device.load)[: max(1, height - 2)]
        names = {device.name for device in most}
        shown = [device for device in holding if device.name in names]
    name_width = max(cell_len(name) for name in ["device", *(device.name for device in shown)])
    memory_width = max(cell_len(_memory(device, load_bar is None)) for device in shown)
    bar_width = 8 if load_bar is None else min(24, max(10, width // 10))
    load_width = 5 if load_bar is None else bar_width + 6
    widths = name_width, load_width, bar_width + 1 + memory_width
    heads = [set_cell_size(title, wide) for title, wide in zip(("device", "load", "memory"), widths, strict=True)]
    lines = [Text(_cut(GAP.join([*heads, "holds"]), width), style="dim")]
    for device in shown:
        line = Text(f"{printable(device.name):<{name_width}}{GAP}", no_wrap=True)
        if load_bar is not None:
            line.append_text(load_bar(device.load, bar_width, "cyan")).append(" ")
        line.append(f"{100 * device.load:3.0f} %{GAP}")
        share = _share(device)
        line.append_text(memory_bar(share, bar_width, "red" if share > FULL else "magenta"))
        line.append(f" {_memory(device, load_bar is None):>{memory_width}}{GAP}")
        line.append(_cut(device.holds, max(1, width - line.cell_len)), style="bold yellow" if device.marked else "")
        line.truncate(width)
        lines.append(line)
    if more := len(state.devices) - len(shown):
        none = "1 device holds nothing" if idle == 1 else f"{idle} devices hold nothing"
        folded = f"… and {more} more" if len(shown) < len(holding) else none
        lines.append(Text(folded, style="dim"))
    return lines


def _memory(device: LiveDevice, short: bool) -> str:
    """Memory that a device holds, of what it has."""
    return percent_text(_share(device)) if short else f"{size(device.held_bytes)} of {size(device.memory_bytes)}"


def _share(device: LiveDevice) -> float:
    return device.held_bytes / max(1, device.memory_bytes)


def _path(state: LiveState, link: LinkUse) -> str:
    return printable(path_text(state.devices[link.source].name, state.devices[link.target].name))


def _links_in_a_line(state: LiveState, width: int) -> list[Text]:
    """The most used links, as many as a line has room for."""
    text = "links"
    for link in state.links:
        more = f"{GAP}{_path(state, link)} {percent_text(link.share)}"
        if cell_len(text) + cell_len(more) > width:
            break
        text += more
    return [Text(text, style="dim")] if state.links else []


def _links(state: LiveState, width: int, height: int) -> list[Text]:
    """A line for each of the most used links, with its rate and how long a message waited."""
    shown = state.links[: max(0, height - 1 if len(state.links) < height else height - 2)]
    rows = [
        (
            _path(state, link),
            percent_text(link.share, 1),
            bit_rate(link.bits_per_s),
            f"{1000 * link.queue_s:.2f} ms",
        )
        for link in shown
    ]
    if not rows:
        return []
    lines = [Text(line, style="dim" if number == 0 else "") for number, line in enumerate(_columns(rows, width))]
    if more := len(state.links) - len(shown):
        lines.append(Text(f"… and {more} links more", style="dim"))
    return lines


def _columns(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    lines = [("link", "use", "rate", "queued"), *rows]
    widths = [max(cell_len(line[place]) for line in lines) for place in range(4)]
    padded = (
        GAP.join([set_cell_size(line[0], widths[0]), *(f"{line[n]:>{widths[n]}}" for n in range(1, 4))])
        for line in lines
    )
    return [_cut(line, width) for line in padded]


def _notes(state: LiveState, width: int, most: int) -> list[Text]:
    """Say what moves now and why, or what has moved last."""
    note = f"moving {state.moving}" if state.moving else state.moved_last
    first, *more = wrap(printable(note), width) or [""]
    lines = [first, *more][:most]
    if len(more) >= most:
        lines[-1] = _cut(f"{lines[-1]} …", width)
    return [Text(line, style="bold yellow" if state.moving else "yellow") for line in lines if line]


def _cut(text: str, width: int) -> str:
    """Text in so many cells, with a sign where it goes on."""
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)) + "…"
