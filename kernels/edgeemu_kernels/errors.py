"""What can go wrong with a model on disk. Knows no format; every reader raises this one exception."""

from __future__ import annotations

from pathlib import Path


class ModelFileError(Exception):
    """A model file is missing, damaged, or of a kind that the kernels do not have.

    `path` is the file or directory, `problem` the sentence without it; `str()` gives both.
    """

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = Path(path)
        self.problem = problem

    def __reduce__(self) -> tuple[type[ModelFileError], tuple[Path, str]]:
        return type(self), (self.path, self.problem)
