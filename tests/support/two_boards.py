"""A scenario of two boards of the catalog, for tests of advice."""

TWO_BOARDS = """
model:
  shape: {n_layers: 2, d_model: 512, n_heads: 8, n_kv_heads: 4, head_dim: 64, d_ff: 768, vocab_size: 9, max_context: 99}
engine: distributed-llama
devices:
  - {name: pi, profile: raspberry-pi-5, count: 2}
network: {default: ethernet-1g}
workload: {prompts: [{tokens: 8}], max_tokens: 6}
"""
