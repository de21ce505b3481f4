"""Write the catalog's boards.yaml from boards that others measured: tests/validation/boards.yml and board_names.yml.

python tools/boards.py            writes it
python tools/boards.py --check    says if it is stale, with exit status 1, and writes nothing

Arithmetic is twice that of HPL, which is in double precision (a float32 lane is half as wide). Bandwidth is twice that
of memcpy (tinymembench counts what it copies once, and the memory reads and writes it). The bandwidth of decoding is
the tokens per second of Ollama times the bytes of weights that a token of its model reads. Memory that the system keeps
is what the board has and Linux does not see, and what a fresh system has taken of the rest.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from edgeemu.scenario.catalog import model_entry
from edgeemu.units import BIT_RATE, BYTE_RATE, FLOP_RATE, POWER, SIZE
from edgeemu_kernels.precision import FORMATS
from edgeemu_kernels.shape import ModelShape

ROOT = Path(__file__).parents[1]
MEASURED, NAMES = (ROOT / "tests" / "validation" / name for name in ("boards.yml", "board_names.yml"))
BOARDS = ROOT / "edgeemu" / "scenario" / "catalog" / "boards.yaml"
REVIEWS = "github.com/geerlingguy/sbc-reviews"
MODEL = "llama-3.2-3b"
DIGITS = 3
MIB = 2**20

HEADER = """\
# Boards that others measured. Written by make boards (tools/boards.py) from tests/validation/boards.yml, not by hand:
# measurements of github.com/geerlingguy/sbc-reviews (MIT License, Copyright (c) 2023 Jeff Geerling). devices.yaml says
# what the fields and labels mean.
"""


def finer_layers(n_layers: int) -> int:
    """Number of layers whose values and down projections Q4_K_M has in Q6_K: llama.cpp, `use_more_bits`."""
    eighth = n_layers // 8
    return sum(i < eighth or i >= 7 * n_layers // 8 or (i - eighth) % 3 == 2 for i in range(n_layers))


def q4_k_m_bytes(shape: ModelShape) -> int:
    """Bytes of weights that a token reads of a model in Q4_K_M: all layers, and the output matrix in Q6_K."""
    keys = shape.n_kv_heads * shape.head_dim
    heads = shape.n_heads * shape.head_dim
    value_and_down = _bytes("q6_k", keys, shape.d_model) + _bytes("q6_k", shape.d_model, shape.d_ff)
    coarse = _bytes("q4_k", keys, shape.d_model) + _bytes("q4_k", shape.d_model, shape.d_ff)
    others = _bytes("q4_k", 2 * heads + keys + 2 * shape.d_ff, shape.d_model)
    norms = (2 * shape.n_layers + 1) * shape.d_model * 4
    finer = finer_layers(shape.n_layers)
    layers = shape.n_layers * others + finer * value_and_down + (shape.n_layers - finer) * coarse
    return layers + norms + _bytes("q6_k", shape.vocab_size, shape.d_model)


def _bytes(name: str, rows: int, width: int) -> int:
    return rows * FORMATS[name].row_bytes(width)


def entry(board: Mapping[str, Any], names: Mapping[str, Any], token_bytes: int) -> dict[str, Any]:
    """Make the catalog's entry of a measured board."""
    review = f"{REVIEWS}, issue {board['link'].rsplit('/', 1)[1]}"
    watts, memory = board["power_watts"], names.get("memory")
    made = {
        "title": names["title"],
        "gflops": _figure(
            FLOP_RATE.format_exact(_rounded(2e9 * board["hpl_gflops"])),
            "derived",
            f"Twice the {board['hpl_gflops']} GFLOPS of double-precision HPL, on its processor's cores: {review}",
        ),
        "mem_bandwidth": _bandwidth(board, names, review),
    }
    if tokens := (board.get("ai_cpu") or {}).get("llama3.2_3b"):
        where = "on its GPU" if names.get("on_gpu") else "on its processor's cores"
        source = (
            f"{tokens} tokens/s of Llama 3.2 3B with Ollama {where} × {token_bytes / 1e9:.2f} GB, which a token reads "
            f"of it in Q4_K_M: {review}"
        )
        made["decode_bandwidth"] = _figure(BYTE_RATE.format_exact(_rounded(tokens * token_bytes)), "derived", source)
    if memory:
        size, source = memory
        made["memory"] = _figure(size, "derived", f"{_where(source)}: the board that was tested")
        if "system" in names:
            made["memory_reserved"] = _reserved(SIZE.parse(size), *names["system"], _where(source))
        if "reserved" in names:
            made["memory_reserved"] = _figure(names["reserved"][0], "derived", names["reserved"][1])
    network = board["network_mbps"]
    if (rate := network["primary"]) and rate != network.get("wifi"):  # a radio is a link, not a device
        made["nic"] = _figure(BIT_RATE.format_exact(rate * 1e6), "measured", f"TCP, by iperf3: {review}")
    made["power"] = {
        "idle": _figure(POWER.format_exact(watts["idle"]), "measured", f"At the socket: {review}"),
        "busy": _busy(watts, review),
    }
    made["price_usd"] = _figure(board["price_as_tested"], "measured", f"As tested, {board['year']}: {review}")
    return made


