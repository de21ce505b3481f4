"""Text to token ids and back, and chats to text. Knows a built `tokenizers.Tokenizer`; not the file it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import jinja2
import jinja2.sandbox
import tokenizers

from edgeemu_kernels.errors import ModelFileError

REPLACEMENT = "\ufffd"  # what the decoder puts for bytes that are no character (yet)
END_OF_TURN = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "</s>",
)


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Special tokens as a model's file gives them."""

    bos_id: int | None
    eos_ids: frozenset[int]
    add_bos: bool


class Tokenizer:
    """Wrap a tokenizer; `origin` is the file that errors name."""

    def __init__(
        self, core: tokenizers.Tokenizer, special: SpecialTokens, chat_template: str | None, origin: Path
    ) -> None:
        self._core = core
        self._special = special
        self._origin = origin
        self._template = _compiled(chat_template, origin) if chat_template else None
        known = (core.token_to_id(text) for text in END_OF_TURN)
        special_ids = {i for i, token in core.get_added_tokens_decoder().items() if token.special}
        self.stop_ids = special.eos_ids | frozenset(i for i in known if i is not None and i in special_ids)

    @property
    def vocab_size(self) -> int:
        return self._core.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Encode a text to ids.

        Special tokens written in it are read as such, BOS comes first where the model wants it.
        """
        ids: list[int] = self._core.encode(text, add_special_tokens=False).ids
        bos = self._special.bos_id
        if self._special.add_bos and bos is not None and ids[:1] != [bos]:
            return [bos, *ids]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids to text, without special tokens."""
        text: str = self._core.decode(list(ids), skip_special_tokens=True)
        return text

    def stream(self) -> TextStream:
        """Decoder of ids that arrive one by one."""
        return TextStream(self.decode)

    @property
    def has_chat_template(self) -> bool:
        return self._template is not None

    def chat(self, user: str, system: str | None = None) -> str:
        """Render one user turn with the model's chat template, up to where the assistant begins.

        ModelFileError if the model has no template, or the template refuses (some know no system role).
        """
        if self._template is None:
            raise ModelFileError(self._origin, "has no chat template")
        messages = [{"role": "system", "content": system}] if system is not None else []
        messages.append({"role": "user", "content": user})
        try:
            return self._template.render(
                messages=messages,
                add_generation_prompt=True,
                bos_token=self._text_of(self._special.bos_id),
                eos_token=self._text_of(min(self._special.eos_ids, default=None)),
            )
        except jinja2.TemplateError as error:
            raise ModelFileError(self._origin, f"chat template: {error}") from error

    def _text_of(self, token: int | None) -> str:
        return "" if token is None else (self._core.id_to_token(token) or "")


class TextStream:
    """Incremental decoder, which returns text as soon as it is complete.

    A character may be spread over several tokens, and a token's text may depend
    on the one before it (a leading space), so the last complete piece is kept as context."""

    def __init__(self, decode: Callable[[Iterable[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._known = 0  # ids at the front whose text has been given out; they are context for the rest
        self._given = ""  # that text

    def add(self, token: int) -> str:
        """Text that `token` completes, "" if it completes none."""
        self._ids.append(token)
        text = self._decode(self._ids)
        if text.endswith(REPLACEMENT) and len(self._ids) - self._known < 4:  # a character has at most four bytes
            return ""
        return self._give(text)

    def finish(self) -> str:
        """Text that remains when no more tokens arrive: the replacement character for an incomplete one, or nothing."""
        return self._give(self._decode(self._ids))

    def _give(self, text: str) -> str:
        fresh = text[len(self._given) :]
        self._ids = self._ids[self._known :]
        self._known = len(self._ids)
        self._given = self._decode(self._ids)
        return fresh


def _compiled(template: str, origin: Path) -> jinja2.Template:
    """Compile a chat template as transformers does (`render_jinja_template`), without a clock."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    environment.globals["raise_exception"] = raise_exception
    try:
        return environment.from_string(template)
    except jinja2.TemplateError as error:
        raise ModelFileError(origin, f"chat template: {error}") from error
