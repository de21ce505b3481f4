"""Requests to the model: prompts as tokens, and what ends each. Knows scenario and tokenizer; no cluster."""

from dataclasses import dataclass

import numpy as np

from edgeemu.cluster.draw.cluster import arrivals_s
from edgeemu.scenario.scenario import Scenario
from edgeemu.scenario.workload import Prompt, Stops
from edgeemu_kernels.weights.open_model import Model


@dataclass(frozen=True, slots=True)
class Request:
    """One sequence to generate: its prompt as text and as tokens, and what ends it.

    `arrival_s` is None for a request that arrives as soon as there is a slot for it. `seed` is that of its sampling.
    """

    prompt: str
    ids: tuple[int, ...]
    max_tokens: int
    arrival_s: float | None = None
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()
    stop_texts: tuple[str, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        return len(self.ids)

    @property
    def total_tokens(self) -> int:
        return len(self.ids) + self.max_tokens


def make_requests(scenario: Scenario, model: Model) -> tuple[Request, ...]:
    """Make a request of each prompt.

    Raises:
        RequestError: a prompt or a stop does not fit the model.
        ModelFileError: the tokenizer is broken, even if no prompt needs it: the text will.
    """
    workload, tokenizer = scenario.workload, model.tokenizer
    asked = [(n, prompt) for n, prompt in enumerate(workload.prompts) for _ in range(prompt.repeat)]
    arrive_s = arrivals_s(scenario)
    written = _tokens_of_texts(scenario, model)
    requests = []
    for index, (number, prompt) in enumerate(asked):
        field = f"workload.prompts[{number}]"
        max_tokens = prompt.max_tokens or workload.max_tokens
        _check_context(scenario, model, prompt.tokens or 0, max_tokens, field)  # before any is made
        text, ids = written[number] if number in written else _random_tokens(scenario, model, index, prompt)
        _check_context(scenario, model, len(ids), max_tokens, field)
        if prompt.stop is None:
            stop_ids, stop_texts = _stops(scenario, model, workload.stop, "workload.stop")
        else:
            stop_ids, stop_texts = _stops(scenario, model, prompt.stop, f"{field}.stop")
        request = Request(
            text,
            ids,
            max_tokens,
            arrival_s=arrive_s[index] if arrive_s else None,
            seed=(workload.sampling.seed + index) % 2**63 if prompt.seed is None else prompt.seed,
            stop_ids=stop_ids,
            stop_texts=stop_texts,
        )
        if not ids:
            raise scenario.error(field, "the prompt has no tokens")
        if max(ids) >= model.shape.vocab_size:
            word = f" ({tokenizer.token_text(max(ids))!r})" if tokenizer else ""
            raise scenario.error(
                field,
                f"the tokenizer yields token {max(ids)}{word}, but {model.name} has {model.shape.vocab_size} tokens: "
                "the tokenizer is another model's",
            )
        requests.append(request)
    return tuple(requests)


def _check_context(scenario: Scenario, model: Model, prompt_tokens: int, max_tokens: int, field: str) -> None:
    """Refuse a prompt with more positions than the model has; the last token is sampled, but never fed."""
    positions, context = prompt_tokens + max_tokens - 1, model.shape.max_context
    if positions > context:
        limit = f", limited by {model.context_limit}" if model.context_limit else f", {context} positions"
        raise scenario.error(
            field,
            f"{prompt_tokens} prompt tokens and {max_tokens} new ones need {positions} positions, more than the "
            f"context of {model.name}{limit}; lower max_tokens or shorten the prompt",
        )


def _stops(scenario: Scenario, model: Model, stops: Stops, field: str) -> tuple[frozenset[int], tuple[str, ...]]:
    """Return the tokens and texts that end a sequence. A text that is one token (a special one has no text) is both."""
    tokenizer = model.tokenizer
    if scenario.workload.ignore_stop:
        return frozenset(), ()
    ids = set(tokenizer.stop_ids if tokenizer else model.end_ids)
    texts = [stop for stop in stops if isinstance(stop, str)]
    for stop in stops:
        if isinstance(stop, int):
            if stop >= model.shape.vocab_size:
                raise scenario.error(field, f"{model.name} has {model.shape.vocab_size} tokens, and no token {stop}")
            ids.add(stop)
            continue
        if tokenizer is None:
            raise scenario.error(field, f"{model.name} has no tokenizer; give the numbers of tokens")
        encoded = tokenizer.encode(stop, add_special_tokens=False)
        if encoded and (len(encoded) == 1 or not tokenizer.decode(encoded)):
            ids.add(encoded[-1])
    return frozenset(ids), tuple(texts)


def _random_tokens(scenario: Scenario, model: Model, index: int, prompt: Prompt) -> tuple[str, tuple[int, ...]]:
    """Return a prompt's text to show, and random tokens: as many as the scenario gives."""
    generator = np.random.default_rng([scenario.seed, index])
    ids = generator.integers(0, model.shape.vocab_size, prompt.tokens)  # [tokens]
    return f"({prompt.tokens} random tokens)", tuple(int(token) for token in ids)


def _tokens_of_texts(scenario: Scenario, model: Model) -> dict[int, tuple[str, tuple[int, ...]]]:
    """Return the prompts that are texts, by their numbers, each with its tokens."""
    workload, tokenizer = scenario.workload, model.tokenizer
    texts = {number: prompt.text for number, prompt in enumerate(workload.prompts) if prompt.text is not None}
    if not texts:
        return {}
    if tokenizer is None:
        why = "with weights from a seed" if scenario.model.is_seeded else "without a tokenizer.json"
        raise scenario.error(
            f"workload.prompts[{min(texts)}]",
            f"{model.name} {why} has no tokenizer; give a number of random tokens: {{tokens: 64}}",
        )
    if workload.chat is True and not tokenizer.has_chat_template:
        raise scenario.error("workload.chat", f"{model.name} has no chat template; set chat: false")
    chat = tokenizer.has_chat_template if workload.chat == "auto" else workload.chat
    if workload.system is not None and not chat:
        raise scenario.error(
            "workload.system", "a system prompt needs a chat template; leave it out, or set chat: true"
        )
    system = [] if workload.system is None else [{"role": "system", "content": workload.system}]
    chats = [[*system, {"role": "user", "content": text}] for text in texts.values()]
    written = tokenizer.render(chats, workload.date) if chat else texts.values()
    return {
        number: (text, tuple(tokenizer.encode(rendered, add_special_tokens=not chat)))
        for (number, text), rendered in zip(texts.items(), written, strict=True)
    }
