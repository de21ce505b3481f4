"""Messages between the controller and the process of a policy. Knows their form; no processes.

Requests are pickled by the controller, which trusts itself. Answers are plain data (msgspec), so that no object of a
user's code comes to life in the controller.
"""

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from edgeemu.placement.blocks import Block, Kind
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView

Owner = list[tuple[Kind, int, int, int]]  # kind, layer and group of each block, and its device


class Load(NamedTuple):
    """Request: import the policy with this name."""

    name: str


class Ask(NamedTuple):
    """Request: call the policy."""

    view: ClusterView
    current: Owner | None


class Started(msgspec.Struct, tag="started"):
    """Answer without a request: the process can be asked."""

    pid: int


class Loaded(msgspec.Struct, tag="loaded"):
    """Answer to `Load`. `home` is the file of the policy, or the directory of its package."""

    home: str


class Answered(msgspec.Struct, tag="answered"):
    """Answer to `Ask`. `took_s` is the time of the call alone."""

    owner: Owner
    took_s: float


class Offered(msgspec.Struct, tag="offered"):
    """News before the answer to `Ask`: a placement to use if there is none in time."""

    owner: Owner


class Blamed(msgspec.Struct, tag="blamed"):
    """Answer to any request: the reason, with file and line. `infeasible`: the policy's own finding, by its error."""

    reason: str
    infeasible: bool = False


Reply = Started | Loaded | Answered | Offered | Blamed


class WrongAnswerError(Exception):
    """A policy's answer is no placement."""


def packed(answer: object) -> Owner:
    """Return the blocks and devices of a policy's answer as plain data.

    Raises:
        WrongAnswerError: the answer is no placement; the message says what it is.
    """
    if problem := wrong_kind(answer):
        raise WrongAnswerError(problem)
    owner: Mapping[Block, Any] = answer.owner  # type: ignore[attr-defined]  # it is a Placement
    return [(Kind(kind), int(layer), int(group), int(operator.index(n))) for (kind, layer, group), n in owner.items()]


def unpacked(owner: Owner) -> Placement:
    """Return the placement that was packed."""
    return Placement({Block(kind, layer, group): device for kind, layer, group, device in owner})


def wrong_kind(answer: object) -> str:
    """Return what is wrong with the types of an answer; empty if it is a placement of blocks on devices' numbers."""
    if not isinstance(answer, Placement):
        return f"the answer is a {type(answer).__name__}, not a Placement"
    owner: Any = answer.owner
    if not isinstance(owner, Mapping):
        return f"the placement's owner is a {type(owner).__name__}, not a mapping from blocks to devices"
    for block, number in owner.items():
        if not isinstance(block, Block):
            return f"the placement names {block!r}, which is not a Block"
        if not hasattr(number, "__index__"):
            return f"{block} is on {number!r}, which is not a device's number"
    return ""
