"""Measurements from JSON: of `llama-bench -o json` (or jsonl), and of `edgeemu observe`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from edgeemu.errors import RequestError
from edgeemu.run.calibrate.left_out import LeftOut
from edgeemu.run.calibrate.measurement import (
    HeldAs,
    Measurement,
    link_named,
    model_named,
    model_of_size,
    weight_format,
)
from edgeemu.run.calibrate.read_csv import Defaults
from edgeemu.scenario.catalog import model_entry
from edgeemu.scenario.files import read_text
from edgeemu.scenario.options import NumberFormatName

BENCHED = "llama.cpp"  # engine that llama-bench measures


def read_json(path: Path, defaults: Defaults, left_out: LeftOut) -> list[Measurement]:
    """Read the measurements of a JSON file that can be used. Raises `RequestError`: it is of no known kind."""
    try:
        text = read_text(path, str(path))
    except OSError as error:
        raise RequestError((error.strerror or str(error)).lower(), file=str(path)) from error
    data = _parsed(text, path, left_out)
    if isinstance(data, dict) and "completions" in data:
        return _observed(data, path, defaults, left_out)
    entries = data if isinstance(data, list) else [data]
    if any(_is_bench(entry) for entry in entries):
        on_processor = any(_is_bench(entry) and entry.get("n_gpu_layers") == 0 for entry in entries)
        numbered = list(enumerate(entries))
        return list(
            left_out.usable(numbered, lambda one: _benched(one[1], f"{path}[{one[0]}]", defaults, on_processor))
        )
    raise RequestError("is neither what llama-bench -o json prints nor what edgeemu observe writes", file=str(path))


def _parsed(text: str, path: Path, left_out: LeftOut) -> Any:
    """Data of a file; of one with a value in each line, those of the lines that are JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:

        def read(line: tuple[int, str]) -> Any:
            try:
                return json.loads(line[1])
            except json.JSONDecodeError as wrong:
                raise RequestError(f"is not JSON: {wrong.msg}", file=str(path), line=line[0]) from None

        lines, of_lines = [line for line in enumerate(text.splitlines(), 1) if line[1].strip()], LeftOut()
        values = list(of_lines.usable(lines, read))
        if not any(map(_is_bench, values)):
            raise RequestError(f"is not JSON: {error.msg}", file=str(path), line=error.lineno) from None
        left_out.errors += of_lines.errors
        return values


def _is_bench(entry: Any) -> bool:
    return isinstance(entry, dict) and "n_prompt" in entry and "n_gen" in entry


