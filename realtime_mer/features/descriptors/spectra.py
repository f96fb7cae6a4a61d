"""The two short-time spectra that the descriptors are made of, at fixed hops of the 44.1 kHz stream.

Every row depends on its own window of samples only, so rows can be computed in any grouping.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from realtime_mer.types import FloatArray

RATE_HZ = 44_100

# Timbre and rhythm: 46 ms windows every 10 ms, in 40 mel bands.
MEL_WINDOW_SAMPLES = 2048
MEL_HOP_SAMPLES = 441
N_MEL_BANDS = 40
_MEL_RANGE_HZ = (30.0, 16_000.0)
POWER_FLOOR = 1e-10

# Peak-to-valley contrast in seven octave bands of the same short spectra.
_CONTRAST_EDGES_HZ = (0.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 12_800.0)
N_CONTRAST_BANDS = len(_CONTRAST_EDGES_HZ) - 1
_CONTRAST_SHARE = 0.2

# Tonality: 372 ms windows every 100 ms, spectral peaks in thirds of a semitone over six octaves from A1.
TONE_WINDOW_SAMPLES = 16_384
TONE_HOP_SAMPLES = 4_410
BINS_PER_OCTAVE = 36
N_OCTAVES = 6
N_TONE_BINS = BINS_PER_OCTAVE * N_OCTAVES
_LOWEST_HZ = 55.0
_PEAK_FLOOR_BINS = 121
_PEAK_ABOVE_FLOOR_DB = 6.0
NO_PEAK_DB = -140.0


@dataclass(frozen=True, slots=True)
class ShortSpectra:
    """Rows of 10 ms: mel_db (rows, 40), band powers in dB; contrast_db (rows, 14), per octave band the distance from
    its valleys to its peaks and the level of its valleys, in dB."""

    mel_db: FloatArray
    contrast_db: FloatArray


def _mel_filters() -> FloatArray:
    """Triangular filters, equally wide on the mel scale 2595 log10(1 + f / 700); shape (40, bins)."""
    frequencies_hz = np.fft.rfftfreq(MEL_WINDOW_SAMPLES, 1.0 / RATE_HZ)
    lowest_mel, highest_mel = (2595.0 * np.log10(1.0 + f / 700.0) for f in _MEL_RANGE_HZ)
    edges_hz = 700.0 * (10.0 ** (np.linspace(lowest_mel, highest_mel, N_MEL_BANDS + 2) / 2595.0) - 1.0)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising, falling = (frequencies_hz - low) / (centre - low), (high - frequencies_hz) / (high - centre)
    filters = np.clip(np.minimum(rising, falling), 0.0, None)
    # The lowest bands are narrower than a bin: give each the bin nearest to its centre.
    for band in np.flatnonzero(filters.sum(axis=1) == 0.0):
        filters[band, np.argmin(np.abs(frequencies_hz - centre[band]))] = 1.0
    return filters.astype(np.float32)


def _contrast_bins() -> list[slice]:
    frequencies_hz = np.fft.rfftfreq(MEL_WINDOW_SAMPLES, 1.0 / RATE_HZ)
    edges = [int(np.searchsorted(frequencies_hz, edge)) for edge in _CONTRAST_EDGES_HZ]
    return [slice(low, high) for low, high in pairwise(edges)]


def _window(samples: int, shape: FloatArray) -> FloatArray:
    """A periodic window scaled so that a sine of amplitude 1 has magnitude 1 at its bin."""
    window = shape[:samples]
    scaled: FloatArray = (2.0 * window / window.sum()).astype(np.float32)
    return scaled


_MEL_WINDOW = _window(MEL_WINDOW_SAMPLES, np.hanning(MEL_WINDOW_SAMPLES + 1).astype(np.float32))
_MEL_FILTERS = _mel_filters()
_CONTRAST_BINS = _contrast_bins()
_TONE_WINDOW = _window(TONE_WINDOW_SAMPLES, np.blackman(TONE_WINDOW_SAMPLES + 1).astype(np.float32))
_TONE_FREQUENCIES_HZ = np.fft.rfftfreq(TONE_WINDOW_SAMPLES, 1.0 / RATE_HZ)
_TONE_FIRST_BIN, _TONE_END_BIN = (
    int(np.searchsorted(_TONE_FREQUENCIES_HZ, _LOWEST_HZ * 2.0**octave)) for octave in (-1 / 72, N_OCTAVES - 1 / 72)
)


def rows_within(n_samples: int, window_samples: int, hop_samples: int) -> int:
    """How many whole windows the first `n_samples` of a stream hold."""
    return max(0, (n_samples - window_samples) // hop_samples + 1)


def _frames(samples: FloatArray, window_samples: int, hop_samples: int) -> FloatArray:
    return np.lib.stride_tricks.sliding_window_view(samples, window_samples)[::hop_samples]


def short_spectra(samples: FloatArray, power_floor: float = POWER_FLOOR, group_rows: int | None = None) -> ShortSpectra:
    """The 10 ms rows of `samples` (float32, mono, at 44.1 kHz): one per whole window, the first at sample 0.

    power_floor: added to every band's power, and a hundredth of it to every bin's.
    group_rows: computes bit for bit what separate calls for so many rows each would give; None: for all at once. BLAS
        rounds a product of other dimensions differently.
    """
    windows = _frames(samples, MEL_WINDOW_SAMPLES, MEL_HOP_SAMPLES) * _MEL_WINDOW
    powers = np.square(np.abs(np.fft.rfft(windows, axis=1))).astype(np.float32)
    groups = powers.reshape(-1, group_rows or len(powers), powers.shape[1])
    mel_db = 10.0 * np.log10((groups @ _MEL_FILTERS.T).reshape(len(powers), N_MEL_BANDS) + power_floor)
    bins_db = 10.0 * np.log10(powers + power_floor / 100.0)
    contrast_db = np.empty((len(powers), 2 * N_CONTRAST_BANDS), dtype=np.float32)
    for band, bins in enumerate(_CONTRAST_BINS):
        ordered = np.sort(bins_db[:, bins], axis=1)
        n_extreme = max(1, int(_CONTRAST_SHARE * ordered.shape[1]))
        # NumPy's mean takes three times as long for so few numbers.
        valleys, peaks = (ends.sum(axis=1) / n_extreme for ends in (ordered[:, :n_extreme], ordered[:, -n_extreme:]))
        contrast_db[:, 2 * band], contrast_db[:, 2 * band + 1] = peaks - valleys, valleys
    return ShortSpectra(mel_db.astype(np.float32), contrast_db)


def tone_peaks(samples: FloatArray) -> FloatArray:
    """The spectral peaks of every 100 ms window, in dB, float32, shape (rows, 216); NO_PEAK_DB where there is none.

    A peak is a local maximum at least 6 dB above the mean level of its neighbourhood; its frequency and height are
    refined by a parabola through the three bins in dB (Smith and Serra 1987) and it falls into the nearest third of a
    semitone above 55 Hz.
    """
    windows = _frames(samples, TONE_WINDOW_SAMPLES, TONE_HOP_SAMPLES) * _TONE_WINDOW
    half = _PEAK_FLOOR_BINS // 2
    level_db = 20.0 * np.log10(np.abs(np.fft.rfft(windows, axis=1)[:, : _TONE_END_BIN + half]) + 1e-9)
    left, here, right = (level_db[:, _TONE_FIRST_BIN + shift : _TONE_END_BIN + shift] for shift in (-1, 0, 1))
    padded = np.pad(level_db, ((0, 0), (half + 1, half)), mode="edge")
    sums = np.cumsum(padded, axis=1)
    floor_db = (sums[:, _PEAK_FLOOR_BINS:] - sums[:, :-_PEAK_FLOOR_BINS]) / _PEAK_FLOOR_BINS
    floor_db = floor_db[:, _TONE_FIRST_BIN:_TONE_END_BIN]
    row, column = np.nonzero((here > left) & (here >= right) & (here > floor_db + _PEAK_ABOVE_FLOOR_DB))
    a, b, c = left[row, column], here[row, column], right[row, column]
    shift_bins = 0.5 * (a - c) / (a - 2.0 * b + c - 1e-12)
    frequency_hz = (_TONE_FIRST_BIN + column + shift_bins) * (RATE_HZ / TONE_WINDOW_SAMPLES)
    amplitude = 10.0 ** ((b - 0.25 * (a - c) * shift_bins) / 20.0)
    bin_ = np.round(BINS_PER_OCTAVE * np.log2(frequency_hz / _LOWEST_HZ)).astype(np.int64)
    inside = (bin_ >= 0) & (bin_ < N_TONE_BINS)
    amplitudes = np.zeros((len(level_db), N_TONE_BINS))
    np.add.at(amplitudes, (row[inside], bin_[inside]), amplitude[inside])
    peaks_db: FloatArray = (20.0 * np.log10(amplitudes + 10.0 ** (NO_PEAK_DB / 20.0))).astype(np.float32)
    return peaks_db
