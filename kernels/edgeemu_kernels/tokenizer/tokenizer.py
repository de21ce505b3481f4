"""Text to token ids and back, and chats to text. Knows a built `tokenizers.Tokenizer`; not the file it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import tokenizers

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.tokenizer.chat import Chat, ChatTemplate
from edgeemu_kernels.tokenizer.library import library_errors

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


class Tokenizer:
    """Wrap a tokenizer; `origin` is the file that errors name.

    The post-processor of `core` adds BOS and EOS as the model's files say. `end_ids` are the tokens that end a text, as
    the files give them; special tokens that are known to end a turn are added to them.
    """

    def __init__(
        self,
        core: tokenizers.Tokenizer,
        bos_id: int | None,
        end_ids: Iterable[int],
        template: ChatTemplate | None,
        origin: Path,
    ) -> None:
        core.no_padding()
        core.no_truncation()
        self._core = core
        self._bos_id = bos_id
        self._template = template
        self._origin = origin
        known = (core.token_to_id(text) for text in END_OF_TURN)
        special_ids = {i for i, token in core.get_added_tokens_decoder().items() if token.special}
        self.stop_ids = frozenset(end_ids) | frozenset(i for i in known if i is not None and i in special_ids)

    @property
    def vocab_size(self) -> int:
        return self._core.get_vocab_size()

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Encode a text to ids. Special tokens written in it are read as such.

        BOS comes first and EOS last where the model's files say so, but never BOS twice. `add_special_tokens` is False
        for what a chat template has written, as in transformers: the template has put them where they belong.

        Raises:
            ModelFileError: the tokenizer cannot encode the text, as its files are wrong.
        """
        with library_errors(self._origin, "tokenizer"):
            ids: list[int] = self._core.encode(text, add_special_tokens=add_special_tokens).ids
        twice = add_special_tokens and self._bos_id is not None and ids[:2] == [self._bos_id] * 2
        return ids[1:] if twice else ids

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids to text, without special tokens."""
        with library_errors(self._origin, "tokenizer"):
            text: str = self._core.decode(list(ids), skip_special_tokens=True)
        return text

    def token_text(self, token: int) -> str:
        """Text of one token as the vocabulary has it."""
        return self._core.id_to_token(token) or ""

    def stream(self) -> TextStream:
        """Decoder of ids that arrive one by one."""
        return TextStream(self.decode)

    @property
    def has_chat_template(self) -> bool:
        return self._template is not None

    def render(self, chats: Sequence[Chat], date: str | None = None) -> list[str]:
        """Render chats with the model's template. Raises ModelFileError if it has none; see `ChatTemplate.render`."""
        if self._template is None:
            raise ModelFileError(self._origin, "has no chat template")
        return self._template.render(chats, date)


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
