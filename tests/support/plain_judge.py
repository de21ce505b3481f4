"""Judge of placements by NumPy alone, which computes each in full: the reference of machine code and its bounds."""

from edgeemu.placement.arrays import FloatArray
from edgeemu.policies.search.share_search import ShareJudge
from edgeemu.policies.view.share_steps import step_of
from edgeemu.policies.view.shares import ShareArrays


class PlainJudge(ShareJudge):
    """A judge without machine code."""

    @property
    def code(self) -> None:
        """Machine code for costs: none."""

    def round_s(self, shares: ShareArrays) -> FloatArray:
        """Time until every sequence in flight has its next token: [k]."""
        return self._round_s(step_of(self.decode, shares), self.decode)
