"""Compares what a token takes with llama.cpp's time for the same GGUF file: one thread, processor time, in turns.

    pip install xllamacpp         # into the environment of this script; a wheel with llama.cpp in it
    python tools/bench/llama_cpp.py [--turns N] [--json]

SmolLM2's file is written again in each format, with its tokenizer. Each engine decodes in a process of its own, and the
median of the turns' ratios counts. Without llama.cpp it says what to install, and ends with status 0.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gguf
import numpy as np
from measure import Figure, report

from edgeemu.scenario.catalog import model_entry
from edgeemu_kernels.decoder import Decoder
from edgeemu_kernels.weights.open_model import open_model

MODEL = "smollm2-135m-instruct"
LIMITS = {"f32": 1.1, "q8_0": 3.0, "q4_0": 3.0, "q4_1": 3.0}  # times llama.cpp's time
PROMPT = "The capital of France is"
FEW, TOKENS = 8, 72  # tokens of two generations: their difference is decoding alone


def write_as(source: Path, target: Path, name: str) -> None:
    """Write a model's GGUF file with its matrices in another format."""
    reader, writer = gguf.GGUFReader(source), gguf.GGUFWriter(target, "llama")
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(key, field.contents())
        else:
            writer.add_key_value(key, field.contents(), field.types[0])
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        kind = gguf.GGMLQuantizationType["F32" if "norm" in tensor.name else name.upper()]
        writer.add_tensor(tensor.name, gguf.quantize(np.ascontiguousarray(values, np.float32), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def ours_s(path: Path) -> float:
    """Processor time of a token by the kernels here."""
    model = open_model(path, "file")
    assert model.tokenizer is not None
    decoder = Decoder(model.open_source())
    token = int(decoder.prefill(model.tokenizer.encode(PROMPT)).argmax())
    took_s = []
    for _ in range(TOKENS):
        took_s.append(time.process_time())
        token = int(decoder.step(token).argmax())
    return (took_s[-1] - took_s[FEW]) / (TOKENS - 1 - FEW)


def llama_s(path: Path) -> float:
    """Processor time of a token by llama.cpp."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel = 512, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    asked = {"prompt": PROMPT, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
    took_s = []
    for tokens in (FEW, FEW, TOKENS):  # the first warms up
        began_s = time.process_time()
        server.handle_completions({**asked, "n_predict": tokens})
        took_s.append(time.process_time() - began_s)
    return (took_s[2] - took_s[1]) / (TOKENS - FEW)


ENGINES = {"edgeemu": ours_s, "llama.cpp": llama_s}


def apart_s(engine: str, path: Path) -> float:
    """Processor time of a token by an engine in a process of its own."""
    line = [sys.executable, __file__, "--engine", engine, "--file", str(path)]
    done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def compared(source: Path, name: str, turns: int) -> Figure:
    """Compare both engines on the model in one format."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"{name}.gguf"
        write_as(source, path, name)
        times = [[apart_s(engine, path) for engine in ENGINES] for _ in range(turns)]
    ours, theirs = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    what = f"{name}: {ours:.1f} ms a token, and {theirs:.1f} by llama.cpp"
    return Figure(what, statistics.median(mine / other for mine, other in times), LIMITS[name], "x")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--engine", choices=ENGINES, help="print the time of one engine with --file, and end")
    parser.add_argument("--file", type=Path)
    options = parser.parse_args()
    if options.engine:
        print(f"\n{ENGINES[options.engine](options.file)}")
        return 0
    if importlib.util.find_spec("xllamacpp") is None:
        print("llama.cpp is not compared: pip install xllamacpp")
        return 0
    source = model_entry(MODEL).weights_file()
    return report([compared(source, name, options.turns) for name in LIMITS], options.json)


if __name__ == "__main__":
    raise SystemExit(main())
