"""Error of all readers of model files. Knows no format."""

from __future__ import annotations

from pathlib import Path


class ModelFileError(Exception):
    """Raised for a model file that is missing, damaged, or of a kind that the kernels do not support.

    `path` is the file or directory, `problem` the sentence without it; `str()` gives both.
    """

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = Path(path)
        self.problem = problem

    def __reduce__(self) -> tuple[type[ModelFileError], tuple[Path, str]]:
        return type(self), (self.path, self.problem)
