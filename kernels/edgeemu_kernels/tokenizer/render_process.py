"""Process that renders chat templates, within limits that hold for C code too. Knows Jinja; no tokenizer, no file.

A template is a program from a stranger. Here it may take so much processor time and memory, and no more: beyond them
this process is killed, or runs out of memory, and nothing else is. It is run as a file (`python -I`), and imports
nothing of ours. Standard input has a job (`{"template", "variables", "date", "cpu_s", "memory_bytes"}`) on its first
line, and a list of messages on each further one; standard output gets `{"text"}` for each, or `{"error", "line"}` for
the first that fails.

Templates see what they see in transformers (`render_jinja_template`, version 5), but a date that was passed in, and no
random values.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_CHARACTERS = 2**20  # of one rendered text, or four times its chat
FILE_NAME = "<template>"  # what Jinja calls a template without a file


class Generation(Extension):
    """Tag `{% generation %}`, which marks what the assistant wrote, and changes no text."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own type)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    @staticmethod
    def _body(caller: Callable[[], str]) -> str:
        return caller()


class TemplateDict:
    """Function `dict` of templates: no attributes but `fromkeys`."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class TemplateNamespace(Namespace):
    """Function `namespace` of templates, without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        attributes: dict[Any, Any] = dict(*args[1:], **kwargs)
        for name in attributes:
            _refuse_underscore(name)
        Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


def _refuse_underscore(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"{name!r} may not be an attribute of a namespace")


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Filter `tojson`, which escapes no HTML, unlike Jinja's own."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message: str) -> NoReturn:
    """Function with which a template refuses a chat."""
    raise TemplateError(message)


def environment(date: str | None) -> ImmutableSandboxedEnvironment:
    """Environment of a template; `date` is the day, YYYY-MM-DD, that `strftime_now` formats."""

    def strftime_now(form: str) -> str:
        if date is None:
            raise TemplateError("writes the date, and none was given")
        return datetime.fromisoformat(date).strftime(form)

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = to_json
    del made.filters["random"], made.globals["lipsum"]  # no two runs would have the same prompt
    made.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    made.globals |= {"dict": TemplateDict(), "namespace": TemplateNamespace}
    return made


def limit(cpu_s: float, memory_bytes: int) -> None:
    """Have this process killed after `cpu_s` of processor time, and refused more than `memory_bytes` from now on."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    wanted = pages * resource.getpagesize() + memory_bytes
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)


def render_all(job: dict[str, Any], chats: Iterable[str]) -> Iterable[dict[str, Any]]:
    """Render each chat, a list of messages as JSON."""
    template = environment(job["date"]).from_string(job["template"])
    for chat in chats:
        given = {"messages": json.loads(chat), "tools": None, "documents": None, "add_generation_prompt": True}
        text = template.render(job["variables"] | given)
        if len(text) > max(MAX_CHARACTERS, 4 * len(chat)):
            raise TemplateError(f"writes {len(text)} characters for a chat of {len(chat)}")
        text.encode()  # a template can write halves of surrogate pairs, which no tokenizer reads
        yield {"text": text}


def line_of(error: BaseException) -> int | None:
    """Line of the template where an error came up."""
    if isinstance(error, TemplateSyntaxError):
        return error.lineno
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE_NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def worded(error: Exception) -> str:
    """Sentence for an error of a template."""
    if isinstance(error, MemoryError):
        return "takes too much memory"
    if isinstance(error, RecursionError):
        return "is nested too deep"
    if isinstance(error, TemplateError) and error.message:
        return error.message
    return f"{type(error).__name__}: {error}"


def main() -> None:
    job = json.loads(sys.stdin.readline())
    limit(job["cpu_s"], job["memory_bytes"])
    try:
        for answer in render_all(job, sys.stdin):
            print(json.dumps(answer))
    except Exception as error:  # noqa: BLE001 (whatever a template raises is the template's fault)
        print(json.dumps({"error": worded(error)[:1000], "line": line_of(error)}))


if __name__ == "__main__":
    main()
