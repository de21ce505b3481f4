"""Observation of an OpenAI-compatible server: streamed completions, with the instant of every token.

Source of the protocol: platform.openai.com/docs/api-reference/completions (`stream`, `stream_options`), which
llama.cpp's server, Ollama, vLLM and others speak. Knows no clock and no chance but those that it is given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from edgeemu.errors import RequestError, RunError
from edgeemu.report.figure_texts import human_text
from edgeemu.report.formats import Table

if TYPE_CHECKING:
    from random import Random

TIMEOUT_S = 600.0  # of one token: a board that swaps is slow
# Words that are one token each in the vocabularies of most models.
WORDS = (
    "time",
    "year",
    "way",
    "day",
    "man",
    "life",
    "child",
    "world",
    "school",
    "state",
    "group",
    "hand",
    "part",
    "home",
)


def observe_server(
    url: str, model: str, prompt_tokens: Sequence[int], tokens: int, clock: Callable[[], float], chance: Random
) -> dict[str, Any]:
    """Ask for one completion of each length of prompt, one after the other, and return what `calibrate` reads.

    Raises `RequestError` for a URL that is none, `RunError` if the server does not answer as it should.
    """
    base = urlsplit(url.rstrip("/"))
    if base.scheme not in ("http", "https") or not base.hostname:
        raise RequestError(f'"{url}" is not a URL like http://host:8080/v1', field="--url")
    completions = []
    for length in prompt_tokens:
        prompt = " ".join(chance.choice(WORDS) for _ in range(length))
        asked = {"model": model, "prompt": prompt, "max_tokens": tokens, "stream": True}
        asked |= {"temperature": 0, "stream_options": {"include_usage": True}}
        completions.append(_completion(base, asked, length, clock))
    return {"url": url, "model": model, "completions": completions}


def _completion(base: SplitResult, asked: Mapping[str, Any], length: int, clock: Callable[[], float]) -> dict[str, Any]:
    """One completion: its lengths in tokens, and the seconds from the request to each piece of text."""
    kind = HTTPSConnection if base.scheme == "https" else HTTPConnection
    connection = kind(base.hostname or "", base.port, timeout=TIMEOUT_S)
    try:
        connection.connect()  # not a part of what is timed
        began_s = clock()
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        connection.request("POST", f"{base.path}/completions", json.dumps(asked), headers)
        response = connection.getresponse()
        kind_of_answer = response.headers.get_content_type()
        how = "" if kind_of_answer == "text/event-stream" else f" as {kind_of_answer}, which is no stream"
        token_s, usage = _received(response, base, lambda: clock() - began_s)
    except (OSError, HTTPException) as error:
        raise RunError(f"{base.geturl()} does not answer: {error}") from error
    finally:
        connection.close()
    if len(token_s) < 2:
        pieces = f"{len(token_s)} piece{'s' * (len(token_s) != 1)} of text"
        raise RunError(f"{base.geturl()} sent {pieces}{how}; a time per token needs a stream of two at least")
    reported = usage.get("prompt_tokens")
    return {
        "prompt_tokens": reported if isinstance(reported, int) and reported > 0 else length,
        "prompt_tokens_reported": isinstance(reported, int) and reported > 0,
        "tokens": max(len(token_s), int(usage.get("completion_tokens") or 0)),
        "token_s": token_s,
    }


def _received(
    response: HTTPResponse, base: SplitResult, since_s: Callable[[], float]
) -> tuple[list[float], Mapping[str, Any]]:
    """Instants of the pieces of text of a stream, and the server's own count of tokens."""
    if response.status != 200:
        said = " ".join(response.read(400).decode("utf-8", "replace").split())
        raise RunError(f"{base.geturl()} answers {response.status} {response.reason}: {said[:200]}")
    token_s: list[float] = []
    usage: Mapping[str, Any] = {}
    for event in _events(response):
        at_s = since_s()
        if error := event.get("error"):
            raise RunError(f"{base.geturl()} reports: {error}")
        usage = event.get("usage") or usage
        if any(choice.get("text") for choice in event.get("choices") or ()):
            token_s.append(at_s)
    return token_s, usage


def _events(response: HTTPResponse) -> Iterator[Mapping[str, Any]]:
    """Server-sent events, as they arrive, up to [DONE]."""
    while line := response.readline():
        field, _, data = line.decode("utf-8", "replace").strip().partition(":")
        if field != "data" or not data.strip():
            continue
        if data.strip() == "[DONE]":
            return
        try:
            event = json.loads(data)
        except json.JSONDecodeError as error:
            raise RunError(f"the server sent an event that is not JSON: {data.strip()[:80]}") from error
        if isinstance(event, dict):
            yield event


def observed_table(document: Mapping[str, Any]) -> Table:
    """Make the table of what was observed."""
    rows = []
    for completion in document["completions"]:
        first_s, last_s, tokens = completion["token_s"][0], completion["token_s"][-1], completion["tokens"]
        per_token_s = (last_s - first_s) / (tokens - 1)
        rate = f"{1 / per_token_s:.2f}" if per_token_s > 0 else "–"
        shown = f"{completion['prompt_tokens']}" + ("" if completion["prompt_tokens_reported"] else " (asked)")
        rows.append([shown, human_text("duration", first_s), str(tokens), human_text("duration", per_token_s), rate])
    return Table((">prompt tokens", ">first token after", ">tokens", ">time per token", ">tokens/s"), rows)
