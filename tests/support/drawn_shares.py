"""Placements with divided layers that hypothesis draws."""

import numpy as np
from hypothesis import strategies as st

from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.shape import ModelShape

N = 4  # devices
EVERYONE = np.arange(N)


@st.composite
def some_shares(draw: st.DrawFn, shape: ModelShape, n: int = N) -> ShareArrays:
    """One placement, on n devices, in which each layer is whole, divided, or divided in part."""
    devices = st.integers(0, n - 1)
    n_drawn = 1 if draw(st.booleans()) else shape.n_layers  # all layers alike, or each its own

    def counts(total: int) -> list[int]:
        at = draw(st.lists(devices, min_size=1, max_size=3))
        cuts = sorted(draw(st.lists(st.integers(0, total), min_size=len(at) - 1, max_size=len(at) - 1)))
        found = [0] * n
        for device, low, high in zip(at, [0, *cuts], [*cuts, total], strict=True):
            found[device] += high - low
        return found

    heads = np.array([[counts(shape.n_groups) for _ in range(n_drawn)]])
    proj = np.array([[draw(st.integers(-1, n - 1)) for _ in range(n_drawn)]])
    units = np.array([[counts(shape.ffn_units) for _ in range(n_drawn)]])
    repeated = [np.repeat(each, shape.n_layers // n_drawn, 1) for each in (heads, proj, units)]
    return ShareArrays(np.array([draw(devices)]), np.array([draw(devices)]), *repeated).normal()
