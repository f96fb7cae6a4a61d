"""The 24-bit grid: samples that a recording can hold stay as they are, all others become the nearest of these."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from realtime_mer.sources.grid import LARGEST_SAMPLE, STEPS, on_grid, rounded
from realtime_mer.types import FloatArray


@given(arrays.arrays(np.int32, (7, 2), elements=st.integers(-STEPS, STEPS - 1)))
def test_24_bit_samples_stay_as_they_are(steps: np.ndarray[tuple[int, int], np.dtype[np.int32]]) -> None:
    samples = (steps / STEPS).astype(np.float32)
    gridded, n_replaced = on_grid(samples)
    assert n_replaced == 0
    assert gridded.dtype == np.float32
    assert gridded.tobytes() == samples.tobytes()


@given(arrays.arrays(np.float32, 9, elements=st.floats(width=32)))
def test_other_samples_become_the_nearest_one_or_zero(samples: FloatArray) -> None:
    gridded, n_replaced = on_grid(samples)
    steps = gridded.astype(np.float64) * STEPS
    assert np.array_equal(steps, np.rint(steps))
    assert steps.min() >= -STEPS
    assert steps.max() <= STEPS - 1
    usable = np.abs(samples) <= LARGEST_SAMPLE
    assert n_replaced == np.count_nonzero(~usable)
    assert not gridded[~usable].any()
    inside = usable & (np.abs(samples) <= 1.0)
    # Half a step, and a whole one at +1.0, which 24 bits do not hold.
    distance = np.abs(gridded[inside].astype(np.float64) - samples[inside])
    assert np.all(distance <= np.where(samples[inside] == 1.0, 1.0, 0.5) / STEPS)


def test_samples_beyond_full_scale_are_clipped_on_the_grid_only() -> None:
    samples = np.array([1.5, -1.5, 1e9], dtype=np.float32)
    gridded, n_replaced = on_grid(samples)
    assert gridded.tolist() == [1.0 - 1.0 / STEPS, -1.0, 1.0 - 1.0 / STEPS]
    assert n_replaced == 0
    assert rounded(samples)[0].tolist() == [1.5, -1.5, 1e9]
