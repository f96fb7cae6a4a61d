"""The rows of both short-time spectra, kept for the last seconds of a stream and brought up to date frame by frame."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from realtime_mer.features.descriptors.spectra import (
    MEL_HOP_SAMPLES,
    MEL_WINDOW_SAMPLES,
    POWER_FLOOR,
    RATE_HZ,
    TONE_HOP_SAMPLES,
    TONE_WINDOW_SAMPLES,
    ShortSpectra,
    rows_within,
    short_spectra,
    tone_peaks,
)
from realtime_mer.types import FloatArray

FRAME_SAMPLES = RATE_HZ
HOP_SAMPLES = RATE_HZ // 2


class RowStream:
    """Mono samples at 44.1 kHz in; at the end of every frame (1.0 s long, one every hop) the rows up to there.

    Rows are always computed in the same groups, those of a hop, so not a bit depends on how the samples were cut. Start
    a new stream with a new object.

    memory_mel_rows, memory_tone_rows: how many of the last rows are kept. power_floor: as in `short_spectra`.
    hop_samples: between two frames, a multiple of MEL_HOP_SAMPLES.
    n_mel_rows, n_tone_rows: how many there have been since the stream began.
    spectra, peaks_db: the last rows, see `short_spectra` and `tone_peaks`.
    """

    def __init__(
        self,
        memory_mel_rows: int,
        memory_tone_rows: int,
        power_floor: float = POWER_FLOOR,
        hop_samples: int = HOP_SAMPLES,
    ) -> None:
        self._power_floor = power_floor
        self._hop_samples = hop_samples
        self._memory_mel_rows, self._memory_tone_rows = memory_mel_rows, memory_tone_rows
        self._samples: FloatArray = np.empty(0, dtype=np.float32)
        self._first_sample = 0  # stream position of self._samples[0]
        self._n_samples = 0
        self._next_index = 0
        self.n_mel_rows = 0
        self.n_tone_rows = 0
        self.spectra = ShortSpectra(np.empty((0, 0), dtype=np.float32), np.empty((0, 0), dtype=np.float32))
        self.peaks_db: FloatArray = np.empty((0, 0), dtype=np.float32)

    def step(self, samples: FloatArray) -> Iterator[int]:
        """The index of each frame that `samples` (float32, shape (n,)) completes, when the rows have reached its end.

        Iterate to the end before the next step.
        """
        self._samples = np.concatenate([self._samples, samples])
        self._n_samples += len(samples)
        while (end_sample := self._next_index * self._hop_samples + FRAME_SAMPLES) <= self._n_samples:
            index, self._next_index = self._next_index, self._next_index + 1
            self._compute_rows(end_sample)
            yield index

    def _compute_rows(self, end_sample: int) -> None:
        mel_rows = rows_within(end_sample, MEL_WINDOW_SAMPLES, MEL_HOP_SAMPLES)
        tone_rows = rows_within(end_sample, TONE_WINDOW_SAMPLES, TONE_HOP_SAMPLES)
        mel_start, tone_start = self.n_mel_rows * MEL_HOP_SAMPLES, self.n_tone_rows * TONE_HOP_SAMPLES
        sound = self._stretch(mel_start, (mel_rows - 1) * MEL_HOP_SAMPLES + MEL_WINDOW_SAMPLES)
        new = short_spectra(sound, self._power_floor)
        if self.n_mel_rows:
            kept = self.spectra
            new = ShortSpectra(
                np.concatenate([kept.mel_db, new.mel_db])[-self._memory_mel_rows :],
                np.concatenate([kept.contrast_db, new.contrast_db])[-self._memory_mel_rows :],
            )
        self.spectra = new
        # A short hop may end no tone row.
        if tone_rows > self.n_tone_rows:
            tones = self._stretch(tone_start, (tone_rows - 1) * TONE_HOP_SAMPLES + TONE_WINDOW_SAMPLES)
            peaks_db = tone_peaks(tones)
            if self.n_tone_rows:
                peaks_db = np.concatenate([self.peaks_db, peaks_db])[-self._memory_tone_rows :]
            self.peaks_db = peaks_db
        self.n_mel_rows, self.n_tone_rows = mel_rows, tone_rows
        still_needed = min(mel_rows * MEL_HOP_SAMPLES, tone_rows * TONE_HOP_SAMPLES)
        self._samples = self._samples[still_needed - self._first_sample :]
        self._first_sample = still_needed

    def _stretch(self, start: int, end: int) -> FloatArray:
        return self._samples[start - self._first_sample : end - self._first_sample]
