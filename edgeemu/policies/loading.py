"""Loading of a policy by its name: built in, from a user's file, or from an installed package. Runs that code.

A file's policy is `path.py:Name`; `path.py` alone means its `place`. A package's is an entry point of the group
`edgeemu.policies`. Either is a function of (view, current), or a class that is instantiated without arguments and
whose instance is called with them.
"""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Collection
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from edgeemu.errors import RequestError, did_you_mean
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView

GROUP = "edgeemu.policies"
DEFAULT_NAME = "place"

_Policy = Callable[[ClusterView, Placement | None], Placement]


def load(name: str, built_in: Collection[str]) -> _Policy:
    """Load the policy that a user named.

    Raises:
        RequestError: there is none, it cannot be loaded, or it cannot be called with (view, current).
    """
    if name in built_in:
        place: _Policy = import_module(f"edgeemu.policies.{name.replace('-', '_')}").place
        return place
    path, colon, attribute = name.rpartition(":")
    if not colon:
        path, attribute = name, DEFAULT_NAME
    if path.endswith(".py"):
        return _callable(_attribute(_module(path), path, attribute), name)
    installed = installed_policies()
    if name in installed:
        return _callable(_loaded(installed[name]), name)
    hint = did_you_mean(name, [*built_in, *installed])
    raise RequestError(f'there is no policy "{name}"{hint}; see: edgeemu policies; a file\'s policy is path.py:Name')


def installed_policies() -> dict[str, EntryPoint]:
    """Policies of installed packages, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _module(path: str) -> ModuleType:
    """Run a Python file. It is in `sys.modules` under its path, which dataclasses and pickling need."""
    spec = importlib.util.spec_from_file_location(f"policy at {path}", path)
    assert spec is not None, "the name ends in .py"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError as error:
        if error.filename != spec.origin:
            raise RequestError(f"{path} cannot be loaded: {error}") from error
        raise RequestError(f"there is no policy file {path}") from error
    except Exception as error:
        raise RequestError(f"{path} cannot be loaded: {_described(error)}") from error
    return module


def _attribute(module: ModuleType, path: str, attribute: str) -> Any:
    found = getattr(module, attribute, None)
    if found is None:
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise RequestError(f'{path} has no "{attribute}"{did_you_mean(attribute, names)}')
    return found


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        raise RequestError(
            f'the policy "{point.name}" ({point.value}) cannot be loaded: {_described(error)}'
        ) from error


def _callable(found: Any, name: str) -> _Policy:
    """Check that an object, or an instance of a class, can be called with a view and a placement; return it."""
    if inspect.isclass(found):
        try:
            found = found()
        except Exception as error:
            raise RequestError(f"{name} cannot be instantiated without arguments: {_described(error)}") from error
    if not callable(found):
        raise RequestError(f"{name} is not a policy: a {type(found).__name__} cannot be called")
    try:
        inspect.signature(found).bind(None, None)
    except (TypeError, ValueError) as error:
        raise RequestError(f"{name} is not a policy: it must take (view, current), and {error}") from error
    policy: _Policy = found
    return policy


def _described(error: Exception) -> str:
    """Describe an error in a user's code, with its line."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    line = f"line {trace.tb_lineno}: " if trace is not None else ""
    return f"{line}{type(error).__name__}: {error}"
