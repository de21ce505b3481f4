"""Types of names, flags and counts in a scenario, with the words that documentation has for them."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field


@dataclass(frozen=True, slots=True)
class KindName:
    """Word for the kind of an annotated value, where its type does not tell it."""

    text: str


def _check_name(name: Any) -> Any:
    if isinstance(name, str) and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise ValueError(f'"{name}" is not a name: use letters, digits, ".", "_" and "-" (at most 64)')
    return name


Name = Annotated[str, BeforeValidator(_check_name), KindName("name")]
Flag = Annotated[bool, Field(strict=True)]
