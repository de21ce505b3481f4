"""The current placement as a later decision knows it: its devices, what they hold, and a search near it. Pure."""

from functools import cached_property
from itertools import starmap
from typing import Self

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.placement import Placement
from edgeemu.policies.compiled.blocks_code import BlocksCode
from edgeemu.policies.compiled.devices_code import all_devices
from edgeemu.policies.compiled.ends_code import SearchRules
from edgeemu.policies.compiled.share_code import NeedsCode
from edgeemu.policies.search.change_rule import WORTH, Prospect
from edgeemu.policies.search.going_back import Placed, note_owners, owners_of, placed_on
from edgeemu.policies.search.share_proposals import promising_now
from edgeemu.policies.search.share_search import LEAST_GAIN, MISSING, NO_ROOM, End, ShareJudge, ShareSearch, middle
from edgeemu.policies.search.vicinity import Vicinity, ends_code
from edgeemu.policies.view.block_owners import BlockOwners
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.share_memory import ShareMemory, counts_to_the_byte
from edgeemu.policies.view.share_moves_time import ShareMigrations
from edgeemu.policies.view.share_needs import FindsNeeds
from edgeemu.policies.view.shares import ShareArrays

WORK = 1.2e5  # of the search, some milliseconds
WORK_TO_CHOOSE = 6e5  # for which as many devices take part as such a search could have
SLOWER = 1e-9  # relative, below which it is rounding
RULES = SearchRules(WORK, NO_ROOM, WORTH, LEAST_GAIN, MISSING)


class Known:
    """The current placement as a decision knows it, whatever is expected of the steps to come."""

    def __init__(
        self,
        view: ClusterView,
        current: Placement,
        owners: BlockOwners,
        devices: IntArray | None = None,
        *,
        divide: bool,
    ) -> None:
        """`current`: of which each projection is whole, or with its heads. `owners`: of its blocks.

        `devices`: that take part, ascending, if it is not to be chosen. `divide`: whether blocks may become divided, or
        stay so.
        """
        self.view, self.current, self.costs = view, current, MoveCosts(view)
        everyone = all_devices(view)
        if devices is None:
            devices = promising_now(view, current, owners, WORK_TO_CHOOSE, everyone)
        self.devices = devices  # [n]
        self.code = ends_code(view, self.costs, self.devices, current, everyone, divide=divide)

    @classmethod
    def of(cls, view: ClusterView, current: Placement, *, divide: bool) -> Self | None:
        """None: it is on more devices than are searched, or the shards of a projection are not with their heads."""
        owners = owners_of(current, view.costs.shape)
        known = None if owners is None else cls(view, current, owners, divide=divide)
        return known if known is not None and known.is_placed else None

    @property
    def is_placed(self) -> bool:
        """Whether no others than the chosen devices have blocks."""
        return self._placed is not None if self.code is None else self.code.is_placed

    @cached_property
    def _placed(self) -> Placed | None:
        return placed_on(self.current, self.view.costs.shape, self.devices)

    @property
    def owners(self) -> BlockOwners:
        """Places among the devices of its blocks."""
        assert self._placed is not None, "it is on other devices"
        return self._placed.owners

    @property
    def base(self) -> ShareArrays:
        """The placement itself."""
        assert self._placed is not None, "it is on other devices"
        return self._placed.shares

    @cached_property
    def needs(self) -> FindsNeeds:
        return NeedsCode(ShareMemory(self.view, self.devices), ShareMigrations(self.costs, self.devices, self.base))

    @cached_property
    def near(self) -> Vicinity:
        return Vicinity(self.view, self.devices, self.base, self.needs, self.code)

    @cached_property
    def fits(self) -> bool:
        """Whether devices have memory for it."""
        missing_bytes = self.near.missing_bytes if self.code is None else self.code.missing_bytes
        if not missing_bytes or counts_to_the_byte(self.view, self.current):
            return not missing_bytes
        return self.view.holds(self.current)

    @cached_property
    def blocks(self) -> BlocksCode:
        """Machine code for moves."""
        return BlocksCode.of(self.costs, self.devices, self.owners) if self.code is None else self.code.blocks

    @cached_property
    def present(self) -> ShareJudge:
        """Judge of the next step, as all is now."""
        return ShareJudge(self.view, self.devices, 1)

    def ends(self, prospect: Prospect, price: float) -> tuple[float, list[End]]:
        """Cost of the placement, and where a search near it ends. `price`: of a second of a migration."""
        if self.code is not None and self.present.by_decode_steps:
            rules = RULES if self.fits else RULES._replace(worth=0.0)
            past = middle(self.view, prospect.steps)
            before, ends = self.code.found(prospect.links, prospect.over, past, price, rules)
            return before, list(starmap(End, ends))
        return self.search(self.judge(prospect), price).ends_near(self.base, self.near, fits=self.fits)

    def judge(self, prospect: Prospect) -> ShareJudge:
        """Judge of the steps to come."""
        return ShareJudge(prospect.ahead, self.devices, prospect.steps)

    def search(self, judge: ShareJudge, price: float) -> ShareSearch:
        """Search for better placements."""
        return ShareSearch(judge, WORK, self.needs, price)

    def moving_s(self, end: End) -> float:
        """Seconds that a sequence waits for the migration to a placement."""
        return self.blocks.moving_s(end.shares) if end.moving_s is None else end.moving_s

    def has_room(self, end: End) -> bool:
        """Whether devices have room for all that the migration to a placement brings, beside all that they hold."""
        if self.code is not None and end.which is not None:
            return self.code.has_room(end.which)
        return self.needs.has_room(end.shares)

    def placement(self, end: End) -> Placement:
        """A placement of which as many blocks as possible stay where they are."""
        if self.code is not None and end.which is not None:
            owners = self.code.owners(end.which)
        else:
            owners = self.blocks.owners(end.shares)
        placement = owners.placement()
        note_owners(placement, owners)  # who is asked next begins with them
        return placement

    def is_slower(self, end: End) -> bool:
        """Whether the next step of a placement takes longer than without it."""
        if self.code is not None and end.which is not None:
            before, after = self.code.steps_of(self.view.past, end.which)
            return after > before * (1 + SLOWER)
        return is_step_slower(self.present, end.shares, self.base)


def is_step_slower(judge: ShareJudge, new: ShareArrays, old: ShareArrays) -> bool:
    """Whether a step of a placement takes longer than that of another."""
    after, before = judge.promised(ShareArrays.joined([new, old])).tolist()
    slower: bool = after > before * (1 + SLOWER)
    return slower
