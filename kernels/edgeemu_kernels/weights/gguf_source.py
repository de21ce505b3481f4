"""Weights from a GGUF file, by the index that `gguf_header` made. Knows tensor names; no header."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeemu_kernels.attention import Heads
from edgeemu_kernels.dense import Embed, Ffn, LmHead, Proj
from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.linear import Array
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.packed import Matrix, empty_matrix, rows_of
from edgeemu_kernels.precision import Matrix as MatrixName
from edgeemu_kernels.rope import Rope
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.quants import ggml_format
from edgeemu_kernels.weights.tensorfile import Dims, Tensor, TensorFiles, runs


def required_tensors(shape: ModelShape) -> dict[str, Dims]:
    """Tensors that the blocks of this shape consist of, with their dims, rows first."""
    s = shape
    q_rows, kv_rows = s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim
    wanted: dict[str, Dims] = {
        "token_embd.weight": (s.vocab_size, s.d_model),
        "output_norm.weight": (s.d_model,),
    }
    if not s.tied_embeddings:
        wanted["output.weight"] = (s.vocab_size, s.d_model)
    per_layer: dict[str, Dims] = {
        "attn_norm": (s.d_model,),
        "attn_q": (q_rows, s.d_model),
        "attn_k": (kv_rows, s.d_model),
        "attn_v": (kv_rows, s.d_model),
        "attn_output": (s.d_model, q_rows),
        "ffn_norm": (s.d_model,),
        "ffn_gate": (s.d_ff, s.d_model),
        "ffn_up": (s.d_ff, s.d_model),
        "ffn_down": (s.d_model, s.d_ff),
    }
    for layer in range(s.n_layers):
        wanted |= {f"blk.{layer}.{name}.weight": dims for name, dims in per_layer.items()}
    return wanted


class GgufSource:
    """Source of weights over the Llama tensors of a GGUF file (names as in llama.cpp's `llama-arch.cpp`)."""

    def __init__(self, path: Path, shape: ModelShape, index: dict[str, Any]) -> None:
        """Open the file. `index`: name -> [offset in the file, ggml type, dims with rows first]."""
        self.shape = shape
        tensors = {}
        for name, (offset, ggml_type, dims) in index.items():
            number_format = ggml_format(ggml_type)
            if number_format is None:
                raise ModelFileError(path, f"tensor {name!r} has the unknown ggml type {ggml_type}")
            tensors[name] = Tensor(path, offset, number_format, tuple(dims))
        self._files = TensorFiles(path, tensors)
        self._rope = Rope(shape)

    def embed(self) -> Embed:
        return Embed(self._table("token_embd.weight", "embed"))

    def positions(self) -> Array | None:
        return None

    def heads(self, layer: int, groups: Sequence[int]) -> Heads:
        s, prefix = self.shape, f"blk.{layer}"
        heads = Heads.empty(s, layer, groups, self._norm(f"{prefix}.attn_norm.weight"), self._rope)
        kv_rows = s.n_kv_heads * s.head_dim
        for group in groups:
            to = heads.group_weights(group)
            self._files.rows(f"{prefix}.attn_q.weight", to.wq, s.n_heads * s.head_dim, group * s.group_dim)
            self._files.rows(f"{prefix}.attn_k.weight", to.wk, kv_rows, group * s.head_dim)
            self._files.rows(f"{prefix}.attn_v.weight", to.wv, kv_rows, group * s.head_dim)
        return heads

    def proj(self, layer: int, groups: Sequence[int] | None = None, rows: range | None = None) -> Proj:
        s, name = self.shape, f"blk.{layer}.attn_output.weight"
        form = s.precision.weights("proj", layer)
        if groups is None:
            return Proj(self._files.matrix(name, s.d_model, s.n_heads * s.head_dim, form))
        dims = (s.d_model, s.n_heads * s.head_dim)
        out, columns = rows or range(s.d_model), runs(groups, s.group_dim) if rows is None else [range(dims[1])]
        weight = empty_matrix(len(out), sum(map(len, columns)), form)
        self._files.part(name, weight, dims, [out], columns)
        return Proj(weight, groups=tuple(groups))

    def ffn(self, layer: int, units: Sequence[int] | None = None, rows: range | None = None) -> Ffn:
        s, prefix = self.shape, f"blk.{layer}"
        if units is not None:
            return self._ffn_part(layer, units, rows)
        up = empty_matrix(2 * s.d_ff, s.d_model, s.precision.weights("up", layer))
        self._files.rows(f"{prefix}.ffn_gate.weight", rows_of(up, slice(s.d_ff)), s.d_ff)
        self._files.rows(f"{prefix}.ffn_up.weight", rows_of(up, slice(s.d_ff, None)), s.d_ff)
        down = self._files.matrix(f"{prefix}.ffn_down.weight", s.d_model, s.d_ff, s.precision.weights("down", layer))
        return Ffn(self._norm(f"{prefix}.ffn_norm.weight"), True, up, down)

    def _ffn_part(self, layer: int, units: Sequence[int], rows: range | None) -> Ffn:
        s, prefix = self.shape, f"blk.{layer}"
        mine, width = runs(units, s.ffn_unit_dim), len(units) * s.ffn_unit_dim
        dims, everything = (s.d_ff, s.d_model), [range(s.d_model)]
        up = empty_matrix(2 * width, s.d_model, s.precision.weights("up", layer))
        out, columns = rows or range(s.d_model), mine if rows is None else [range(s.d_ff)]
        down = empty_matrix(len(out), sum(map(len, columns)), s.precision.weights("down", layer))
        self._files.part(f"{prefix}.ffn_gate.weight", rows_of(up, slice(width)), dims, mine, everything)
        self._files.part(f"{prefix}.ffn_up.weight", rows_of(up, slice(width, None)), dims, mine, everything)
        self._files.part(f"{prefix}.ffn_down.weight", down, (s.d_model, s.d_ff), [out], columns)
        return Ffn(self._norm(f"{prefix}.ffn_norm.weight"), True, up, down, units=tuple(units))

    def lm_head(self, embed: Embed | None = None) -> LmHead:
        norm = self.final_norm()
        if not self.shape.tied_embeddings:
            return LmHead(norm, self._table("output.weight", "lm_head"))
        if embed is not None:
            return LmHead(norm, embed.table, shared=True)
        return LmHead(norm, self._table("token_embd.weight", "embed"))

    def final_norm(self) -> Norm:
        return self._norm("output_norm.weight")

    def _table(self, name: str, matrix: MatrixName) -> Matrix:
        s = self.shape
        return self._files.matrix(name, s.vocab_size, s.d_model, s.precision.weights(matrix))

    def _norm(self, name: str) -> Norm:
        return Norm("rms", self._files.vector(name, self.shape.d_model), None, self.shape.norm_eps)
