"""Names and flags in a scenario."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _check_name(name: Any) -> Any:
    if isinstance(name, str) and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise ValueError(f'"{name}" is not a name: use letters, digits, ".", "_" and "-" (at most 64)')
    return name


Name = Annotated[str, BeforeValidator(_check_name)]
Flag = Annotated[bool, Field(strict=True)]
