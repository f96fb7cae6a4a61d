"""The 24-bit grid: every live sample is one that a recording can hold, so that a replay gets the same samples."""

from __future__ import annotations

import numpy as np

from realtime_mer.types import FloatArray

STEPS = 2**23
# Above this (+200 dBFS) a float is not a sample but a driver's error. Unscaled 32-bit integers are smaller, and the
# squares of such samples can be added up without an overflow.
LARGEST_SAMPLE = 1e10


def with_numbers_only(samples: FloatArray) -> tuple[FloatArray, int]:
    """The samples with 0 in place of NaN, infinity and values above LARGEST_SAMPLE, and how many were replaced.

    samples: float32 of any shape; returned as they are if nothing is replaced.
    """
    usable = np.abs(samples) <= LARGEST_SAMPLE
    n_replaced = int(samples.size - np.count_nonzero(usable))
    if n_replaced == 0:
        return samples, 0
    numbers: FloatArray = np.where(usable, samples, np.float32(0.0))
    return numbers, n_replaced


def rounded(samples: FloatArray) -> tuple[FloatArray, int]:
    """The samples rounded to steps of 24-bit PCM, still as floats, and how many were unusable and became 0.

    samples: float32, any shape, full scale at -1 and 1. Values beyond full scale stay: the gain stage reduces them.
    Unusable ones (`with_numbers_only`) become 0. 16-bit and 24-bit sound is unchanged.
    """
    numbers, n_replaced = with_numbers_only(samples)
    return np.rint(numbers * np.float32(STEPS)) / np.float32(STEPS), n_replaced


def on_grid(samples: FloatArray) -> tuple[FloatArray, int]:
    """The same, and clipped at full scale, as a recording holds them: for live sound."""
    steps, n_replaced = rounded(samples)
    return np.clip(steps, -1.0, np.float32(1.0 - 1.0 / STEPS)), n_replaced
