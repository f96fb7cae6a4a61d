"""The 24-bit grid: every sample of the live path is one that a recording can hold, so that a replay hears the same."""

from __future__ import annotations

import numpy as np

from realtime_mer.conditioning import with_numbers_only
from realtime_mer.types import FloatArray

STEPS = 2**23


def on_grid(samples: FloatArray) -> tuple[FloatArray, int]:
    """The samples as 24-bit PCM holds them, still as floats, and how many were no numbers and became 0.

    samples: float32, any shape, full scale at -1 and 1. What lies beyond is clipped, as a converter clips it; what is
    no number (`with_numbers_only`) becomes 0. 16-bit and 24-bit sound passes untouched.
    """
    numbers, n_replaced = with_numbers_only(samples)
    gridded: FloatArray = np.clip(np.rint(numbers * np.float32(STEPS)), -STEPS, STEPS - 1) / np.float32(STEPS)
    return gridded, n_replaced
