"""A policy in a process of its own, from a run's first decision to its end: asks it, and replaces one that was lost."""

import os
from typing import NamedTuple

from edgeemu.errors import InfeasibleError, RequestError
from edgeemu.placement.placement import Placement
from edgeemu.policies import POLICIES
from edgeemu.policies.loading import policy_file
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.policy_process.messages import Answered, Ask, Blamed, Load, Loaded, packed, unpacked
from edgeemu.run.policy_process.process import NoAnswerError, PolicyProcess


class PolicyError(RequestError):
    """A policy is wrong: it cannot be loaded, or gives no answer that can be used. The message names file and line."""


class LostPolicyError(PolicyError):
    """A policy did not answer in time and was killed, or has ended its process. It can be asked again."""


class Called(NamedTuple):
    """An answer of a policy, not checked yet, and the processor time of its call.

    `cut` is why it is what the policy offered last, and not its answer; empty if it is.
    """

    placement: Placement
    took_s: float
    cut: str = ""


class SeparatePolicy:
    """A policy in a process of its own: one of a file, or of an installed package, or a built-in one that needs it."""

    def __init__(self, name: str, limit_s: float) -> None:
        """`name` is as the user wrote it; `limit_s` is the time for importing the policy."""
        self.name = name
        self._limit_s = limit_s
        self._process: PolicyProcess | None = None

    @property
    def is_users(self) -> bool:
        """Whether it is a user's code, and not built in."""
        return self.name not in POLICIES

    @property
    def absolute_name(self) -> str:
        """The name with the path of its file made absolute: it means the same in every directory."""
        file = policy_file(self.name)
        return f"{os.path.abspath(file.path)}:{file.attribute}" if file else self.name  # noqa: PTH100

    def load(self) -> None:
        """Start the process and import the policy, unless that has been done.

        Raises:
            PolicyError: it cannot be loaded, or is no policy.
            RunError: the process could not be started.
        """
        self._loaded()

    def ask(self, view: ClusterView, current: Placement | None, limit_s: float) -> Called:
        """Call the policy.

        Raises:
            InfeasibleError: the policy finds no room.
            PolicyError: it raised something else, or its answer is no placement.
            LostPolicyError: it did not answer in time, or its process ended, and it had offered nothing.
        """
        shown = None if current is None else packed(current)
        process = self._loaded()
        try:
            reply = process.ask(Ask(view, shown), Answered, limit_s)
        except BaseException as error:
            self.close()
            if isinstance(error, NoAnswerError) and process.offered is not None:
                return Called(unpacked(process.offered.owner), limit_s, str(error))
            if isinstance(error, NoAnswerError):
                raise LostPolicyError(str(error)) from error
            raise
        if isinstance(reply, Blamed):
            raise InfeasibleError(reply.reason) if reply.infeasible else PolicyError(reply.reason)
        return Called(unpacked(reply.owner), reply.took_s)

    def close(self) -> None:
        """End the process of the policy. It is started again when it is asked again."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def _loaded(self) -> PolicyProcess:
        if self._process is not None:
            return self._process
        file = policy_file(self.name)
        home, shown = (os.path.abspath(file.path), file.path) if file else ("", "")  # noqa: PTH100
        process = PolicyProcess(home, shown)
        try:
            reply = process.ask(Load(self.name), Loaded, self._limit_s)
        except NoAnswerError as error:
            raise LostPolicyError(f"{self.name} cannot be loaded: {error}") from error
        if isinstance(reply, Blamed):
            process.end()
            raise PolicyError(reply.reason)
        process.home = reply.home
        self._process = process
        return process
