"""Types of the arrays that all kernels share. Knows no model and no format."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Raw = NDArray[np.uint8]
