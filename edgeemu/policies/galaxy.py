"""Galaxy (arXiv 2405.17245, INFOCOM 2024): every layer on all devices at once, in shares by speed. Pure.

Attention is divided by KV groups, each with its part of the projection, and the feed-forward by columns; between them
the rows of a prompt are divided equally (`routes`). The planner:

* V_d = 1 / (time of a layer's undivided attention and feed-forward on device d). [D] For the prompt's rows, as in the
  paper's profiles: it is about prompts. Decoding has the same shares.
* Groups and units of the feed-forward in proportion to V_d, whole numbers by largest remainders.
* A device whose memory is exceeded gives its overflow to devices with slack, in proportion to V_d, until all fit. [D]
  Units of the feed-forward go first, being finer, then groups.

[D] The paper leaves both ends of a model open. The embedding is on the source device, the output matrix where it runs
fastest, with the delay of the token's return; the layers' shares use the memory that is left. If they do not fit, the
next device takes the output matrix, and in the end both ends. [D] All layers are divided in the same shares. If one
device has every share, it holds the layers undivided.
"""

from edgeemu.errors import InfeasibleError
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, all_blocks, ffn, head, proj, shards
from edgeemu.placement.placement import Placement
from edgeemu.placement.work import roofline_s
from edgeemu.policies.search.apportion import largest_remainders
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.units import SIZE

MAX_OUTPUTS = 16  # devices that are tried for the output matrix


@planned_once
def place(view: ClusterView) -> Placement:
    """Divide every layer over all devices, in shares that fit their memory. Planned once, as in the paper."""
    shape = view.costs.shape
    speeds = [1.0 / layer_s(view, device) for device in range(view.n_devices)]
    problem = InfeasibleError("there is no device")
    for embed, lm_head in _ends(view):
        room = _Shares(view, embed, lm_head, speeds)
        try:
            room.balance()
        except InfeasibleError as error:
            problem = error
            continue
        whole = [d for d in range(len(speeds)) if (room.groups[d], room.units[d]) == (shape.n_groups, shape.ffn_units)]
        return room.undivided(whole[0]) if whole else room.placement()
    raise problem


def layer_s(view: ClusterView, device: int) -> float:
    """Time of a layer's undivided attention and feed-forward on one device, for the prompt's rows."""
    compute, rows = view.devices[device].compute, view.prompt_tokens
    kinds = (Kind.HEAD, Kind.PROJ, Kind.FFN)
    return sum(roofline_s(compute, view.costs.work(kind, view.costs.shape.n_groups, rows, 0)) for kind in kinds)


def _ends(view: ClusterView) -> list[tuple[int, int]]:
    """Pairs of devices for embedding and output matrix, the best first."""
    source = view.nodes[0]
    back_s: list[float] = view.links.delay_s.column(source).tolist()

    def output_s(device: int) -> float:
        return view.time_s(LM_HEAD, device) + back_s[device]

    outputs = sorted(range(view.n_devices), key=output_s)[:MAX_OUTPUTS]
    return [*((source, device) for device in outputs), *((device, device) for device in outputs if device != source)]


