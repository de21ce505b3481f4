"""State of a run as the live view shows it: who holds what, loads, memory, links, time left. Knows no terminal."""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from edgeemu.placement.blocks import Block
from edgeemu.placement.placement import Placement
from edgeemu.report.usage_rows import StepRows
from edgeemu.run.live_use import LinkUse, Use
from edgeemu.run.plan import Plan
from edgeemu.run.plan_tables import describe

LATENCIES = 64  # of tokens, and of first tokens: the time left follows the last of them
MARKED = 12  # looks for which a device is marked that holds something else than before


@dataclass(slots=True)
class LiveDevice:
    """A device as it was at the last look. `load`: the share of the time for which it has computed."""

    name: str
    memory_bytes: int
    held_bytes: int
    load: float = 0.0
    holds: str = ""  # in words; empty: nothing
    marked: int = 0  # looks for which it is marked: what it holds has just changed


class LiveState:
    """State of one run. Most methods are those of an observer, and return at once; `look` brings it up to date."""

    def __init__(self, plan: Plan, clock: Callable[[], float]) -> None:
        self.devices = [
            LiveDevice(device.name, device.memory_bytes, page.total_bytes)
            for device, page in zip(plan.cluster.devices, plan.pages, strict=True)
        ]
        self.policy = plan.policy
        self.moving = ""
        self.moved_last = ""
        self.now_s = 0.0  # on the timeline
        self.tokens = 0  # of all sequences; those that end early count as whole
        self.max_tokens = sum(request.max_tokens for request in plan.requests)
        self.several = len(plan.requests) > 1
        self._requests, self._concurrency, self._shape = plan.requests, plan.concurrency, plan.model.shape
        self._use = Use([device.name for device in self.devices])
        self._placement, self._described = plan.placement, Placement({})
        self._clock, self._began_s = clock, 0.0
        self._first_s: deque[float] = deque(maxlen=LATENCIES)
        self._later_s: deque[float] = deque(maxlen=LATENCIES)
        self._open: dict[int, int] = {}  # tokens so far, by sequence
        self._ended = 0
        self._describe(0)

    @property
    def links(self) -> list[LinkUse]:
        """Links that were used in the last looks, the most used first."""
        return self._use.links

    # -- what an observer is told ------------------------------------------------------------------------------------

    def placed(self, placement: Placement) -> None:
        self._placement, self.moving = placement, ""

    def moved(self, line: str) -> None:
        self.moved_last = line

    def worked(self, rows: StepRows, now_s: float) -> None:
        self._use.add(rows, now_s)
        self.now_s = now_s

    def sequence_started(self, index: int) -> None:
        if not (self._open or self._ended):
            self._began_s = self._clock()
        self._open[index] = 0

    def token(self, index: int, step: int, latency_s: float) -> None:
        (self._later_s if step else self._first_s).append(latency_s)
        self._open[index] = step + 1
        self.tokens += 1

    def sequence_ended(self, index: int) -> None:
        self.tokens += self._requests[index].max_tokens - self._open.pop(index)
        self._ended += 1

    # -- what the view shows -----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Bring devices and links up to date."""
        self._use.look()
        self._describe(MARKED)
        worked = zip(self.devices, self._use.loads.tolist(), self._use.held_bytes.tolist(), strict=True)
        for device, load, held_bytes in worked:
            device.load, device.marked = load, max(0, device.marked - 1)
            if not device.holds:
                device.held_bytes = 0
            elif held_bytes:
                device.held_bytes = int(held_bytes)

    def left_s(self) -> float | None:
        """Seconds of the clock until the last token, as far as the tokens so far tell; None: they do not yet."""
        if not (self._first_s and self.now_s):
            return None
        unopened = len(self._requests) - self._ended - len(self._open)
        at_once = max(1, min(self._concurrency, unopened + len(self._open)))
        later_s = fmean(self._later_s) if self._later_s else fmean(self._first_s)
        later = max(0, self.max_tokens - self.tokens - unopened)
        left_s = (later * later_s + unopened * fmean(self._first_s)) / at_once
        last_arrival_s = self._requests[-1].arrival_s or 0.0
        per_s = (self._clock() - self._began_s) / self.now_s  # seconds of the clock per second of the timeline
        return max(left_s, last_arrival_s - self.now_s) * per_s

    def _describe(self, marked: int) -> None:
        """Say in words what devices hold, if that has changed, and mark those of which it has."""
        if self._placement is self._described:
            return
        self._described = self._placement
        by_device: dict[int, list[Block]] = defaultdict(list)
        for block, index in self._placement.owner.items():
            by_device[index].append(block)
        for index, device in enumerate(self.devices):
            blocks = by_device.get(index)
            holds = describe(blocks, self._shape) if blocks else ""
            if holds != device.holds:
                device.holds, device.marked = holds, marked
