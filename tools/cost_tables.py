"""Write the tables of docs/costs.md: formulas of costs, and their values for the model of the quickstart.

python tools/cost_tables.py            writes them
python tools/cost_tables.py --check    says which are stale, with exit status 1, and writes nothing

A formula is an expression of Python with the symbols of the page; a test compares its value with what edgeemu counts.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edgeemu.scenario.model import ModelSpec
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.open_model import open_gguf

PAGE = Path(__file__).parents[1] / "docs" / "costs.md"
MODEL = "smollm2-135m-instruct"
PROMPT_ROWS, DECODE_PAST = 32, 100


class BlockFormulas(NamedTuple):
    """Formulas of one execution: bytes of weights, operations, and bytes that it reads beside its weights."""

    block: str
    weights: str
    operations: str
    reads: str = "0"
    own_weights: bool = True  # whether all of them are read


BLOCKS = (
    BlockFormulas("`embed`", "4*(V + P)*D", "0", "4*t*D", own_weights=False),
    BlockFormulas(
        "`head`, n groups of a layer",
        "4*(n*(Q + 2)*d*(D + b) + N)",
        "2*t*D*n*(Q + 2)*d + 4*n*Q*d*(t*p + t*(t + 1)/2)",
        "8*n*d*(p + t)",
    ),
    BlockFormulas("`proj`", "4*(H*d*D + b*D)", "2*t*H*d*D"),
    BlockFormulas("`ffn`", "4*(F*D*(u + 1) + b*(u*F + D) + N)", "2*t*D*F*(u + 1)"),
    BlockFormulas("`lm_head`", "4*(V*D + N)", "2*V*D"),
    BlockFormulas("`proj`, columns of n groups", "4*(n*Q*d*D + z*b*D)", "2*t*D*n*Q*d"),
    BlockFormulas("`ffn`, n units", "4*(n*F/U*(D*(u + 1) + b*u) + N + z*b*D)", "2*t*D*n*F/U*(u + 1)"),
    BlockFormulas("sum of k terms", "0", "(k - 1)*t*D", "4*(k + 1)*t*D"),
    BlockFormulas("norm of rows in a ring", "0", "4*t*D", "8*t*D"),
    BlockFormulas("gathered: q, k and v of n groups", "4*(n*(Q + 2)*d*(D + b) + N)", "2*t*D*n*(Q + 2)*d"),
    BlockFormulas("gathered: attention of G groups", "0", "4*G*Q*d*(t*p + t*(t + 1)/2)", "8*G*d*(p + t)"),
    BlockFormulas("gathered: `proj`, columns for n groups", "4*n*D/G*(H*d + b)", "2*t*H*d*n*D/G"),
    BlockFormulas("gathered: `ffn`, inner columns of n units", "4*(n*F/U*u*(D + b) + N)", "2*t*D*n*F/U*u"),
    BlockFormulas("gathered: `ffn`, columns for n units", "4*n*D/U*(F + b)", "2*t*F*n*D/U"),
    BlockFormulas("gathered: join of columns and x", "0", "t*D", "12*t*D"),
)
MESSAGES = {
    "x, from block to block": "64 + 4*t*D",
    "x, to the output matrix: the last row": "64 + 4*D",
    "outputs of n groups, to the projection": "64 + 4*t*n*Q*d",
    "partial sum of shards": "64 + 4*t*D",
    "the same of the last layer": "64 + 4*D",
    "chunk of r rows in a ring": "64 + 4*r*D",
    "sampled token, to the embedding": "64 + 8",
    "gathered: q, k and v of n groups": "64 + 4*t*n*(Q + 2)*d",
    "gathered: columns of `proj` for n groups": "64 + 4*t*n*D/G",
    "gathered: inner columns of n units": "64 + 4*t*n*F/U",
    "gathered: columns of `ffn` for n units": "64 + 4*t*n*D/U",
}


def symbols(shape: ModelShape) -> dict[str, float]:
    """Values of the symbols that a model fixes."""
    return {
        "V": shape.vocab_size,
        "D": shape.d_model,
        "H": shape.n_heads,
        "G": shape.n_groups,
        "Q": shape.group_size,
        "d": shape.head_dim,
        "F": shape.d_ff,
        "U": shape.ffn_units,
        "u": 2 if shape.activation == "swiglu" else 1,
        "N": shape.d_model * (1 if shape.norm == "rms" else 2),
        "b": int(shape.bias),
        "P": shape.max_context if shape.positions == "learned" else 0,
    }


def value(formula: str, known: dict[str, float]) -> float:
    """Value of a formula of this file."""
    return float(eval(formula, {"__builtins__": {}}, known))


def bytes_read(block: BlockFormulas, known: dict[str, float]) -> float:
    """Bytes that one execution reads from memory."""
    return value(block.reads, known) + (value(block.weights, known) if block.own_weights else 0.0)


def quickstart_shape() -> ModelShape:
    """The shape of the model of the quickstart."""
    path = ModelSpec.model_validate(MODEL).weights().gguf
    assert path is not None
    return open_gguf(path).shape


def example_ms(shape: ModelShape) -> list[tuple[str, float, float]]:
    """Parts of the time to first token and of the second token of the example of the page, in ms, by the formulas.

    Half of the layers are on a laptop with both ends of the model, the others on a nano.
    """
    speeds = {"laptop": (50e9, 10e9), "nano": (100e9, 8e9)}  # operations and bytes per second
    bandwidth_bps, delay_s = 100e6, 2e-3
    known = symbols(shape) | {"n": shape.n_groups}
    steps = {"t": PROMPT_ROWS, "p": 0}, {"t": 1, "p": PROMPT_ROWS}

    def roofline_ms(device: str, *blocks: BlockFormulas) -> list[float]:
        operations_per_s, bytes_per_s = speeds[device]
        return [
            sum(
                1000 * max(value(block.operations, at) / operations_per_s, bytes_read(block, at) / bytes_per_s)
                for block in blocks
            )
            for at in (known | step for step in steps)
        ]

    def message_ms(name: str) -> list[float]:
        return [1000 * (8 * value(MESSAGES[name], known | step) / bandwidth_bps + delay_s) for step in steps]

    embed, head, proj, ffn, lm_head = BLOCKS[:5]
    half = shape.n_layers // 2
    parts = {
        "`embed` on the laptop": roofline_ms("laptop", embed),
        f"{half} layers on the laptop": roofline_ms("laptop", *half * [head, proj, ffn]),
        "x to the nano": message_ms("x, from block to block"),
        f"{half} layers on the nano": roofline_ms("nano", *half * [head, proj, ffn]),
        "x back, the last row": message_ms("x, to the output matrix: the last row"),
        "`lm_head` on the laptop": roofline_ms("laptop", lm_head),
    }
    return [(name, first, second) for name, (first, second) in parts.items()]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def formulas() -> str:
    """Table of the formulas of blocks."""
    rows = []
    for block in BLOCKS:
        reads = ["the weights"] if block.own_weights and block.weights != "0" else []
        reads += [f"`{block.reads}`"] if block.reads != "0" else []
        rows.append([block.block, f"`{block.weights}`", f"`{block.operations}`", " and ".join(reads)])
    return markdown(("block", "weights, bytes", "operations", "bytes read"), rows)


def numbers(shape: ModelShape, decode: dict[str, float], prompt: dict[str, float]) -> str:
    """Table of the values of the formulas of blocks, with all groups or units of a layer on one device."""
    rows = []
    for block in BLOCKS:
        at = decode | {"n": shape.ffn_units if "n units" in block.block else shape.n_groups}
        name = block.block.replace("n groups", f"all {shape.n_groups} groups")
        figures = [value(block.weights, at)]
        for step in (at, at | prompt):
            figures += [value(block.operations, step), bytes_read(block, step)]
        rows.append(
            [name.replace("n units", f"all {shape.ffn_units} units"), *(f"{figure:,.0f}" for figure in figures)]
        )
    of_steps = [f"{what}, {step}" for step in ("decode", "prompt") for what in ("operations", "bytes read")]
    return markdown(("block", "weights", *of_steps), rows)


def tables(shape: ModelShape) -> dict[str, str]:
    """All tables of the page, by name."""
    known = symbols(shape)
    decode = {**known, "t": 1, "p": DECODE_PAST, "n": shape.n_groups, "z": 1, "k": 3, "r": 1}
    prompt = {"t": PROMPT_ROWS, "p": 0, "r": PROMPT_ROWS // 2}
    messages = []
    for name, formula in MESSAGES.items():
        at = decode | {"n": shape.ffn_units if "n units" in name else shape.n_groups}
        messages.append([name, f"`{formula}`", f"{value(formula, at):,.0f}", f"{value(formula, at | prompt):,.0f}"])
    parts = example_ms(shape)
    total = ("sum", sum(first for _, first, _ in parts), sum(second for _, _, second in parts))
    example = [[name, f"{first:.3f}", f"{second:.3f}"] for name, first, second in (*parts, total)]
    return {
        "formulas": formulas(),
        "messages": markdown(("message", "bytes", "decode", f"prompt of {PROMPT_ROWS}"), messages),
        "symbols": markdown(tuple(known), [[f"{number:g}" for number in known.values()]]),
        "numbers": numbers(shape, decode, prompt),
        "example": markdown(("part", "first token, ms", "second token, ms"), example),
    }


def updated(page: str, made: dict[str, str]) -> tuple[str, list[str]]:
    """The page with every table as it is made now, and the names of those that differed."""
    stale = []
    for name, table in made.items():
        found = re.search(rf"(?<=<!-- table: {name} -->\n)(?:\|.*\n)*", page)
        if found is None:
            raise ValueError(f'{PAGE.name} has no place for the table "{name}"')
        if found[0] != table:
            stale.append(name)
            page = page[: found.start()] + table + page[found.end() :]
    return page, stale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say which tables are stale")
    check = parser.parse_args().check
    page, stale = updated(PAGE.read_text("utf-8"), tables(quickstart_shape()))
    if not check:
        PAGE.write_text(page, "utf-8")
    for name in stale:
        print(f"{PAGE.name}: {name}: {'stale (run: python tools/cost_tables.py)' if check else 'written'}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
