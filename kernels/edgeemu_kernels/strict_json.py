"""JSON of strangers: text to values, or a ValueError in plain words. Knows no file and no key."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn


def loads(text: str) -> Any:
    """Parse a JSON text.

    Raises ValueError (json.JSONDecodeError, with the place, for its syntax) also for what Python takes or words
    otherwise: a key twice in one object, NaN and infinities, halves of characters, numbers of thousands of digits, and
    nesting that is too deep.
    """
    try:
        value = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse, parse_int=_whole_number)
        if "\\ud" in text or "\\uD" in text:  # only halves begin so, and no other text needs to be looked at
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end].encode("ascii", "backslashreplace").decode()
        raise ValueError(f"has half of a character, as {half} is without the other half") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these pairs. ValueError if a key occurs twice: readers differ in which they take."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f'the key "{repr(twice[:40])[1:-1]}" is here twice')  # its control characters escaped
    return found


def _whole_number(digits: str) -> int:
    """Convert the text of a whole number. Python itself refuses thousands of digits, in words about Python."""
    try:
        return int(digits)
    except ValueError as error:
        raise ValueError(f"{digits[:20]}… is a number of {len(digits)} digits") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