def _bandwidth(board: Mapping[str, Any], names: Mapping[str, Any], review: str) -> dict[str, Any]:
    if "bandwidth" in names:
        value, source = names["bandwidth"]
        return _figure(value, "peak", f"Peak: {source}")
    copied = board["memory_mb_sec"]["memcpy"]
    source = f"Twice the {copied} MB/s that one core copies (tinymembench, memcpy), since each byte is read and written"
    return _figure(BYTE_RATE.format_exact(_rounded(2e6 * copied)), "derived", f"{source}: {review}")


def _reserved(memory_bytes: float, used_mib: int, seen_mib: int, where: str) -> dict[str, Any]:
    unseen_mib = round(memory_bytes / MIB) - seen_mib
    source = f"{unseen_mib} MiB that Linux does not see, and {used_mib} of {seen_mib} MiB that a fresh system has taken"
    if unseen_mib == 0:
        source = f"{used_mib} of {seen_mib} MiB that its system has taken when nothing else runs"
    return _figure(f"{unseen_mib + used_mib} MiB", "derived", f"{source}: {where}")


def _busy(watts: Mapping[str, float], review: str) -> dict[str, Any]:
    work = "HPL" if watts["hpl"] is not None else "stress-ng"
    drawn = POWER.format_exact(watts["hpl"] if watts["hpl"] is not None else watts["stress"])
    return _figure(drawn, "measured", f"At the socket, during {work} on all cores: {review}")


def _figure(value: object, label: str, source: str) -> dict[str, Any]:
    return {"value": value, "label": label, "source": source}


def _where(source: str) -> str:
    return f"{REVIEWS}, {source}" if source.startswith("issue") else source


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def entries() -> Iterator[tuple[str, dict[str, Any]]]:
    """Make the entries of all boards that have a name, in the order of the measurements."""
    measured = yaml.safe_load(MEASURED.read_text("utf-8"))["items"]
    names = yaml.safe_load(NAMES.read_text("utf-8"))
    token_bytes = q4_k_m_bytes(model_entry(MODEL).model_shape())
    for board in measured:
        if board["name"] in names:
            yield names[board["name"]]["name"], entry(board, names[board["name"]], token_bytes)


def text() -> str:
    """Return the contents of boards.yaml."""
    parts = [HEADER]
    for name, made in entries():
        parts.append(f"\n{name}:\n")
        parts += [f"  {key}: {_inline(value)}\n" for key, value in made.items() if key != "power"]
        parts.append("  power:\n")
        parts += [f"    {key}: {_inline(value)}\n" for key, value in made["power"].items()]
    return "".join(parts)


def _inline(value: Any) -> str:
    """A value as YAML on one line."""
    dumped: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return dumped.split("\n")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="say if the file is stale; write nothing")
    check = parser.parse_args().check
    made = text()
    if check:
        if BOARDS.read_text("utf-8") != made:
            sys.exit(f"{BOARDS} is stale: run make boards")
        return
    BOARDS.write_text(made, "utf-8")


if __name__ == "__main__":
    main()
