"""Collections of a simulation: none of the objects that it has while it runs, nor all at once at its end."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from edgeemu.run.few_collections import few_collections

OBJECTS = 200_000


@pytest.fixture
def collected() -> Iterator[list[int]]:
    """Numbers of objects that could be looked at in each collection: of its generation and those before."""
    found: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            found.append(sum(len(gc.get_objects(each)) for each in range(info["generation"] + 1)))

    gc.collect()
    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)


def test_what_a_simulation_makes_is_not_looked_at(collected: list[int]) -> None:
    usual, kept = gc.get_threshold(), []
    with few_collections():
        kept += [[n] for n in range(OBJECTS)]
        assert collected == []
    assert gc.get_threshold() == usual
    kept += [[n] for n in range(2 * usual[0])]
    assert collected, "collections go on"
    assert max(collected) < OBJECTS / 10


def test_an_error_leaves_collections_as_they_were() -> None:
    usual = gc.get_threshold()
    with pytest.raises(RuntimeError, match="ends"), few_collections():
        raise RuntimeError("ends")
    assert gc.get_threshold() == usual
