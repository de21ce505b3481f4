"""Choice of the policy of a run, and trust: a scenario never runs a user's code by being read."""

from pathlib import Path

from edgeemu.errors import RequestError
from edgeemu.host.signals import interrupted_at_once
from edgeemu.policies import POLICIES, Policy, policy
from edgeemu.policies.loading import installed_policy, policy_file
from edgeemu.run.policy_process.separate_policy import PolicyError, SeparatePolicy
from edgeemu.scenario.scenario import Scenario

IMPORT_LIMIT_S = 10.0  # of processor time
IN_C = frozenset({"exact"})  # its solver is C code, which neither a limit nor a signal interrupts
"""Built-in policies that have a process of their own, too."""


def open_policy(name: str, limit_s: float) -> Policy | SeparatePolicy:
    """Load a policy: a user's, and one that cannot be interrupted, in a process of its own.

    Raises:
        RequestError: there is no such policy, or it cannot be loaded.
        RunError: its process could not be started.
        Interrupted: a signal ended the command meanwhile.
    """
    check_policy(name)
    if name in POLICIES and name not in IN_C:
        return policy(name)
    opened = SeparatePolicy(name, limit_s)
    with interrupted_at_once():
        opened.load()
    return opened


def check_policy(name: str) -> None:
    """Check that there is a policy or a file with this name, without running its code. Raises RequestError."""
    if file := policy_file(name):
        if not Path(file.path).is_file():
            raise RequestError(f"there is no policy file {file.path}")
    elif name not in POLICIES:
        installed_policy(name, POLICIES)


def names_code(scenario: Scenario) -> bool:
    """Return whether the policy that a scenario names is code of a user's, in a file or an installed package."""
    return scenario.policy not in POLICIES and not scenario.is_set("policy")


def choose_policy(scenario: Scenario, policy_name: str | None, *, trust: bool) -> Policy | SeparatePolicy:
    """Load the policy of that name, which the user gave, or else that of the scenario, if it may run.

    Raises:
        RequestError: there is no such policy, it cannot be loaded, or it is a file that is not trusted.
        RunError: its process could not be started.
    """
    name = policy_name or scenario.policy
    try:
        if policy_name is None and not trust and names_code(scenario) and policy_file(name):
            check_policy(name)
            raise RequestError(
                f"{name} is code that this scenario wants to run; if you trust it, add --trust, or give --policy {name}"
            )
        if name == "given" and scenario.placement is None:
            raise RequestError(
                "given keeps the placement that a scenario writes, and this one writes none; "
                "edgeemu plan SCENARIO --policy NAME --yaml prints one"
            )
        return open_policy(name, IMPORT_LIMIT_S)
    except RequestError as error:
        raise at_policy(scenario, policy_name, error) from None


def check_named(scenario: Scenario) -> None:
    """Check that there is the policy that a scenario names, without running its code. Raises RequestError."""
    try:
        check_policy(scenario.policy)
    except RequestError as error:
        raise at_policy(scenario, None, error) from None


def at_policy(scenario: Scenario, policy_name: str | None, error: RequestError) -> RequestError:
    """Return an error with the place where its policy is named: the option, or the line of the scenario."""
    if policy_name is not None:
        return PolicyError(error.message, field="--policy")
    return scenario.error("policy", error.message)
