"""The pulse of the last seconds: onsets, their periodicity, and slow modulations of eight frequency bands."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from realtime_mer.features.descriptors.spectra import MEL_HOP_SAMPLES, N_MEL_BANDS, RATE_HZ
from realtime_mer.features.descriptors.tracks import Float64Array, means_and_deviations, numbered

_ROW_S = MEL_HOP_SAMPLES / RATE_HZ
_N_BANDS = 8
# (40, 8): the mean of each band's five neighbouring mel bands.
_TO_BANDS = np.kron(np.eye(_N_BANDS), np.ones((N_MEL_BANDS // _N_BANDS, 1))) * _N_BANDS / N_MEL_BANDS
_MAX_LAG_ROWS = 400
_TINY = 1e-9
# Tempi from 40 to 240 beats a minute, weighted around 120 (a log-Gaussian; Moelants 2002 finds about 120-125).
_TEMPO_LAGS_ROWS = np.arange(25, 150)
_TEMPO_BPM = 60.0 / (_TEMPO_LAGS_ROWS * _ROW_S)
_TEMPO_WEIGHT = np.exp(-0.5 * np.square(np.log2(_TEMPO_BPM / 120.0) / 0.9))
# Each range of lags ends where the next one begins.
_LAG_RANGES_ROWS, _LAG_END_ROWS = (25, 35, 50, 70, 100, 150), 200
_MODULATION_EDGES_HZ = (0.3, 1.0, 2.0, 4.0, 8.0, 16.0, 40.0)
_MODULATION_FLOOR = 1e-3

RHYTHM_NAMES = (
    "onset_mean",
    "onset_std",
    *numbered("onset_band_mean", range(_N_BANDS)),
    *numbered("onset_band_std", range(_N_BANDS)),
    "onset_rate_hz",
    "pulse_clarity",
    "tempo_octaves",
    "pulse_max",
    "pulse_min",
    "pulse_std",
    *numbered("pulse_lag", _LAG_RANGES_ROWS),
    *(name for hz in _MODULATION_EDGES_HZ[:-1] for name in numbered(f"modulation_{hz:g}hz", range(_N_BANDS))),
)


def rhythm(mel_db: Float64Array) -> Float64Array:
    """The values of RHYTHM_NAMES for a stretch of mel spectra, shape (rows, 40), at least 0.5 s of 10 ms rows.

    The onset strength of a row is its rise over the row before, in dB, averaged over the bands (spectral flux;
    Bello et al. 2005). What a stretch is too short to tell (modulations slower than itself) is 0.
    """
    bands_db = mel_db @ _TO_BANDS
    onsets = np.maximum(np.diff(mel_db, axis=0), 0.0).mean(axis=1)
    onset_mean, onset_deviation = onsets.mean(), onsets.std()
    middle = onsets[1:-1]
    peaks = (middle > onsets[:-2]) & (middle >= onsets[2:]) & (middle > onset_mean + onset_deviation)
    return np.concatenate(
        [
            (onset_mean, onset_deviation),
            *means_and_deviations(np.maximum(np.diff(bands_db, axis=0), 0.0)),
            (peaks.mean() / _ROW_S,),
            _periodicity(onsets - onset_mean),
            _modulations(bands_db),
        ]
    )


def _periodicity(centred: Float64Array) -> Float64Array:
    """From pulse_clarity to pulse_lag."""
    length = 1 << (len(centred) + _MAX_LAG_ROWS - 1).bit_length()
    autocorrelation = np.fft.irfft(np.square(np.abs(np.fft.rfft(centred, length))))[:_MAX_LAG_ROWS]
    autocorrelation = autocorrelation / (autocorrelation[0] + _TINY)
    tempo_range = autocorrelation[_TEMPO_LAGS_ROWS[0] : _TEMPO_LAGS_ROWS[-1] + 1]
    weighted = tempo_range * _TEMPO_WEIGHT
    best = weighted.argmax()
    return np.array(
        [
            weighted[best],
            np.log2(_TEMPO_BPM[best]),
            tempo_range.max(),
            tempo_range.min(),
            autocorrelation[_TEMPO_LAGS_ROWS[0] :].std(),
            *np.maximum.reduceat(autocorrelation[:_LAG_END_ROWS], _LAG_RANGES_ROWS),
        ]
    )


def _modulations(bands_db: Float64Array) -> Float64Array:
    """Log energy of each band's level in six ranges of modulation frequency."""
    window, edges = _modulation_analysis(len(bands_db))
    spectrum = np.square(np.abs(np.fft.rfft((bands_db - bands_db.mean(axis=0)) * window, axis=0)))
    counts = np.diff(edges)[:, np.newaxis]
    means = np.add.reduceat(spectrum[: edges[-1]], edges[:-1], axis=0) / np.maximum(counts, 1)
    return np.asarray(np.where(counts > 0, np.log(means + _MODULATION_FLOOR), 0.0).reshape(-1))


@cache
def _modulation_analysis(n_rows: int) -> tuple[Float64Array, npt.NDArray[np.int64]]:
    """The window, shape (rows, 1), and the bins where each range of modulation frequency begins, and the last ends."""
    edges = np.searchsorted(np.fft.rfftfreq(n_rows, _ROW_S), _MODULATION_EDGES_HZ)
    return np.hanning(n_rows)[:, np.newaxis], edges
