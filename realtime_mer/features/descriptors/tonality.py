"""How tonal the last seconds were, and in which mode: numbers that do not change when the music is transposed.

Major or minor is much of valence (Gabrielsson and Lindström 2010), and DEAM's 260 features do not hold it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from realtime_mer.features.descriptors.spectra import BINS_PER_OCTAVE, N_OCTAVES, NO_PEAK_DB
from realtime_mer.types import FloatArray

Float64 = npt.NDArray[np.float64]

_ROWS_PER_CHORD = 5  # 0.5 s: about a beat
_TINY = 1e-9

# Probe-tone and corpus key profiles, tonic first.
_KEY_PROFILES = {
    # Krumhansl and Kessler 1982
    "krumhansl": (
        (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
        (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
    ),
    # Temperley 1999
    "temperley": (
        (5.0, 2.0, 3.5, 2.0, 4.5, 4.0, 2.0, 4.5, 2.0, 3.5, 1.5, 4.0),
        (5.0, 2.0, 3.5, 4.5, 2.0, 4.0, 2.0, 4.5, 3.5, 2.0, 1.5, 4.0),
    ),
    # Albrecht and Shanahan 2013
    "albrecht": (
        (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081),
        (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052),
    ),
}
_CHORDS = {
    "major": (0, 4, 7),
    "minor": (0, 3, 7),
    "diminished": (0, 3, 6),
    "augmented": (0, 4, 8),
    "suspended": (0, 5, 7),
    "fifth": (0, 7),
}


def _standardised(rows: Float64) -> Float64:
    centred = rows - rows.mean(axis=-1, keepdims=True)
    return np.asarray(centred / (np.linalg.norm(centred, axis=-1, keepdims=True) + _TINY))


def _all_transpositions(templates: Float64) -> Float64:
    """Shape (templates, 12, 12): each template from each of the twelve tonics, zero mean and unit length."""
    return _standardised(np.stack([np.roll(templates, tonic, axis=1) for tonic in range(12)], axis=1))


_KEYS = _all_transpositions(np.array([profile for pair in _KEY_PROFILES.values() for profile in pair]))
_TRIADS = _all_transpositions(
    np.array([[1.0 if pitch in pitches else 0.0 for pitch in range(12)] for pitches in _CHORDS.values()])
)


def _best_correlations(chroma: Float64, templates: Float64) -> Float64:
    """The highest correlation over the twelve transpositions: (…, 12) and (templates, 12, 12) -> (…, templates)."""
    return np.asarray(np.einsum("...p,tkp->...tk", _standardised(chroma), templates).max(axis=-1))


def chroma(peaks_db: FloatArray, octaves: tuple[int, int]) -> Float64:
    """Chroma rows of unit length from the peak spectra of `octaves` (first, end), shape (rows, 12).

    Peaks count by the square root of their amplitude. The tuning is the third of a semitone with the most energy over
    all rows; each semitone takes its own bin and half of either neighbour.
    """
    first, end = (octave * BINS_PER_OCTAVE for octave in octaves)
    weights = np.where(peaks_db > NO_PEAK_DB + 1.0, 10.0 ** (peaks_db.astype(np.float64) / 40.0), 0.0)[:, first:end]
    thirds = weights.reshape(len(weights), -1, BINS_PER_OCTAVE).sum(axis=1)
    tuning = int(thirds.mean(axis=0).reshape(12, 3).sum(axis=0).argmax())
    tuned = np.roll(thirds, -tuning if tuning < 2 else 1, axis=1)
    blurred = tuned + 0.5 * np.roll(tuned, 1, axis=1) + 0.5 * np.roll(tuned, -1, axis=1)
    semitones = blurred.reshape(len(weights), 12, 3)[:, :, 0]
    return np.asarray(semitones / (np.linalg.norm(semitones, axis=1, keepdims=True) + _TINY))


def _entropy(rows: Float64) -> Float64:
    shares = rows / (rows.sum(axis=-1, keepdims=True) + _TINY) + _TINY
    return np.asarray(-(shares * np.log(shares)).sum(axis=-1))


def _change(rows: Float64) -> tuple[float, float]:
    """Mean and standard deviation of the cosine distance between neighbouring rows; zeros for a single row."""
    if len(rows) < 2:
        return 0.0, 0.0
    distance = 1.0 - (rows[1:] * rows[:-1]).sum(axis=1)
    return float(distance.mean()), float(distance.std())


def tonality(peaks_db: FloatArray, octaves: tuple[int, int] = (0, N_OCTAVES)) -> dict[str, float]:
    """Descriptors of the mode and harmony of a stretch of peak spectra.

    peaks_db: shape (rows, 216), at least five rows of 100 ms, as `spectra.tone_peaks` gives them.
    octaves: the first octave above 55 Hz that counts, and the end.
    """
    rows = chroma(peaks_db, octaves)
    mean = rows.mean(axis=0)
    values: dict[str, float] = {}

    keys = np.einsum("p,tkp->tk", _standardised(mean), _KEYS)
    best = keys.max(axis=1)
    for i, name in enumerate(_KEY_PROFILES):
        values[f"key_{name}_major"], values[f"key_{name}_minor"] = float(best[2 * i]), float(best[2 * i + 1])
        values[f"key_{name}_mode"] = float(best[2 * i] - best[2 * i + 1])
    tonic = int(keys[:2].reshape(-1).argmax()) % 12
    values |= {f"chroma_key[{i}]": float(v) for i, v in enumerate(np.roll(mean, -tonic))}
    values |= {f"chroma_sorted[{i}]": float(v) for i, v in enumerate(np.sort(mean))}

    # Interval content: the chroma's circular autocorrelation, and its Fourier magnitudes (Yust 2019).
    values |= {f"interval_mean[{k}]": float(mean @ np.roll(mean, k)) for k in range(7)}
    values |= {f"interval[{k}]": float((rows * np.roll(rows, k, axis=1)).sum(axis=1).mean()) for k in range(1, 7)}
    values |= {f"fourier_mean[{k}]": float(v) for k, v in enumerate(np.abs(np.fft.rfft(mean))[1:], start=1)}
    magnitudes = np.abs(np.fft.rfft(rows, axis=1)).mean(axis=0)
    values |= {f"fourier[{k}]": float(v) for k, v in enumerate(magnitudes[1:], start=1)}

    n_chords = len(rows) // _ROWS_PER_CHORD
    beats = rows[len(rows) - n_chords * _ROWS_PER_CHORD :].reshape(n_chords, _ROWS_PER_CHORD, 12).mean(axis=1)
    triads = _best_correlations(beats, _TRIADS)
    for i, name in enumerate(_CHORDS):
        values[f"chord_{name}_mean"] = float(triads[:, i].mean())
        values[f"chord_{name}_std"] = float(triads[:, i].std())
    mode = triads[:, 0] - triads[:, 1]
    values["chord_mode_mean"], values["chord_mode_std"] = float(mode.mean()), float(mode.std())
    values["chord_major_share"] = float((mode > 0.0).mean())
    beat_keys = _best_correlations(beats, _KEYS[:2]).mean(axis=0)
    values["beat_key_major"], values["beat_key_minor"] = float(beat_keys[0]), float(beat_keys[1])
    values["beat_key_mode"] = float(beat_keys[0] - beat_keys[1])

    values["chroma_change_mean"], values["chroma_change_std"] = _change(rows)
    values["beat_change_mean"], values["beat_change_std"] = _change(beats)
    entropies = _entropy(rows)
    values["chroma_mean_entropy"] = float(_entropy(mean))
    values["chroma_entropy_mean"], values["chroma_entropy_std"] = float(entropies.mean()), float(entropies.std())
    return values


def register(peaks_db: FloatArray) -> dict[str, float]:
    """Where the tones lie: octave shares of the peaks' energy, peaks per octave, and the height of the strongest,
    the highest and the lowest peak within 20 dB of it (octaves above 55 Hz); mean and standard deviation over rows.

    peaks_db: shape (rows, 216).
    """
    present = peaks_db > NO_PEAK_DB + 1.0
    energy = np.where(present, 10.0 ** (peaks_db.astype(np.float64) / 10.0), 0.0)
    octave_energy = energy.reshape(len(energy), N_OCTAVES, BINS_PER_OCTAVE).sum(axis=2)
    shares = octave_energy / (octave_energy.sum(axis=1, keepdims=True) + _TINY)
    counts = present.reshape(len(energy), N_OCTAVES, BINS_PER_OCTAVE).sum(axis=2)
    height = np.arange(peaks_db.shape[1]) / BINS_PER_OCTAVE
    centroid = (energy * height).sum(axis=1) / (energy.sum(axis=1) + _TINY)
    strong = present & (peaks_db > peaks_db.max(axis=1, keepdims=True) - 20.0)
    highest = np.where(strong, height, 0.0).max(axis=1)
    lowest = np.where(strong, height, float(N_OCTAVES)).min(axis=1)
    strongest = np.where(present.any(axis=1), height[energy.argmax(axis=1)], 0.0)
    tracks = np.column_stack([shares, counts, centroid, highest, lowest, strongest])
    names = [f"octave_share[{i}]" for i in range(N_OCTAVES)] + [f"octave_peaks[{i}]" for i in range(N_OCTAVES)]
    names += ["peak_centroid", "peak_highest", "peak_lowest", "peak_strongest"]
    means, deviations = tracks.mean(axis=0), tracks.std(axis=0)
    return {f"{n}_mean": float(v) for n, v in zip(names, means, strict=True)} | {
        f"{n}_std": float(v) for n, v in zip(names, deviations, strict=True)
    }
