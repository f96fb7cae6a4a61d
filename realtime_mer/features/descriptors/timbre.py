"""The colour of the last seconds: the mel spectrum's mean, spread and covariance, and spectral contrast."""

from __future__ import annotations

import numpy as np
from scipy.fft import dct

from realtime_mer.features.descriptors.spectra import ShortSpectra

_N_CEPSTRA = 12
_TINY = 1e-6


def timbre(spectra: ShortSpectra) -> dict[str, float]:
    """Descriptors of a stretch of short spectra; levels are relative to the stretch's own mean level, in dB."""
    mel_db, contrast_db = spectra.mel_db.astype(np.float64), spectra.contrast_db.astype(np.float64)
    total_db = 10.0 * np.log10((10.0 ** (mel_db / 10.0)).sum(axis=1))
    relative_db = mel_db.mean(axis=0) - total_db.mean()
    values = {f"mel_mean[{i}]": float(v) for i, v in enumerate(relative_db)}
    values |= {f"mel_std[{i}]": float(v) for i, v in enumerate(mel_db.std(axis=0))}
    contrast_mean = contrast_db.mean(axis=0)
    contrast_mean[1::2] -= total_db.mean()
    values |= {f"contrast_mean[{i}]": float(v) for i, v in enumerate(contrast_mean)}
    values |= {f"contrast_std[{i}]": float(v) for i, v in enumerate(contrast_db.std(axis=0))}
    low_db, high_db = np.percentile(total_db, (5.0, 95.0))
    values |= {"level_std": float(total_db.std()), "level_range": float(high_db - low_db)}

    # How the cepstral coefficients move together (Mandel and Ellis 2005), as correlations: free of their scale.
    cepstra = dct(mel_db, axis=1, norm="ortho")[:, 1 : _N_CEPSTRA + 1]
    cepstra -= cepstra.mean(axis=0)
    covariance = cepstra.T @ cepstra / len(cepstra)
    deviation = np.sqrt(np.diag(covariance))
    correlation = covariance / (np.outer(deviation, deviation) + _TINY)
    rows, columns = np.triu_indices(_N_CEPSTRA, 1)
    return values | {f"cepstra_corr[{i},{j}]": float(correlation[i, j]) for i, j in zip(rows, columns, strict=True)}
