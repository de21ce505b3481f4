"""Figures that a certificate rests on, and what rules find in them."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from edgeemu.report.facts import RunFacts
from edgeemu.report.figures import DecisionFigures, TokenFigures
from edgeemu.report.lateness import OperationLateness, Pause
from edgeemu.report.statistics import Floats, in_order, ratio

Level = Literal["PASS", "WARN", "INVALID"]


class Finding(NamedTuple):
    """Finding of a rule. `PASS`: a remark that changes no verdict."""

    level: Level
    reason: str


class Evidence(NamedTuple):
    """Figures that a certificate rests on. Operations are those of a paced run."""

    facts: RunFacts
    tokens: TokenFigures
    pauses: Sequence[Pause]
    operations: OperationLateness
    decisions: DecisionFigures
    changed: bool  # whether placement or cluster changed during the run
    messages: int
    reordered: int
    stalled_s: Mapping[str, float]  # by device, of the wall clock: on kernel and hybrid links, by no fault
    link_outages: int = 0

    @property
    def paced(self) -> bool:
        """Whether the run followed the wall clock."""
        return self.facts.mode == "realtime"

    @property
    def stamped(self) -> bool:
        """Whether the timeline alone says when messages arrive."""
        return self.facts.links.startswith("stamped") or not self.paced

    @property
    def tpot_s(self) -> float | None:
        """Mean emulated time of each token after the first of its sequence."""
        later = ~self.tokens.first
        return ratio(in_order(self.tokens.latency_s[later]), int(later.sum()))

    def per_token_s(self, decisions_s: Floats) -> float:
        """Mean of times of decisions in a token after the first of its sequence."""
        return ratio(in_order(decisions_s), int((~self.tokens.first).sum())) or 0.0

    def share_of_token(self, decisions_s: Floats) -> float:
        """Share of TPOT that times of decisions are, whether or not it contains them."""
        return ratio(self.per_token_s(decisions_s), self.tpot_s or 0.0) or 0.0
