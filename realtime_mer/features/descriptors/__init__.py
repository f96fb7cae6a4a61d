"""The descriptors beside openSMILE: tonality, rhythm and timbre of the last ten seconds, for every frame.

DEAM's 260 features describe one second each, without harmony or pulse. These descriptors look back over up to ten
seconds (less at the start), at the same 2 Hz and in step with the features' frames.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from realtime_mer.features.descriptors.rhythm import rhythm
from realtime_mer.features.descriptors.rows import FRAME_SAMPLES, HOP_SAMPLES, RowStream
from realtime_mer.features.descriptors.spectra import (
    N_OCTAVES,
    RATE_HZ,
    TONE_WINDOW_SAMPLES,
    ShortSpectra,
    short_spectra,
    tone_peaks,
)
from realtime_mer.features.descriptors.timbre import timbre
from realtime_mer.features.descriptors.tonality import register, tonality
from realtime_mer.types import FeatureFrame, FloatArray

MEMORY_S = 10.0
_MEMORY_MEL_ROWS = 1000
_MEMORY_TONE_ROWS = 95  # whole beats of five rows
_TREBLE_OCTAVES = (2, N_OCTAVES)


def describe(spectra: ShortSpectra, peaks_db: FloatArray) -> dict[str, float]:
    """All descriptors of a stretch, by name, in the order in which the stage gives them."""
    groups = {
        "tonality": tonality(peaks_db),
        "treble_tonality": tonality(peaks_db, _TREBLE_OCTAVES),
        "register": register(peaks_db),
        "rhythm": rhythm(spectra.mel_db),
        "timbre": timbre(spectra),
    }
    return {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}


@cache
def descriptor_names() -> tuple[str, ...]:
    """The names of the descriptors, in order."""
    silence = np.zeros(FRAME_SAMPLES, dtype=np.float32)
    return tuple(describe(short_spectra(silence), tone_peaks(silence)))


class DescriptorStage:
    """Mono samples at 44.1 kHz in, one FeatureFrame of descriptors out for every frame of 1.0 s, every 0.5 s.

    Frame k uses only samples before its end, and at most the last ten seconds of them. A reset is a new stage.
    """

    rate_hz = RATE_HZ / HOP_SAMPLES
    latency_s = 0.0
    receptive_field_s = MEMORY_S + TONE_WINDOW_SAMPLES / RATE_HZ

    def __init__(self) -> None:
        self._rows = RowStream(_MEMORY_MEL_ROWS, _MEMORY_TONE_ROWS)

    def step(self, samples: FloatArray) -> list[FeatureFrame]:
        """The frames that `samples` (float32, shape (n,)) complete; possibly none."""
        return [self._frame(index) for index in self._rows.step(samples)]

    def flush(self) -> list[FeatureFrame]:
        """Nothing: a frame that is not whole is no frame."""
        return []

    def _frame(self, index: int) -> FeatureFrame:
        values = describe(self._rows.spectra, self._rows.peaks_db)
        return FeatureFrame(
            index,
            index * HOP_SAMPLES / RATE_HZ,
            (index * HOP_SAMPLES + FRAME_SAMPLES) / RATE_HZ,
            np.fromiter(values.values(), dtype=np.float32, count=len(values)),
        )