def _benched(entry: Any, where: str, defaults: Defaults, on_processor: bool) -> Measurement:
    """Measurement of one test of llama-bench: pp is a prompt, tg is decoding from an empty cache or one of n_depth.

    `on_processor`: others of its file ran on the processor alone.
    """
    if not _is_bench(entry):
        raise RequestError("is no test of llama-bench", file=where)
    prompt, generated, depth = (_count(entry, key, where) for key in ("n_prompt", "n_gen", "n_depth"))
    if bool(prompt) == bool(generated):
        raise RequestError("has n_prompt and n_gen together (pg): measure them apart, with -p and -n", file=where)
    if depth and prompt:
        raise RequestError("is a prompt after n_depth cached positions, which is not fitted: use -d 0", file=where)
    per_s, n_weights, size_bytes = (_positive(entry, key, where) for key in ("avg_ts", "model_n_params", "model_size"))
    kind = str(entry.get("model_type", ""))
    try:
        model = model_named(defaults.model) if defaults.model else model_of_size(n_weights, kind)
    except RequestError as error:
        raise RequestError(error.message, file=where, field="model_n_params") from None
    _check_accelerated(entry, model, where, on_processor=on_processor)
    return Measurement(
        where=where,
        model=model,
        engine=BENCHED,
        cache=_cache(entry, where),
        weights=_sized(kind, 8 * size_bytes / n_weights),
        nodes=defaults.nodes,
        link=_link(defaults, where),
        taken_s=prompt / per_s if prompt else 1.0 / per_s,
        phase="prefill" if prompt else "decode",
        context=prompt or max(1, depth + generated // 2),
    )


def _check_accelerated(entry: Mapping[str, Any], model: str, where: str, *, on_processor: bool) -> None:
    """Refuse a test of two processors, or of another than the file's other tests: figures are those of one.

    llama-bench says 99 layers by default also where there is no accelerator (`backends`: CPU, or BLAS).
    """
    offloaded, backends = _count(entry, "n_gpu_layers", where), str(entry.get("backends", "CPU"))
    if not offloaded or set(backends.split(",")) <= {"CPU", "BLAS"}:
        return
    n_layers = model_entry(model).model_shape().n_layers
    if offloaded <= n_layers:  # one more is for the output matrix
        message = f"{offloaded} of {n_layers + 1} layers were computed with {backends}, and others by the processor"
        raise RequestError(message, file=where, field="n_gpu_layers")
    if on_processor:
        message = f"was computed with {backends}, and others of the file by the processor: calibrate them apart"
        raise RequestError(message, file=where, field="n_gpu_layers")


def _cache(entry: Mapping[str, Any], where: str) -> str | None:
    """Format of keys and values of a test; None: it does not say."""
    keys, values = (entry.get(key) for key in ("type_k", "type_v"))
    if keys != values:
        raise RequestError(f"keys are in {keys} and values in {values}: edgeemu has one format for both", file=where)
    if keys is not None and keys not in get_args(NumberFormatName):
        raise RequestError(f"edgeemu has no caches in {keys} ({', '.join(get_args(NumberFormatName))})", file=where)
    return keys


def _sized(kind: str, bits_per_weight: float) -> HeldAs:
    """Format with so many bits; by its name, the last word of a type ("llama 8B Q4_0"), where that is what it has."""
    try:
        named = weight_format(kind.split()[-1] if kind else "")
    except RequestError:
        return weight_format("", bits_per_weight)
    other = weight_format("", bits_per_weight)
    return named if named == other else other


def _observed(data: Mapping[str, Any], path: Path, defaults: Defaults, left_out: LeftOut) -> list[Measurement]:
    """Two measurements of each completion: the prompt, up to the first token, and the tokens after it."""
    wanted = defaults.model or str(data.get("model", ""))
    if defaults.weights is None:
        raise RequestError("does not say in which format the weights are: give --weights", file=str(path))
    try:
        model = model_named(wanted)
    except RequestError as error:
        raise RequestError(f"{error.message}; give --model", file=str(path), field="model") from None
    weights, link = weight_format(defaults.weights), _link(defaults, str(path))

    def read(numbered: tuple[int, Any]) -> list[Measurement]:
        n, completion = numbered
        where = f"{path}: completions[{n}]"
        if not isinstance(completion, dict):
            raise RequestError("is no completion", file=where)
        prompt = _count(completion, "prompt_tokens", where)
        token_s = completion.get("token_s")
        if not isinstance(token_s, list) or len(token_s) < 2 or sorted(token_s) != token_s or not token_s[0] > 0:
            raise RequestError("must have at least two rising instants", file=where, field="token_s")
        later = max(len(token_s), _count(completion, "tokens", where)) - 1  # a piece of text can be several tokens
        per_token_s, context = (token_s[-1] - token_s[0]) / later, prompt + later // 2 + 1
        return [
            Measurement(where, model, weights, defaults.nodes, link, token_s[0], "prefill", max(1, prompt)),
            Measurement(where, model, weights, defaults.nodes, link, per_token_s, "decode", context),
        ]

    return [each for pair in left_out.usable(enumerate(data["completions"]), read) for each in pair]


def _link(defaults: Defaults, where: str) -> Any:
    if defaults.nodes == 1:
        return None
    if defaults.link is None:
        raise RequestError(f"{defaults.nodes} nodes are joined by something: give --link", file=where)
    return link_named(defaults.link)


def _count(entry: Mapping[str, Any], key: str, where: str) -> int:
    value = entry.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RequestError(f"{value!r} is not a whole number from 0", file=where, field=key)
    return value


def _positive(entry: Mapping[str, Any], key: str, where: str) -> float:
    value = entry.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise RequestError("is missing" if value is None else f"{value!r} is not more than 0", file=where, field=key)
    return float(value)
