"""Small random shapes for the kernel tests."""

from hypothesis import strategies as st

from edgeemu_kernels.shape import ModelShape, RopeScaling


@st.composite
def shapes(draw: st.DrawFn) -> ModelShape:
    """Llama-like and GPT-2-like, grouped-query and multi-head, both RoPE conventions, Llama 3's scaling."""
    positions = draw(st.sampled_from(["rope-interleaved", "rope-half", "learned"]))
    n_kv_heads = draw(st.integers(1, 4))
    scaling = RopeScaling(8.0, 1.0, 4.0, 16) if draw(st.booleans()) else None
    return ModelShape(
        name="random",
        n_layers=draw(st.integers(1, 2)),
        d_model=draw(st.integers(3, 20)),
        n_heads=n_kv_heads * draw(st.integers(1, 3)),
        n_kv_heads=n_kv_heads,
        head_dim=2 * draw(st.integers(1, 4)),
        d_ff=draw(st.integers(2, 24)),
        vocab_size=draw(st.integers(2, 40)),
        max_context=64,
        norm="layer" if positions == "learned" else "rms",
        activation="gelu" if positions == "learned" else "swiglu",
        positions=positions,
        rope_theta=draw(st.sampled_from([10_000.0, 100_000.0])),
        rope_scaling=scaling if positions != "learned" else None,
        tied_embeddings=draw(st.booleans()),
        bias=positions == "learned",
    )


SMALL = ModelShape("small", 2, 24, 6, 3, 4, 40, 50, 512, positions="rope-interleaved")
GPT2 = ModelShape(
    "small-gpt2", 2, 24, 3, 3, 8, 40, 50, 64, "layer", 1e-5, "gelu", "learned", tied_embeddings=True, bias=True
)
# Widths of whole blocks of every number format, the columns of its KV groups too.
WIDE = ModelShape("wide", 2, 256, 8, 2, 64, 512, 60, 256, positions="rope-interleaved")
WIDE_GPT2 = ModelShape(
    "wide-gpt2", 2, 256, 4, 4, 64, 512, 60, 64, "layer", 1e-5, "gelu", "learned", tied_embeddings=True, bias=True
)
