"""The descriptors beside openSMILE: tonality, rhythm and timbre of the last ten seconds, for every frame.

DEAM's 260 features describe one second each, without harmony or pulse. These descriptors look back over up to ten
seconds (less at the start), at the same 2 Hz and in step with the features' frames.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from realtime_mer.features.descriptors.rhythm import rhythm
from realtime_mer.features.descriptors.spectra import (
    MEL_HOP_SAMPLES,
    MEL_WINDOW_SAMPLES,
    N_OCTAVES,
    RATE_HZ,
    TONE_HOP_SAMPLES,
    TONE_WINDOW_SAMPLES,
    ShortSpectra,
    rows_within,
    short_spectra,
    tone_peaks,
)
from realtime_mer.features.descriptors.timbre import timbre
from realtime_mer.features.descriptors.tonality import register, tonality
from realtime_mer.types import FeatureFrame, FloatArray

FRAME_SAMPLES = RATE_HZ
HOP_SAMPLES = RATE_HZ // 2
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
        self._samples: FloatArray = np.empty(0, dtype=np.float32)
        self._first_sample = 0  # stream position of self._samples[0]
        self._n_samples = 0
        self._next_index = 0
        self._mel_rows = 0  # rows computed since the stream began
        self._tone_rows = 0
        self._mel_db: FloatArray = np.empty((0, 0), dtype=np.float32)
        self._contrast_db: FloatArray = np.empty((0, 0), dtype=np.float32)
        self._peaks_db: FloatArray = np.empty((0, 0), dtype=np.float32)

    def step(self, samples: FloatArray) -> list[FeatureFrame]:
        """The frames that `samples` (float32, shape (n,)) complete; possibly none."""
        self._samples = np.concatenate([self._samples, samples])
        self._n_samples += len(samples)
        frames = []
        while self._next_index * HOP_SAMPLES + FRAME_SAMPLES <= self._n_samples:
            frames.append(self._complete_frame())
        return frames

    def flush(self) -> list[FeatureFrame]:
        """Nothing: a frame that is not whole is no frame."""
        return []

    def _complete_frame(self) -> FeatureFrame:
        index, self._next_index = self._next_index, self._next_index + 1
        end_sample = index * HOP_SAMPLES + FRAME_SAMPLES
        self._compute_rows(end_sample)
        values = describe(ShortSpectra(self._mel_db, self._contrast_db), self._peaks_db)
        return FeatureFrame(
            index,
            index * HOP_SAMPLES / RATE_HZ,
            end_sample / RATE_HZ,
            np.fromiter(values.values(), dtype=np.float32, count=len(values)),
        )

    def _compute_rows(self, end_sample: int) -> None:
        """Brings the spectra up to `end_sample`: always the same rows together, however the input was cut, so that
        not a bit depends on it."""
        mel_rows = rows_within(end_sample, MEL_WINDOW_SAMPLES, MEL_HOP_SAMPLES)
        tone_rows = rows_within(end_sample, TONE_WINDOW_SAMPLES, TONE_HOP_SAMPLES)
        mel_start, tone_start = self._mel_rows * MEL_HOP_SAMPLES, self._tone_rows * TONE_HOP_SAMPLES
        new = short_spectra(self._stretch(mel_start, (mel_rows - 1) * MEL_HOP_SAMPLES + MEL_WINDOW_SAMPLES))
        peaks_db = tone_peaks(self._stretch(tone_start, (tone_rows - 1) * TONE_HOP_SAMPLES + TONE_WINDOW_SAMPLES))
        if self._mel_rows:
            self._mel_db = np.concatenate([self._mel_db, new.mel_db])[-_MEMORY_MEL_ROWS:]
            self._contrast_db = np.concatenate([self._contrast_db, new.contrast_db])[-_MEMORY_MEL_ROWS:]
            self._peaks_db = np.concatenate([self._peaks_db, peaks_db])[-_MEMORY_TONE_ROWS:]
        else:
            self._mel_db, self._contrast_db, self._peaks_db = new.mel_db, new.contrast_db, peaks_db
        self._mel_rows, self._tone_rows = mel_rows, tone_rows
        still_needed = min(mel_rows * MEL_HOP_SAMPLES, tone_rows * TONE_HOP_SAMPLES)
        self._samples = self._samples[still_needed - self._first_sample :]
        self._first_sample = still_needed

    def _stretch(self, start: int, end: int) -> FloatArray:
        return self._samples[start - self._first_sample : end - self._first_sample]
