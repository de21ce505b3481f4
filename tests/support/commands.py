"""Type of the `edgeemu` fixture: arguments to exit status, standard output, standard error."""

from collections.abc import Callable

Edgeemu = Callable[..., tuple[int, str, str]]
