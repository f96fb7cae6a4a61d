"""The pulse of the last seconds: onsets, their periodicity, and slow modulations of eight frequency bands."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from realtime_mer.features.descriptors.spectra import MEL_HOP_SAMPLES, RATE_HZ
from realtime_mer.types import FloatArray

_ROW_S = MEL_HOP_SAMPLES / RATE_HZ
_N_BANDS = 8
_MAX_LAG_ROWS = 400
_TINY = 1e-9
# Tempi from 40 to 240 beats a minute, weighted around 120 (a log-Gaussian; Moelants 2002 finds about 120-125).
_TEMPO_LAGS_ROWS = np.arange(25, 150)
_TEMPO_BPM = 60.0 / (_TEMPO_LAGS_ROWS * _ROW_S)
_TEMPO_WEIGHT = np.exp(-0.5 * np.square(np.log2(_TEMPO_BPM / 120.0) / 0.9))
_LAG_RANGES_ROWS = ((25, 35), (35, 50), (50, 70), (70, 100), (100, 150), (150, 200))
_MODULATION_EDGES_HZ = (0.3, 1.0, 2.0, 4.0, 8.0, 16.0, 40.0)
_MODULATION_FLOOR = 1e-3


def rhythm(mel_db: FloatArray) -> dict[str, float]:
    """Descriptors of a stretch of mel spectra, shape (rows, 40), at least 0.5 s of 10 ms rows.

    The onset strength of a row is its rise over the row before, in dB, averaged over the bands (spectral flux;
    Bello et al. 2005). What a stretch is too short to tell (modulations slower than itself) is 0.
    """
    bands_db = mel_db.astype(np.float64).reshape(len(mel_db), _N_BANDS, -1).mean(axis=2)
    onsets = np.maximum(np.diff(mel_db.astype(np.float64), axis=0), 0.0).mean(axis=1)
    band_onsets = np.maximum(np.diff(bands_db, axis=0), 0.0)
    values = {"onset_mean": float(onsets.mean()), "onset_std": float(onsets.std())}
    values |= {f"onset_band_mean[{i}]": float(v) for i, v in enumerate(band_onsets.mean(axis=0))}
    values |= {f"onset_band_std[{i}]": float(v) for i, v in enumerate(band_onsets.std(axis=0))}
    threshold = onsets.mean() + onsets.std()
    middle = onsets[1:-1]
    peaks = (middle > onsets[:-2]) & (middle >= onsets[2:]) & (middle > threshold)
    values["onset_rate_hz"] = float(peaks.mean() / _ROW_S)
    return values | _periodicity(onsets) | _modulations(bands_db)


def _periodicity(onsets: npt.NDArray[np.float64]) -> dict[str, float]:
    centred = onsets - onsets.mean()
    length = 1 << (len(centred) + _MAX_LAG_ROWS - 1).bit_length()
    autocorrelation = np.fft.irfft(np.square(np.abs(np.fft.rfft(centred, length))))[:_MAX_LAG_ROWS]
    autocorrelation = autocorrelation / (autocorrelation[0] + _TINY)
    tempo_range = autocorrelation[_TEMPO_LAGS_ROWS]
    weighted = tempo_range * _TEMPO_WEIGHT
    values = {
        "pulse_clarity": float(weighted.max()),
        "tempo_octaves": float(np.log2(_TEMPO_BPM[weighted.argmax()])),
        "pulse_max": float(tempo_range.max()),
        "pulse_min": float(tempo_range.min()),
        "pulse_std": float(autocorrelation[_TEMPO_LAGS_ROWS[0] :].std()),
    }
    return values | {f"pulse_lag[{low}]": float(autocorrelation[low:high].max()) for low, high in _LAG_RANGES_ROWS}


def _modulations(bands_db: npt.NDArray[np.float64]) -> dict[str, float]:
    """Log energy of each band's level in six ranges of modulation frequency."""
    centred = bands_db - bands_db.mean(axis=0)
    spectrum = np.square(np.abs(np.fft.rfft(centred * np.hanning(len(centred))[:, np.newaxis], axis=0)))
    frequencies_hz = np.fft.rfftfreq(len(centred), _ROW_S)
    values: dict[str, float] = {}
    for low_hz, high_hz in pairwise(_MODULATION_EDGES_HZ):
        inside = (frequencies_hz >= low_hz) & (frequencies_hz < high_hz)
        energy = np.log(spectrum[inside].mean(axis=0) + _MODULATION_FLOOR) if inside.any() else np.zeros(_N_BANDS)
        values |= {f"modulation_{low_hz:g}hz[{i}]": float(v) for i, v in enumerate(energy)}
    return values
