"""The head-level paper's own costs, as published. For the simulator only.

Source: arXiv 2505.02533 and its authors' public code. With L the current length, D the model's width, d a head's, b
bytes per value and n tokens generated so far:

    block   memory, bytes              operations
    head    3Ldb + 3Ddb + cache nDb    3LDd + L^2 d
    proj    LDb                        LD^2
    ffn     4LDb                       8LD^2

Transfers: heads to proj, L d b for each head; proj to ffn, and x to the heads, L D b. Unusual, and kept: the cache is
nDb per head and excludes the prompt; proj and ffn have no weights; a multiply-add is one operation; every step
recomputes all L positions. The embedding and the output matrix, which the paper does not model, cost nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Self

from edgeemu.errors import RequestError
from edgeemu.placement.blocks import Block, Kind, n_shards
from edgeemu.placement.costs import Costs, Layers
from edgeemu.placement.work import Work
from edgeemu_kernels.shape import ModelShape


@dataclass(frozen=True, slots=True)
class PaperCosts(Costs):
    """The paper's costs at one sequence length; `at_step` returns those at another.

    All memory of a block is in its weights, the paper's activations included: no workspace, and no messages held.
    """

    shape: ModelShape
    value_bytes: int = 4
    prompt_tokens: int = 64
    length: int = 64
    header_bytes: ClassVar[int] = 0
    of_every_step: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.shape.tied_embeddings:
            raise RequestError(
                "the paper's costs have no embedding that could be tied to the output matrix, as this model's is; "
                "give a model: {shape: ...} without tied_embeddings"
            )

    @property
    def weight_value_bytes(self) -> float:
        return self.value_bytes

    def at_step(self, rows: int, past: int) -> "PaperCosts":
        """These costs at sequence length `past + rows`, the paper's L."""
        return self if self.length == past + rows else _of_length(self, past + rows)

    def norm_bytes(self) -> int:
        return 0

    def table_bytes(self) -> int:
        return 0

    def weight_bytes(self, block: Block) -> int:
        """Memory of a block without its cache."""
        d_model = self.shape.d_model
        match block.kind:
            case Kind.HEAD:
                values = 3 * (self.length + d_model) * self.shape.group_dim
            case Kind.PROJ:
                values = self.length * d_model
            case Kind.FFN:
                values = 4 * self.length * d_model
            case _:
                values = 0
        if block.is_shard:  # [D] the paper has none: a share of the undivided block
            values //= n_shards(self.shape, block.kind)
        return values * self.value_bytes

    def kv_bytes(self, tokens: int) -> int:
        """Cache of one group after `tokens` positions: the full width for each head, without the prompt."""
        generated = max(0, tokens - self.prompt_tokens)
        return generated * self.shape.d_model * self.shape.group_size * self.value_bytes

    def uniform(self, layer: Layers) -> Self:  # noqa: ARG002
        """These costs: the paper's layers are alike."""
        return self

    def workspace_bytes(self, *_: object) -> int:
        return 0

    def shard_workspace_bytes(self, *_: object) -> int:
        return 0

    def collective_workspace_bytes(self, *_: object) -> int:
        return 0

    def collective_inbox_bytes(self, *_: object, **__: object) -> int:
        return 0

    def inbox_bytes(self, *_: object) -> int:
        return 0

    def gather_bytes(self, *_: object) -> int:
        return 0

    def work(self, kind: Kind, n_groups: int, rows: int, past: int, layer: int = 0) -> Work:  # noqa: ARG002
        length, d_model = past + rows, self.shape.d_model
        match kind:
            case Kind.HEAD:
                width = n_groups * self.shape.group_dim
                return Work(3 * length * d_model * width + length**2 * width, 0.0)
            case Kind.PROJ:
                return Work(length * d_model**2, 0.0)
            case Kind.FFN:
                return Work(8 * length * d_model**2, 0.0)
            case _:
                return Work(0.0, 0.0)

    def qkv_work(self, n_groups: int, rows: int, layer: int = 0) -> Work:  # noqa: ARG002
        return Work(3 * rows * self.shape.d_model * n_groups * self.shape.group_dim, 0.0)

    def attention_work(self, n_groups: int, rows: int, past: int) -> Work:
        return Work((past + rows) ** 2 * n_groups * self.shape.group_dim, 0.0)

    def shard_work(self, kind: Kind, layer: int, groups: Sequence[int], rows: int, past: int) -> Work:  # noqa: ARG002
        """[D] The shards' part of the undivided block."""
        return Work(self.work(kind, 1, rows, past).flops * len(groups) / n_shards(self.shape, kind), 0.0)

    def rows_work(self, *_: object) -> Work:
        return Work(0.0, 0.0)

    def chunk_bytes(self, rows: int, chunks: int) -> int:
        return self.activation_bytes(rows, chunks)

    def activation_bytes(self, rows: int, chunks: int = 1) -> int:  # noqa: ARG002
        """All positions of the sequence, not only new ones."""
        return self.length * self.shape.d_model * self.value_bytes // chunks

    def attention_bytes(self, n_groups: int, rows: int) -> int:  # noqa: ARG002
        return self.length * n_groups * self.shape.group_dim * self.value_bytes

    def token_bytes(self) -> int:
        return 0


@lru_cache(maxsize=64)
def _of_length(costs: PaperCosts, length: int) -> PaperCosts:
    """Costs at a sequence length: a decision asks for the same ones again and again."""
    return replace(costs, length=length)
