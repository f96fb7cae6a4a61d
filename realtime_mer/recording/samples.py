"""Samples on the 24-bit grid as the integers that soundfile writes and reads exactly, and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from realtime_mer.sources.grid import STEPS
from realtime_mer.types import FloatArray

# 24-bit samples are the upper three bytes of the integers that soundfile takes and gives.
_UNUSED_BITS = 8


def to_pcm(samples: FloatArray) -> npt.NDArray[np.int32]:
    """Samples on the 24-bit grid as the integers that soundfile writes exactly; its own scale for floats is not exact.

    Raises ValueError for any other sample.
    """
    steps = samples * np.float32(STEPS)
    pcm: npt.NDArray[np.int32] = np.clip(np.nan_to_num(steps), -STEPS, STEPS - 1).astype(np.int32)
    if not np.array_equal(pcm, steps):
        raise ValueError("a sample was not one of the 24-bit values that a recording can hold")
    pcm <<= _UNUSED_BITS
    return pcm


def from_pcm(pcm: npt.NDArray[np.int32]) -> FloatArray:
    """The samples that `to_pcm` made these integers of."""
    samples: FloatArray = (pcm >> _UNUSED_BITS).astype(np.float32) / np.float32(STEPS)
    return samples
