"""The descriptors beside openSMILE: tonality, rhythm and timbre of the last ten seconds, for every frame.

DEAM's 260 features describe one second each, without harmony or pulse. These descriptors look back over up to ten
seconds (less at the start), at the same 2 Hz and in step with the features' frames.
"""

from __future__ import annotations

import numpy as np

from realtime_mer.features.descriptors.rhythm import RHYTHM_NAMES, rhythm
from realtime_mer.features.descriptors.rows import FRAME_SAMPLES, HOP_SAMPLES, RowStream
from realtime_mer.features.descriptors.spectra import (
    RATE_HZ,
    TONE_WINDOW_SAMPLES,
    ShortSpectra,
)
from realtime_mer.features.descriptors.timbre import TIMBRE_NAMES, timbre
from realtime_mer.features.descriptors.tonality import REGISTER_NAMES, TONALITY_NAMES, peak_weights, register, tonality
from realtime_mer.features.descriptors.tracks import Float64Array, levels_db, powers
from realtime_mer.types import FeatureFrame, FloatArray

MEMORY_S = 10.0
_MEMORY_MEL_ROWS = 1000
_MEMORY_TONE_ROWS = 95  # whole beats of five rows
_GROUPS = {
    "tonality": TONALITY_NAMES,
    "treble_tonality": TONALITY_NAMES,
    "register": REGISTER_NAMES,
    "rhythm": RHYTHM_NAMES,
    "timbre": TIMBRE_NAMES,
}


def describe(spectra: ShortSpectra, peaks_db: FloatArray) -> Float64Array:
    """All descriptors of a stretch, in the order of `descriptor_names`."""
    mel_db = spectra.mel_db.astype(np.float64)
    total_db = levels_db(powers(mel_db).sum(axis=1))
    return describe_levels(mel_db, spectra.contrast_db.astype(np.float64), total_db, peaks_db)


def describe_levels(
    mel_db: Float64Array, contrast_db: Float64Array, total_db: Float64Array, peaks_db: FloatArray
) -> Float64Array:
    """The same from the levels; total_db: the sum of each row's mel bands, shape (rows,)."""
    weights = peak_weights(peaks_db)
    return np.concatenate(
        [*tonality(weights), register(weights), rhythm(mel_db), timbre(mel_db, contrast_db, total_db)]
    )


def descriptor_names() -> tuple[str, ...]:
    """The names of the descriptors, in order."""
    return tuple(f"{group}.{name}" for group, names in _GROUPS.items() for name in names)


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
            values.astype(np.float32),
        )
