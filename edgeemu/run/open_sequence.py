"""Sequences that are being generated."""

from typing import TYPE_CHECKING

from edgeemu.report.rows import SequenceRow
from edgeemu.run.backend import NO_TOKEN, Instant, SampledToken
from edgeemu.run.requests import Request
from edgeemu.scenario.workload import LatencyTarget

if TYPE_CHECKING:
    from edgeemu_kernels.tokenizer.tokenizer import TextStream


class OpenSequence:
    """A sequence between its first step and its last token: its request, its text so far, and its next input."""

    def __init__(self, request: Request, stream: "TextStream | None", arrival: Instant, start_s: float) -> None:
        self.request = request
        self.ids = list(request.ids)  # of the prompt and its tokens so far
        self.next_ids = list(request.ids)
        self.since = arrival  # or its last token
        self.released_s = start_s  # its step in flight
        self.text = ""
        self._stream = stream
        self._arrival_s = arrival.emulated_s
        self._start_s = start_s
        self._tokens = 0
        self._first_s = self._last_s = 0.0  # when its first and its last token were sampled

    def add(self, sampled: SampledToken) -> str:
        """Take a token. Return what it adds to the text: its number if there is no tokenizer, "" without a model."""
        token, self.next_ids, self.since = sampled.token, [sampled.token], sampled.at
        self.ids.append(token)
        self._last_s = sampled.at.emulated_s
        if not self._tokens:
            self._first_s = self._last_s
        self._tokens += 1
        if token == NO_TOKEN:
            return ""
        added = self._stream.add(token) if self._stream else f"{token} "
        self.text += added
        return added

    def ended_by(self) -> str:
        """Return why the last token ends the sequence: stop or length; "" if it does not."""
        asked, (last,) = self.request, self.next_ids
        if last in asked.stop_ids or any(stop in self.text for stop in asked.stop_texts):
            return "stop"
        return "length" if self._tokens == asked.max_tokens else ""

    def row(self, sequence: int, target: LatencyTarget | None) -> SequenceRow:
        """Return the row of a sequence that has ended, judged by a latency target."""
        first_s, last_s, later = self._first_s, self._last_s, self._tokens - 1
        ttft_s, tpot_s = first_s - self._arrival_s, (last_s - first_s) / later if later else None
        return SequenceRow(
            sequence=sequence,
            prompt_tokens=self.request.prompt_tokens,
            tokens=self._tokens,
            arrival_s=self._arrival_s,
            start_s=self._start_s,
            queue_s=self._start_s - self._arrival_s,
            ttft_s=ttft_s,
            tpot_s=tpot_s,
            end_s=last_s,
            ended_by=self.ended_by(),
            good=None if target is None else target.met(ttft_s, tpot_s),
            tail_text=self._stream.finish() if self._stream else "",
        )
