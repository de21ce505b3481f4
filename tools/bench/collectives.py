"""Measures what joins the shards of a layer: time to first token by star, ring and tiles, beside one device alone.

    python tools/bench/collectives.py [PROMPT_TOKENS ...]

Everything goes through the command line: `edgeemu simulate` and `edgeemu run` of scenarios/galaxy-lan.yaml, in virtual
mode. Status 1 if a run's times are not those that are simulated, if its tokens are not those of one device, or if the
order of the ways is not single, star, ring, tiles on the longest prompt.
"""

import sys
from typing import Any

from measure import SCENARIOS, Run

SCENARIO = SCENARIOS / "galaxy-lan.yaml"
PROMPTS = (16, 64, 256)
WAYS: dict[str, tuple[str, ...]] = {
    "single": ("policy=single",),
    "galaxy, star": ("sharding.collectives=star",),
    "galaxy, ring": ("sharding.tile_overlap=false",),
    "galaxy, tiles": (),
}
TOLERANCE = 1e-6


def summary(command: str, prompt_tokens: int, changes: tuple[str, ...]) -> dict[str, Any]:
    return Run(command, SCENARIO, f"workload.prompts=[{{tokens: {prompt_tokens}}}]", *changes).summary


def main() -> int:
    prompts = [int(argument) for argument in sys.argv[1:]] or list(PROMPTS)
    missed = []
    print(f"{'prompt':>6}  {'way':14}  {'TTFT, simulated':>15}  {'run':>10}  {'TPOT, simulated':>15}  {'run':>10}")
    for tokens in prompts:
        first_ms = []
        expected: list[list[int]] = []
        for way, changes in WAYS.items():
            told, ran = (summary(command, tokens, changes) for command in ("simulate", "run"))
            times = [(each["ttft_ms"]["mean"], each["tpot_ms"]["mean"]) for each in (told, ran)]
            (told_ttft, told_tpot), (ran_ttft, ran_tpot) = times
            print(
                f"{tokens:>6}  {way:14}  {told_ttft:>12.1f} ms  {ran_ttft:>7.1f} ms  "
                f"{told_tpot:>12.2f} ms  {ran_tpot:>7.2f} ms"
            )
            expected = expected or ran["tokens"]
            first_ms.append(ran_ttft)
            if any(abs(b / a - 1) > TOLERANCE for a, b in zip(*times, strict=True)):
                missed.append(f"{way}, {tokens} tokens: the run's times are not those that are simulated")
            if ran["tokens"] != expected:
                missed.append(f"{way}, {tokens} tokens: other tokens than one device's")
        if tokens == max(prompts) and first_ms != sorted(first_ms, reverse=True):
            missed.append(f"{tokens} tokens: each way should be faster than the one above it")
    for problem in missed:
        print(f"missed: {problem}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
