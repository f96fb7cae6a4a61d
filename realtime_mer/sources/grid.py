"""The 24-bit grid: every sample of the live path is one that a recording can hold, so that a replay hears the same."""

from __future__ import annotations

import numpy as np

from realtime_mer.types import FloatArray

STEPS = 2**23
# Beyond this (+200 dBFS) a float is no sample but a device's rubbish. The largest honest ones, 32-bit integers that
# somebody forgot to scale, lie below; and a stage behind this one can still add up squares without an overflow.
LARGEST_SAMPLE = 1e10


def with_numbers_only(samples: FloatArray) -> tuple[FloatArray, int]:
    """The samples with 0 for whatever is NaN, infinite or larger than LARGEST_SAMPLE, and how many those were.

    samples: float32 of any shape; returned as they are where all are numbers.
    """
    usable = np.abs(samples) <= LARGEST_SAMPLE
    n_replaced = int(samples.size - np.count_nonzero(usable))
    if n_replaced == 0:
        return samples, 0
    numbers: FloatArray = np.where(usable, samples, np.float32(0.0))
    return numbers, n_replaced


def on_grid(samples: FloatArray) -> tuple[FloatArray, int]:
    """The samples as 24-bit PCM holds them, still as floats, and how many were no numbers and became 0.

    samples: float32, any shape, full scale at -1 and 1. What lies beyond is clipped, as a converter clips it; what is
    no number (`with_numbers_only`) becomes 0. 16-bit and 24-bit sound passes untouched.
    """
    numbers, n_replaced = with_numbers_only(samples)
    gridded: FloatArray = np.clip(np.rint(numbers * np.float32(STEPS)), -STEPS, STEPS - 1) / np.float32(STEPS)
    return gridded, n_replaced
