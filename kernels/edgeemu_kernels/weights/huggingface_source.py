"""Weights from a Hugging Face directory, by the index of `safetensors_index`. Knows tensor names; no config.

Llama family: `layers.N.self_attn.q_proj.weight` …, stored [out, in]. GPT-2: `h.N.attn.c_attn.weight` …,
Conv1D, stored [in, out], with Q, K and V side by side along the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeemu_kernels.attention import Heads
from edgeemu_kernels.dense import Embed, Ffn, LmHead, Proj
from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.linear import Array
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.packed import Matrix, empty_matrix, rows_of
from edgeemu_kernels.precision import Matrix as MatrixName
from edgeemu_kernels.precision import NumberFormat
from edgeemu_kernels.rope import Rope
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.quants import named_format
from edgeemu_kernels.weights.tensorfile import Dims, Tensor, TensorFiles, part_of_bias, runs

EMBEDDINGS = {"llama": "embed_tokens.weight", "gpt2": "wte.weight"}  # name of the embedding by architecture


def required_tensors(shape: ModelShape, architecture: str) -> dict[str, Dims]:
    """Tensors that the blocks of this shape consist of, with their dims."""
    s = shape
    d, f, q_rows, kv_rows = s.d_model, s.d_ff, s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim
    wanted: dict[str, Dims]
    per_layer: dict[str, Dims]
    if architecture == "gpt2":
        prefix = "h"
        wanted = {"wte.weight": (s.vocab_size, d), "wpe.weight": (s.max_context, d)}
        wanted |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
        per_layer = {f"ln_{i}.{part}": (d,) for i in (1, 2) for part in ("weight", "bias")}
        products = {"attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d), "mlp.c_fc": (d, f), "mlp.c_proj": (f, d)}
        for name, dims in products.items():
            per_layer |= {f"{name}.weight": dims, f"{name}.bias": dims[1:]}
    else:
        prefix = "layers"
        wanted = {"embed_tokens.weight": (s.vocab_size, d), "norm.weight": (d,)}
        per_layer = {
            "input_layernorm.weight": (d,),
            "self_attn.q_proj.weight": (q_rows, d),
            "self_attn.k_proj.weight": (kv_rows, d),
            "self_attn.v_proj.weight": (kv_rows, d),
            "self_attn.o_proj.weight": (d, q_rows),
            "post_attention_layernorm.weight": (d,),
            "mlp.gate_proj.weight": (f, d),
            "mlp.up_proj.weight": (f, d),
            "mlp.down_proj.weight": (d, f),
        }
    if not s.tied_embeddings:
        wanted["lm_head.weight"] = (s.vocab_size, d)
    for layer in range(s.n_layers):
        wanted |= {f"{prefix}.{layer}.{name}": dims for name, dims in per_layer.items()}
    return wanted


class HuggingFaceSource:
    """Source of weights over *.safetensors of the Llama family (`architecture` "llama") or GPT-2 ("gpt2")."""

    def __init__(self, path: Path, shape: ModelShape, architecture: str, index: dict[str, Any]) -> None:
        """Open the files of an index.

        Name -> [file within `path`, offset in it, dtype, dims]; names without the base model's prefix.
        """
        self.shape = shape
        self._gpt2 = architecture == "gpt2"
        tensors = {}
        for name, (file, offset, dtype, dims) in index.items():
            number_format = named_format(dtype)
            if number_format is None:
                raise ModelFileError(path / file, f"tensor {name!r} has the unsupported type {dtype}")
            tensors[name] = Tensor(path / file, offset, number_format, tuple(dims))
        self._files = TensorFiles(path, tensors)
        self._rope = None if self._gpt2 else Rope(shape)

    def embed(self) -> Embed:
        return Embed(self._table(EMBEDDINGS["gpt2" if self._gpt2 else "llama"], "embed"), self.positions())

    def positions(self) -> Array | None:
        if not self._gpt2:
            return None
        positions: Array = np.empty((self.shape.max_context, self.shape.d_model), np.float32)
        self._files.rows("wpe.weight", positions, self.shape.max_context)
        return positions

    def heads(self, layer: int, groups: Sequence[int]) -> Heads:
        norm_name = f"h.{layer}.ln_1" if self._gpt2 else f"layers.{layer}.input_layernorm"
        heads = Heads.empty(self.shape, layer, groups, self._norm(norm_name), self._rope)
        for group in groups:
            if self._gpt2:
                self._fill_gpt2(heads, layer, group)
            else:
                self._fill_llama(heads, layer, group)
        return heads

    def proj(self, layer: int, groups: Sequence[int] | None = None, rows: range | None = None) -> Proj:
        s = self.shape
        width, form = s.n_heads * s.head_dim, s.precision.weights("proj")
        if groups is not None:
            return self._proj_part(layer, groups, rows)
        if self._gpt2:
            name = f"h.{layer}.attn.c_proj"
            return Proj(self._conv1d(name, s.d_model, width, form), self._files.vector(f"{name}.bias", s.d_model))
        return Proj(self._files.matrix(f"layers.{layer}.self_attn.o_proj.weight", s.d_model, width, form))

    def ffn(self, layer: int, units: Sequence[int] | None = None, rows: range | None = None) -> Ffn:
        s = self.shape
        if units is not None:
            return self._ffn_part(layer, units, rows)
        up_form, down_form = s.precision.weights("up"), s.precision.weights("down")
        if self._gpt2:
            fc, proj = f"h.{layer}.mlp.c_fc", f"h.{layer}.mlp.c_proj"
            return Ffn(
                self._norm(f"h.{layer}.ln_2"),
                False,
                self._conv1d(fc, s.d_ff, s.d_model, up_form),
                self._conv1d(proj, s.d_model, s.d_ff, down_form),
                self._files.vector(f"{fc}.bias", s.d_ff),
                self._files.vector(f"{proj}.bias", s.d_model),
            )
        prefix = f"layers.{layer}.mlp"
        up = empty_matrix(2 * s.d_ff, s.d_model, up_form)
        self._files.rows(f"{prefix}.gate_proj.weight", rows_of(up, slice(s.d_ff)), s.d_ff)
        self._files.rows(f"{prefix}.up_proj.weight", rows_of(up, slice(s.d_ff, None)), s.d_ff)
        down = self._files.matrix(f"{prefix}.down_proj.weight", s.d_model, s.d_ff, down_form)
        return Ffn(self._norm(f"layers.{layer}.post_attention_layernorm"), True, up, down)

    def _proj_part(self, layer: int, groups: Sequence[int], rows: range | None) -> Proj:
        s = self.shape
        width, out = s.n_heads * s.head_dim, rows or range(s.d_model)
        columns = runs(groups, s.group_dim) if rows is None else [range(width)]
        weight = empty_matrix(len(out), sum(map(len, columns)), s.precision.weights("proj"))
        if self._gpt2:
            name = f"h.{layer}.attn.c_proj"
            self._files.transposed(f"{name}.weight", weight, (width, s.d_model), columns, [out])
            bias = part_of_bias(self._files.vector(f"{name}.bias", s.d_model), groups, rows)
            return Proj(weight, bias, tuple(groups))
        name = f"layers.{layer}.self_attn.o_proj.weight"
        self._files.part(name, weight, (s.d_model, width), [out], columns)
        return Proj(weight, groups=tuple(groups))

    def _ffn_part(self, layer: int, units: Sequence[int], rows: range | None) -> Ffn:
        s, everything = self.shape, [range(self.shape.d_model)]
        mine, width = runs(units, s.ffn_unit_dim), len(units) * s.ffn_unit_dim
        up_rows = width if self._gpt2 else 2 * width
        up = empty_matrix(up_rows, s.d_model, s.precision.weights("up"))
        out, columns = rows or range(s.d_model), mine if rows is None else [range(s.d_ff)]
        down = empty_matrix(len(out), sum(map(len, columns)), s.precision.weights("down"))
        if self._gpt2:
            fc, proj = f"h.{layer}.mlp.c_fc", f"h.{layer}.mlp.c_proj"
            self._files.transposed(f"{fc}.weight", up, (s.d_model, s.d_ff), everything, mine)
            self._files.transposed(f"{proj}.weight", down, (s.d_ff, s.d_model), columns, [out])
            bias = self._files.vector(f"{fc}.bias", s.d_ff)
            up_bias = np.concatenate([bias[run.start : run.stop] for run in mine])  # [width]
            down_bias = part_of_bias(self._files.vector(f"{proj}.bias", s.d_model), units, rows)
            return Ffn(self._norm(f"h.{layer}.ln_2"), False, up, down, up_bias, down_bias, tuple(units))
        prefix = f"layers.{layer}.mlp"
        dims = (s.d_ff, s.d_model)
        self._files.part(f"{prefix}.gate_proj.weight", rows_of(up, slice(width)), dims, mine, everything)
        self._files.part(f"{prefix}.up_proj.weight", rows_of(up, slice(width, None)), dims, mine, everything)
        self._files.part(f"{prefix}.down_proj.weight", down, (s.d_model, s.d_ff), [out], columns)
        norm = self._norm(f"layers.{layer}.post_attention_layernorm")
        return Ffn(norm, True, up, down, units=tuple(units))

    def lm_head(self, embed: Embed | None = None) -> LmHead:
        norm = self.final_norm()
        if not self.shape.tied_embeddings:
            return LmHead(norm, self._table("lm_head.weight", "lm_head"))
        if embed is not None:
            return LmHead(norm, embed.table, shared=True)
        return LmHead(norm, self._table(EMBEDDINGS["gpt2" if self._gpt2 else "llama"], "embed"))

    def final_norm(self) -> Norm:
        return self._norm("ln_f" if self._gpt2 else "norm")

    def _fill_llama(self, heads: Heads, layer: int, group: int) -> None:
        s, prefix = self.shape, f"layers.{layer}.self_attn"
        to, kv_rows = heads.group_weights(group), s.n_kv_heads * s.head_dim
        self._files.rows(f"{prefix}.q_proj.weight", to.wq, s.n_heads * s.head_dim, group * s.group_dim)
        self._files.rows(f"{prefix}.k_proj.weight", to.wk, kv_rows, group * s.head_dim)
        self._files.rows(f"{prefix}.v_proj.weight", to.wv, kv_rows, group * s.head_dim)

    def _fill_gpt2(self, heads: Heads, layer: int, group: int) -> None:
        s, name = self.shape, f"h.{layer}.attn.c_attn"
        to, width = heads.group_weights(group), self.shape.d_model
        bias = self._files.vector(f"{name}.bias", 3 * width)  # [3*D]
        parts = ((to.wq, to.bq), (to.wk, to.bk), (to.wv, to.bv))
        for i, (weight_rows, bias_rows) in enumerate(parts):
            start = i * width + group * s.head_dim
            self._files.columns(f"{name}.weight", weight_rows, 3 * width, start)
            assert bias_rows is not None  # GPT-2's shape has biases
            bias_rows[...] = bias[start : start + s.head_dim]

    def _conv1d(self, name: str, rows: int, width: int, form: NumberFormat) -> Matrix:
        out = empty_matrix(rows, width, form)
        self._files.columns(f"{name}.weight", out, rows)
        return out

    def _table(self, name: str, matrix: MatrixName) -> Matrix:
        s = self.shape
        return self._files.matrix(name, s.vocab_size, s.d_model, s.precision.weights(matrix))

    def _norm(self, name: str) -> Norm:
        s = self.shape
        weight = self._files.vector(f"{name}.weight", s.d_model)
        bias = self._files.vector(f"{name}.bias", s.d_model) if self._gpt2 else None
        return Norm(s.norm, weight, bias, s.norm_eps)
