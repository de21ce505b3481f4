"""Loading of a policy by its name: built in, from a user's file, or from an installed package. Runs that code.

A file's policy is `path.py:Name`; `path.py` alone means its `place`. A package's is an entry point of the group
`edgeemu.policies`. Either is a function of (view, current), or a class that is instantiated without arguments and
whose instance is called with them.
"""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, NamedTuple

from edgeemu.errors import RequestError, did_you_mean
from edgeemu.placement.placement import Placement
from edgeemu.policies.blame import blame
from edgeemu.policies.view.cluster_view import ClusterView

GROUP = "edgeemu.policies"
DEFAULT_NAME = "place"

_Policy = Callable[[ClusterView, Placement | None], Placement]


class PolicyFile(NamedTuple):
    """A policy in a file of the user's own."""

    path: str
    attribute: str


def policy_file(name: str) -> PolicyFile | None:
    """Return the file that a policy's name means; None: it is the name of a policy."""
    path, colon, attribute = name.rpartition(":")
    if not colon:
        path, attribute = name, DEFAULT_NAME
    return PolicyFile(path, attribute) if path.endswith(".py") else None


def load(name: str, built_in: Collection[str]) -> _Policy:
    """Load the policy that a user named.

    Raises:
        RequestError: there is none, it cannot be loaded, or it cannot be called with (view, current).
    """
    if name in built_in:
        return partial(_unless_refused, import_module(f"edgeemu.policies.{module_name(name)}").place)
    if file := policy_file(name):
        module = _module(file.path)
        return _callable(_attribute(module, *file), name, module.__file__ or "", file.path)
    point = installed_policy(name, built_in)
    with _blamed(home_of(point), f'the policy "{name}" ({point.value}) cannot be loaded'):
        found = point.load()
    return _callable(found, name, home_of(point))


def prepare(name: str, built_in: Collection[str], view: ClusterView) -> None:
    """Make what a built-in policy needs for any decision on a cluster, outside of its time."""
    if name in built_in:
        module = import_module(f"edgeemu.policies.{module_name(name)}")
        make: Callable[[ClusterView], None] | None = getattr(module, "prepare", None)
        if make is not None:
            make(view)


def module_name(name: str) -> str:
    """Name of the module of a policy that is built in."""
    return name.replace("-", "_").replace(".", "_")


def _unless_refused(place: _Policy, view: ClusterView, current: Placement | None = None) -> Placement:
    """The answer of a policy; the current placement, if the answer is what devices have just refused."""
    found = place(view, current)
    return current if current is not None and view.has_refused(found) else found


def installed_policy(name: str, built_in: Collection[str]) -> EntryPoint:
    """Return the policy of an installed package, which is not imported.

    Raises:
        RequestError: there is none; the message has the nearest name.
    """
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if name not in installed:
        hint = did_you_mean(name, [*built_in, *installed])
        raise RequestError(
            f'there is no policy "{name}"{hint}; see: edgeemu policies; a file\'s policy is path.py:Name'
        )
    return installed[name]


def home_of(point: EntryPoint) -> str:
    """Return the directory of a policy's package, or the file of its module; empty as long as it is not imported."""
    top = sys.modules.get(point.module.partition(".")[0])
    places = list(getattr(top, "__path__", ())) or [getattr(top, "__file__", None) or ""]
    return str(places[0])


def _module(path: str) -> ModuleType:
    """Run a Python file. It is in `sys.modules` under its path, which dataclasses and pickling need."""
    spec = importlib.util.spec_from_file_location(f"policy at {path}", path)
    assert spec is not None, "the name ends in .py"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with _blamed(spec.origin or "", f"{path} cannot be loaded", path):
        try:
            spec.loader.exec_module(module)
        except FileNotFoundError as error:
            if error.filename != spec.origin:
                raise
            raise RequestError(f"there is no policy file {path}") from error
    return module


def _attribute(module: ModuleType, path: str, attribute: str) -> Any:
    found = getattr(module, attribute, None)
    if found is None:
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise RequestError(f'{path} has no "{attribute}"{did_you_mean(attribute, names)}')
    return found


def _callable(found: Any, name: str, home: str, shown: str = "") -> _Policy:
    """Check that an object, or an instance of a class, can be called with a view and a placement; return it."""
    if inspect.isclass(found):
        with _blamed(home, f"{name} cannot be instantiated without arguments", shown):
            found = found()
    if not callable(found):
        problem = f"a {type(found).__name__} cannot be called"
        raise RequestError(f"{name} is not a policy: {problem} (write a function or __call__, of view and current)")
    try:
        inspect.signature(found).bind(None, None)
    except (TypeError, ValueError) as error:
        raise RequestError(f"{name} is not a policy: it must take (view, current), and {error}") from error
    if inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__):
        raise RequestError(f"{name} is not a policy: it is a coroutine function (async def), and nobody would await it")
    policy: _Policy = found
    return policy


@contextmanager
def _blamed(home: str, what: str, shown: str = "") -> Iterator[None]:
    """Turn whatever a user's code raises in a block into a RequestError that names its line."""
    try:
        yield
    except (KeyboardInterrupt, RequestError):
        raise
    except BaseException as error:
        raise RequestError(f"{what}: {blame(error, home, shown)}") from error