class _Shares:
    """Groups and units of every layer on each device. Memory is counted for all layers together."""

    def __init__(self, view: ClusterView, embed: int, lm_head: int, speeds: list[float]) -> None:
        shape = view.costs.shape
        n = len(speeds)
        self._view = view
        self._ends = {EMBED: embed, LM_HEAD: lm_head}
        self._speeds = speeds
        self._known: dict[tuple[bool, bool, int, int], int] = {}
        self.groups = largest_remainders(speeds, shape.n_groups, [shape.n_groups] * n)
        self.units = largest_remainders(speeds, shape.ffn_units, [shape.ffn_units] * n)

    def balance(self) -> None:
        """Move shares that overflow a device's memory to devices with slack.

        Raises:
            InfeasibleError: there is no slack.
        """
        if not all(self._fits(device, groups=0, units=0) for device in self._ends.values()):
            raise self._no_room()
        shape = self._view.costs.shape
        groups, units = 0, 0  # on no device
        for device in range(len(self._speeds)):
            while self.units[device] and not self._fits(device):
                self.units[device] -= 1
                units += 1
            while self.groups[device] and not self._fits(device):
                self.groups[device] -= 1
                groups += 1
        self._hand_out(self.groups, groups, shape.n_groups)
        self._hand_out(self.units, units, shape.ffn_units)

    def placement(self) -> Placement:
        """The shares as blocks on devices."""
        shape = self._view.costs.shape
        group_owners = [device for device, count in enumerate(self.groups) for _ in range(count)]
        unit_owners = [device for device, count in enumerate(self.units) for _ in range(count)]
        owner: dict[Block, int] = {EMBED: self._ends[EMBED]}
        for layer in range(shape.n_layers):
            owner |= {head(layer, group): device for group, device in enumerate(group_owners)}
            owner |= {proj(layer, group): device for group, device in enumerate(group_owners)}
            owner |= dict(zip(shards(shape, Kind.FFN, layer), unit_owners, strict=True))
        owner[LM_HEAD] = self._ends[LM_HEAD]
        return Placement(owner)

    def undivided(self, device: int) -> Placement:
        """The placement with every layer on one device, both ends where they are."""
        return Placement(dict.fromkeys(all_blocks(self._view.costs.shape), device) | self._ends)

    def _hand_out(self, counts: list[int], number: int, most: int) -> None:
        """Give `number` shares to devices with slack, in proportion to their speeds; repeat until none is left."""
        while number:
            rooms = [self._room(device, counts, min(most, counts[device] + number)) for device in range(len(counts))]
            given = largest_remainders(self._speeds, number, rooms)
            if not any(given):
                raise self._no_room()
            for device, more in enumerate(given):
                counts[device] += more
            number -= sum(given)

    def _room(self, device: int, counts: list[int], most: int) -> int:
        """How many more shares fit on a device, at most up to `most` in all."""
        before = counts[device]
        low, high = before, most
        while low < high:  # memory grows with their number
            counts[device] = (low + high + 1) // 2
            low, high = (counts[device], high) if self._fits(device) else (low, counts[device] - 1)
        counts[device] = before
        return low - before

    def _fits(self, device: int, groups: int | None = None, units: int | None = None) -> bool:
        """Whether a device has the memory for its shares, or for these numbers of them."""
        embed, lm_head = (at == device for at in self._ends.values())
        groups = self.groups[device] if groups is None else groups
        units = self.units[device] if units is None else units
        key = embed, lm_head, groups, units
        if key not in self._known:
            self._known[key] = self._need_bytes(*key)
        return self._known[key] <= self._view.devices[device].memory_bytes

    def _need_bytes(self, embed: bool, lm_head: bool, groups: int, units: int) -> int:
        """Memory of a device with the first shards, the largest: they have the biases. One layer stands for all."""
        view = self._view
        usage = view.empty_usage()
        usage.members = len(self._speeds)
        for block, there in ((EMBED, embed), (LM_HEAD, lm_head)):
            if there:
                usage.add(block)
        ends = usage.page()
        for group in range(groups):
            usage.add(head(0, group))
            usage.add(proj(0, group))
        for unit in range(units):
            usage.add(ffn(0, unit))
        page = usage.page()
        layer_bytes = page.weights_bytes - ends.weights_bytes + page.cache_bytes
        return page.total_bytes + (view.costs.shape.n_layers - 1) * layer_bytes

    def _no_room(self) -> InfeasibleError:
        shape, show = self._view.costs.shape, SIZE.format_human
        rows = [
            f"{device.name}: {self.groups[d]} groups and {self.units[d]} units in {show(device.memory_bytes)}"
            for d, device in enumerate(self._view.devices)
        ]
        return InfeasibleError(
            f"there is no room for all {shape.n_groups} groups and {shape.ffn_units} feed-forward units of each "
            f"layer of {shape.name} ({'; '.join(rows[:25])}). Give the devices more memory, or add devices."
        )
