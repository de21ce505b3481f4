"""Observation of a server on loopback that streams tokens at instants that it knows."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from random import Random
from threading import Thread
from typing import Any, ClassVar

import pytest

from edgeemu.errors import RequestError, RunError
from edgeemu.run.calibrate.left_out import LeftOut
from edgeemu.run.calibrate.observe import observe_server
from edgeemu.run.calibrate.read_csv import Defaults
from edgeemu.run.calibrate.read_json import read_json

PROMPT_S, TOKEN_S = 0.1, 0.02


class Handler(BaseHTTPRequestHandler):
    """A server that takes a millisecond for each token of a prompt, and `TOKEN_S` for each of the completion."""

    usage = True
    mistake = ""
    asked: ClassVar[list[dict[str, Any]]] = []  # emptied by the fixture

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body | {"path": self.path})
        if self.mistake == "404":
            self.send_error(404, "no such model")
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if self.mistake == "whole" else "text/event-stream")
        self.end_headers()
        if self.mistake == "whole":
            self.wfile.write(json.dumps({"choices": [{"text": "all of it"}]}).encode())
            return
        time.sleep(PROMPT_S)
        if self.mistake == "text":
            self.wfile.write(b"data: {nothing\n\n")
            return
        for n in range(1 if self.mistake == "short" else body["max_tokens"]):
            time.sleep(TOKEN_S if n else 0)
            self._send({"choices": [{"text": f" {n}"}]})
        if self.usage:
            tokens = len(body["prompt"].split()) + 1
            self._send({"choices": [], "usage": {"prompt_tokens": tokens, "completion_tokens": body["max_tokens"]}})
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the test's output is read by people."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Handler, "asked", [])
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def observed(url: str, lengths: list[int], tokens: int = 6) -> dict[str, Any]:
    return observe_server(url, "some", lengths, tokens, time.monotonic, Random(1))


def test_every_token_has_its_instant(url):
    document = observed(url, [16, 128])
    assert [completion["prompt_tokens"] for completion in document["completions"]] == [17, 129]
    for completion in document["completions"]:
        token_s = completion["token_s"]
        assert len(token_s) == completion["tokens"] == 6
        assert token_s[0] >= PROMPT_S
        assert token_s[-1] >= PROMPT_S + 5 * TOKEN_S
        assert token_s == sorted(token_s)
    assert [len(asked["prompt"].split()) for asked in Handler.asked] == [16, 128]
    assert {(asked["path"], asked["stream"], asked["max_tokens"]) for asked in Handler.asked} == {
        ("/v1/completions", True, 6)
    }


def test_what_was_observed_can_be_fitted(url, tmp_path):
    path = tmp_path / "observed.json"
    document = observed(url, [16])
    path.write_text(json.dumps(document))
    prompt, decoding = read_json(path, Defaults(model="llama-3.2-1b", weights="q4_0"), LeftOut())
    assert (prompt.phase, prompt.context) == ("prefill", 17)
    assert prompt.taken_s >= PROMPT_S
    assert decoding.phase == "decode"
    first_s, *_, last_s = document["completions"][0]["token_s"]
    assert decoding.taken_s == pytest.approx((last_s - first_s) / 5)
    with pytest.raises(RequestError, match="give --weights"):
        read_json(path, Defaults(model="llama-3.2-1b"), LeftOut())
    with pytest.raises(RequestError, match=r'model: there is no model "some" .* give --model'):
        read_json(path, Defaults(weights="q4_0"), LeftOut())


def test_a_server_that_counts_nothing_is_taken_at_its_pieces(url, monkeypatch):
    monkeypatch.setattr(Handler, "usage", False)
    (completion,) = observed(url, [16])["completions"]
    assert (completion["prompt_tokens"], completion["prompt_tokens_reported"], completion["tokens"]) == (16, False, 6)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("404", "answers 404 no such model"),
        ("text", "not JSON"),
        ("short", "1 piece of text; .* two at least"),
        ("whole", "0 pieces of text as application/json, which is no stream"),
    ],
)
def test_a_server_that_fails_is_told(url, monkeypatch, mistake, message):
    monkeypatch.setattr(Handler, "mistake", mistake)
    with pytest.raises(RunError, match=message):
        observed(url, [4])


def test_nobody_at_the_address_is_told():
    with pytest.raises(RunError, match=r"127.0.0.1:9/v1 does not answer"):
        observed("http://127.0.0.1:9/v1", [4])
    with pytest.raises(RequestError, match=r"--url: .*not a URL"):
        observed("pi.local:8080", [4])
