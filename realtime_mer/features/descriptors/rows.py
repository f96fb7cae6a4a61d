"""The rows of both short-time spectra, kept for the last seconds of a stream and brought up to date frame by frame."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from realtime_mer.features.descriptors.spectra import (
    MEL_HOP_SAMPLES,
    MEL_WINDOW_SAMPLES,
    N_CONTRAST_BANDS,
    N_MEL_BANDS,
    N_TONE_BINS,
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
# Files come in blocks of any length; the rows of more frames at once would take memory and save no time.
_MOST_FRAMES_AT_ONCE = 20


class RowStream:
    """Mono samples at 44.1 kHz in; at the end of every frame (1.0 s long, one every hop) the rows up to there.

    The rows of a hop are rounded as if computed alone, so not a bit depends on how the samples were cut. Start
    a new stream with a new object.

    memory_mel_rows, memory_tone_rows: how many of the last rows are kept. power_floor: as in `short_spectra`.
    hop_samples: between two frames, a multiple of MEL_HOP_SAMPLES.
    n_mel_rows, n_tone_rows: how many there have been from the stream's start to the present frame's end.
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
        # Rows are computed for some frames at once, beyond the present one.
        self._computed_mel_rows = 0
        self._computed_tone_rows = 0
        self._mel_db: FloatArray = np.empty((0, N_MEL_BANDS), dtype=np.float32)
        self._contrast_db: FloatArray = np.empty((0, 2 * N_CONTRAST_BANDS), dtype=np.float32)
        self._peaks_db: FloatArray = np.empty((0, N_TONE_BINS), dtype=np.float32)

    @property
    def spectra(self) -> ShortSpectra:
        """The last rows up to the present frame's end, see `short_spectra`."""
        end = len(self._mel_db) - (self._computed_mel_rows - self.n_mel_rows)
        kept = slice(max(0, end - self._memory_mel_rows), end)
        return ShortSpectra(self._mel_db[kept], self._contrast_db[kept])

    @property
    def peaks_db(self) -> FloatArray:
        """The last rows up to the present frame's end, see `tone_peaks`."""
        end = len(self._peaks_db) - (self._computed_tone_rows - self.n_tone_rows)
        return self._peaks_db[max(0, end - self._memory_tone_rows) : end]

    def step(self, samples: FloatArray) -> Iterator[int]:
        """The index of each frame that `samples` (float32, shape (n,)) completes, when the rows have reached its end.

        Iterate to the end before the next step.
        """
        self._samples = np.concatenate([self._samples, samples])
        self._n_samples += len(samples)
        while n_complete := max(0, (self._n_samples - FRAME_SAMPLES) // self._hop_samples + 1 - self._next_index):
            # The first frame has more rows than a hop.
            n_frames = min(n_complete, _MOST_FRAMES_AT_ONCE) if self._next_index else 1
            self._compute_rows(self._end_sample(self._next_index + n_frames - 1), n_frames)
            for _ in range(n_frames):
                index, self._next_index = self._next_index, self._next_index + 1
                self.n_mel_rows = rows_within(self._end_sample(index), MEL_WINDOW_SAMPLES, MEL_HOP_SAMPLES)
                self.n_tone_rows = rows_within(self._end_sample(index), TONE_WINDOW_SAMPLES, TONE_HOP_SAMPLES)
                yield index

    def _end_sample(self, index: int) -> int:
        return index * self._hop_samples + FRAME_SAMPLES

    def _compute_rows(self, end_sample: int, n_frames: int) -> None:
        """The rows of the next frames, the last of which ends at `end_sample`."""
        mel_rows = rows_within(end_sample, MEL_WINDOW_SAMPLES, MEL_HOP_SAMPLES)
        tone_rows = rows_within(end_sample, TONE_WINDOW_SAMPLES, TONE_HOP_SAMPLES)
        mel_start, tone_start = self._computed_mel_rows * MEL_HOP_SAMPLES, self._computed_tone_rows * TONE_HOP_SAMPLES
        sound = self._stretch(mel_start, (mel_rows - 1) * MEL_HOP_SAMPLES + MEL_WINDOW_SAMPLES)
        new = short_spectra(sound, self._power_floor, (mel_rows - self._computed_mel_rows) // n_frames)
        self._mel_db = np.concatenate([self._mel_db[-self._memory_mel_rows :], new.mel_db])
        self._contrast_db = np.concatenate([self._contrast_db[-self._memory_mel_rows :], new.contrast_db])
        # A short hop may end no tone row.
        if tone_rows > self._computed_tone_rows:
            tones = self._stretch(tone_start, (tone_rows - 1) * TONE_HOP_SAMPLES + TONE_WINDOW_SAMPLES)
            self._peaks_db = np.concatenate([self._peaks_db[-self._memory_tone_rows :], tone_peaks(tones)])
        self._computed_mel_rows, self._computed_tone_rows = mel_rows, tone_rows
        still_needed = min(mel_rows * MEL_HOP_SAMPLES, tone_rows * TONE_HOP_SAMPLES)
        self._samples = self._samples[still_needed - self._first_sample :]
        self._first_sample = still_needed

    def _stretch(self, start: int, end: int) -> FloatArray:
        return self._samples[start - self._first_sample : end - self._first_sample]
