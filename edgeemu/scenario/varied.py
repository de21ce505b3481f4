"""Keys of a scenario that take several values: `--vary PATH=A,B,C`. Reads the list; knows no scenario."""

from typing import NamedTuple

import yaml

from edgeemu.errors import RequestError

OPTION = "--vary"


class Varied(NamedTuple):
    """A key of a scenario, as its path, and the values that it takes, as they were written."""

    path: str
    values: tuple[str, ...]

    @property
    def settings(self) -> tuple[str, ...]:
        """Each value as a setting that `load_scenario` applies."""
        return tuple(f"{self.path}={value}" for value in self.values)


def read_varied(text: str) -> Varied:
    """Read `PATH=A,B,C`: the values are the items of a list in YAML, so that brackets, braces and quotes hold commas.

    Raises:
        RequestError: it is not of this form, or a value is there twice.
    """
    path, equals, listed = (part.strip() for part in text.partition("="))
    if not path or not equals:
        raise RequestError("write PATH=A,B,C, e.g. devices[0].count=1,2,4", field=f"{OPTION} {text}")
    field = f"{OPTION} {path}"
    try:
        values = _items(listed)
    except (yaml.YAMLError, RecursionError) as error:
        raise RequestError(
            f"{listed} is no list of values; write e.g. 1,2,4, and what has commas in quotes, [] or {{}}", field=field
        ) from error
    if not values:
        raise RequestError("no value is given; write e.g. 1,2,4", field=field)
    twice = next((value for number, value in enumerate(values) if value in values[:number]), None)
    if twice is not None:
        raise RequestError(f"{twice} is there twice", field=field)
    return Varied(path, values)


def _items(listed: str) -> tuple[str, ...]:
    """Cut the text at the commas between the items of a YAML list; each is read on its own later."""
    text = f"[{listed}]"
    found = yaml.compose(text, Loader=yaml.BaseLoader)
    assert found is not None, "there are brackets"
    return tuple(text[item.start_mark.index : item.end_mark.index].strip() for item in found.value)
