"""Chat templates: chats to text. Knows how the process that renders them is run; no tokenizer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeemu_kernels.errors import ModelFileError

Chat = Sequence[Mapping[str, str]]  # messages, each with its role and content

_CPU_S, _CPU_S_PER_CHAT = 1.0, 0.01
_MEMORY_BYTES = 160 * 2**20  # of address space, beside that of Python and Jinja


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Template of a model as its file has it. `variables` are its special tokens, by name; `origin` is the file.

    `source` is None for a model that has several templates by name, `names`, and none of them is the default.
    """

    source: str | None
    variables: Mapping[str, str | list[str]]
    origin: Path
    names: tuple[str, ...] = ()

    def render(self, chats: Sequence[Chat], date: str | None) -> list[str]:
        """Render chats, up to where the assistant begins. `date` is the day that the template may write, YYYY-MM-DD.

        Raises:
            ModelFileError: the template is broken, refuses a chat (some know no system role), or takes more than a
                second of processor time or 160 MiB of memory.
        """
        if not chats:
            return []
        if self.source is None:
            raise self._error(f"has several ({', '.join(self.names)}), and none is the default")
        job = {
            "template": self.source,
            "variables": self.variables,
            "date": date,
            "cpu_s": _CPU_S + _CPU_S_PER_CHAT * len(chats),
            "memory_bytes": _MEMORY_BYTES,
        }
        lines = "".join(json.dumps(line) + "\n" for line in (job, *chats))
        process = Path(__file__).with_name("render_process.py")
        ran = subprocess.run([sys.executable, "-I", str(process)], input=lines, capture_output=True, encoding="ascii")
        if ran.returncode == -signal.SIGPROF:
            raise self._error("takes too long")
        if ran.returncode:
            said = ran.stderr.strip().rpartition("\n")[2]
            raise self._error(f"the process that renders it ended with status {ran.returncode}: {said}")
        answers: list[dict[str, Any]] = [json.loads(line) for line in ran.stdout.splitlines()]
        if "error" in answers[-1]:
            line = answers[-1]["line"]
            raise self._error(answers[-1]["error"], "" if line is None else f", line {line}")
        return [answer["text"] for answer in answers]

    def _error(self, problem: str, place: str = "") -> ModelFileError:
        return ModelFileError(self.origin, f"chat template{place}: {problem}")
