"""One input, given to an entrance of the product under limits. Knows what a finding is; not how inputs are made.

A finding is an error that the entrance does not declare, more memory than `MEMORY_BYTES` beyond what the process had
and the size of the input, more processor time than `HANG_S`, or the end of the process.
"""

import faulthandler
import resource
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fuzzing.inputs import Editor, Files

HANG_S, WALL = 5.0, 6.0
MEMORY_BYTES = 200 * 2**20
ROOT = Path(__file__).parents[2]
OWN = (f"{ROOT}/edgeemu/", f"{ROOT}/kernels/")  # what is fuzzed


@dataclass(frozen=True)
class Target:
    """Entrance of the product: how an input for it is made, and the errors that it declares."""

    make: Callable[[Editor], Files]
    run: Callable[[Path], object]  # the directory with the files of an input
    declared: tuple[type[Exception], ...]


@dataclass(frozen=True)
class Finding:
    """Thing that was found with an input. `what` is one line, equal for inputs that find the same thing."""

    what: str
    trace: str

    def save(self, files: Path, to: Path) -> Path:
        """Save the files that find it, with its trace, in a directory of its own below `to`."""
        directory = to / sha256(self.what.encode()).hexdigest()[:12]
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(files, directory / "input")
        (directory / "finding.txt").write_text(f"{self.what}\n\n{self.trace}", errors="backslashreplace")
        return directory


class InputDirectory:
    """Directory that has the files of one input after another, and nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: Files = {}

    def write(self, files: Files) -> None:
        for name in self._written.keys() - files.keys():
            (self.path / name).unlink()
        for name, content in files.items():
            if self._written.get(name) != content:
                self._write(self.path / name, content)
        self._written = files

    def _write(self, file: Path, content: bytes) -> None:
        """Write over what is there: a file that is emptied and written again is sent to the disk by some systems."""
        with file.open("r+b" if file.exists() else "wb") as opened:
            opened.write(content)
            opened.truncate()


def try_input(target: Target, directory: Path, hang_s: float | None = HANG_S) -> Finding | None:
    """Run a target on the files in a directory.

    After `hang_s` of processor time, or `WALL` times that of the clock (other programs may have the processor, and a
    reader may wait for nothing), the process ends by SIGPROF, or with status 1; its standard error says where it was.
    """
    size = sum(file.stat().st_size for file in directory.iterdir())
    try:
        with _limits(hang_s, MEMORY_BYTES + size):
            target.run(directory)
    except target.declared as error:
        return _found(error) if any(isinstance(cause, MemoryError) for cause in _causes(error)) else None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 (the `tokenizers` library has errors that are no Exception)
        return _found(error)
    return None


@contextmanager
def _limits(hang_s: float | None, memory_bytes: int) -> Iterator[None]:
    if hang_s is not None:
        faulthandler.register(signal.SIGPROF, chain=True)
        signal.setitimer(signal.ITIMER_PROF, hang_s)
        faulthandler.dump_traceback_later(WALL * hang_s, exit=True)
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    allowed = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (allowed if hard == resource.RLIM_INFINITY else min(allowed, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))
        if hang_s is not None:
            faulthandler.cancel_dump_traceback_later()
            signal.setitimer(signal.ITIMER_PROF, 0)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _found(error: BaseException) -> Finding:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(OWN)] or frames
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
    return Finding(f"{type(error).__name__} at {place}", "".join(traceback.format_exception(error)))
