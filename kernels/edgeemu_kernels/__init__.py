"""NumPy transformer kernels, weight loading, and the undivided reference model. Knows no cluster.

Reading order: `shape`, `attention` (with `kvcache`, `rope`, `norms`), `dense`, `reference`, `weights/`, `tokenizer/`.
"""
