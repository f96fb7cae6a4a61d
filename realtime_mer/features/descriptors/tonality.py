"""How tonal the last seconds were, and in which mode: numbers that do not change when the music is transposed.

Major or minor is much of valence (Gabrielsson and Lindström 2010), and DEAM's 260 features do not hold it.
"""

from __future__ import annotations

import numpy as np

from realtime_mer.features.descriptors.spectra import BINS_PER_OCTAVE, N_OCTAVES, N_TONE_BINS, NO_PEAK_DB
from realtime_mer.features.descriptors.tracks import Float64Array, means_and_deviations, numbered, powers
from realtime_mer.types import FloatArray

# Harmony is described from the first octave above 55 Hz on, and from the third on: without the bass.
_FIRST_OCTAVES = (0, 2)
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


def _unit(rows: Float64Array) -> Float64Array:
    return np.asarray(rows / (np.sqrt(np.einsum("...p,...p->...", rows, rows))[..., np.newaxis] + _TINY))


def _standardised(rows: Float64Array) -> Float64Array:
    return _unit(rows - rows.mean(axis=-1, keepdims=True))


def _all_transpositions(templates: Float64Array) -> Float64Array:
    """Shape (templates, 12, 12): each template from each of the twelve tonics, zero mean and unit length."""
    return _standardised(np.stack([np.roll(templates, tonic, axis=1) for tonic in range(12)], axis=1))


_KEYS = _all_transpositions(np.array([profile for pair in _KEY_PROFILES.values() for profile in pair]))
_TRIADS = _all_transpositions(
    np.array([[1.0 if pitch in pitches else 0.0 for pitch in range(12)] for pitches in _CHORDS.values()])
)
_CHORDS_AND_KEYS = np.concatenate([_TRIADS, _KEYS[:2]])
# (3, 36, 12): for each tuning, what a semitone is made of: its own third of a semitone, and half of either neighbour.
# The last third belongs to the next semitone.
_OWN, _BELOW, _ABOVE = (np.roll(np.eye(BINS_PER_OCTAVE), shift, axis=0)[:, ::3] for shift in (0, -1, 1))
_SEMITONES = np.stack([np.roll(_OWN + 0.5 * _BELOW + 0.5 * _ABOVE, tuning, axis=0) for tuning in (0, 1, -1)])

TONALITY_NAMES = (
    *(f"key_{profile}_{mode}" for profile in _KEY_PROFILES for mode in ("major", "minor", "mode")),
    *numbered("chroma_key", range(12)),
    *numbered("chroma_sorted", range(12)),
    *numbered("interval_mean", range(7)),
    *numbered("interval", range(1, 7)),
    *numbered("fourier_mean", range(1, 7)),
    *numbered("fourier", range(1, 7)),
    *(f"chord_{name}_{statistic}" for name in (*_CHORDS, "mode") for statistic in ("mean", "std")),
    "chord_major_share",
    "beat_key_major",
    "beat_key_minor",
    "beat_key_mode",
    "chroma_change_mean",
    "chroma_change_std",
    "beat_change_mean",
    "beat_change_std",
    "chroma_mean_entropy",
    "chroma_entropy_mean",
    "chroma_entropy_std",
)
_REGISTER_TRACKS = (
    *numbered("octave_share", range(N_OCTAVES)),
    *numbered("octave_peaks", range(N_OCTAVES)),
    "peak_centroid",
    "peak_highest",
    "peak_lowest",
    "peak_strongest",
)
REGISTER_NAMES = tuple(f"{name}_{statistic}" for statistic in ("mean", "std") for name in _REGISTER_TRACKS)

_HEIGHTS = np.arange(N_TONE_BINS) / BINS_PER_OCTAVE
# Within 20 dB of the strongest peak, as a ratio of weights.
_STRONG = 10.0 ** (-20.0 / 40.0)


def peak_weights(peaks_db: FloatArray) -> Float64Array:
    """The square root of each peak's amplitude, 0 where there is none; `peaks_db` as `spectra.tone_peaks` gives it."""
    return np.where(peaks_db > NO_PEAK_DB + 1.0, powers(peaks_db / 4.0), 0.0)


def tonality(weights: Float64Array) -> Float64Array:
    """The values of TONALITY_NAMES, mode and harmony, for a stretch of peaks: of all octaves, then of the treble's.

    weights: shape (rows, 216), at least five rows of 100 ms, from `peak_weights`. Returns shape (2, names).
    """
    rows = _chroma(weights)
    mean = rows.mean(axis=1)
    keys = _correlations(mean, _KEYS)
    best = keys.max(axis=-1).reshape(-1, len(_KEY_PROFILES), 2)
    tonics = keys[:, :2].reshape(-1, 24).argmax(axis=1) % 12
    from_tonic = mean[np.arange(len(mean))[:, np.newaxis], (np.arange(12) + tonics[:, np.newaxis]) % 12]

    # Interval content: the chroma's circular autocorrelation, and its Fourier magnitudes (Yust 2019).
    rows_and_mean = np.concatenate([rows, mean[:, np.newaxis]], axis=1)
    fourier = np.abs(np.fft.rfft(rows_and_mean))
    power = np.square(fourier)
    intervals = np.fft.irfft(np.stack([power[:, -1], power[:, :-1].mean(axis=1)]), 12)
    entropies = _entropy(rows_and_mean)

    n_chords = rows.shape[1] // _ROWS_PER_CHORD
    beats = rows[:, -n_chords * _ROWS_PER_CHORD :].reshape(-1, n_chords, _ROWS_PER_CHORD, 12).mean(axis=2)
    matches = _correlations(beats, _CHORDS_AND_KEYS).max(axis=-1)
    mode = matches[..., 0] - matches[..., 1]
    match_means, match_deviations = means_and_deviations(matches)
    chords = np.stack([match_means, match_deviations], axis=-1)[:, : len(_CHORDS)]
    values = [
        np.concatenate([best, best[..., :1] - best[..., 1:]], axis=-1),
        from_tonic,
        np.sort(mean),
        intervals[0, :, :7],
        intervals[1, :, 1:7],
        fourier[:, -1, 1:],
        fourier[:, :-1, 1:].mean(axis=1),
        chords,
        mode.mean(axis=1),
        mode.std(axis=1),
        (mode > 0.0).mean(axis=1),
        match_means[:, -2:],
        match_means[:, -2] - match_means[:, -1],
        *_change(rows),
        *_change(beats),
        entropies[:, -1],
        entropies[:, :-1].mean(axis=1),
        entropies[:, :-1].std(axis=1),
    ]
    return np.concatenate([value.reshape(len(rows), -1) for value in values], axis=1)


def _correlations(chroma: Float64Array, templates: Float64Array) -> Float64Array:
    """With the twelve transpositions: (…, 12) and (templates, 12, 12) -> (…, templates, 12)."""
    flat = _standardised(chroma) @ templates.reshape(-1, 12).T
    return np.asarray(flat.reshape(*chroma.shape[:-1], *templates.shape[:2]))


def _chroma(weights: Float64Array) -> Float64Array:
    """Chroma rows of unit length, from the peaks of all octaves and of the treble's, shape (2, rows, 12).

    The tuning is the third of a semitone with the most weight over all rows; each semitone takes its own bin and half
    of either neighbour.
    """
    octaves = weights.reshape(len(weights), N_OCTAVES, BINS_PER_OCTAVE)
    thirds = np.stack([octaves[:, first:].sum(axis=1) for first in _FIRST_OCTAVES])
    tunings = thirds.sum(axis=1).reshape(-1, 12, 3).sum(axis=1).argmax(axis=1)
    return _unit(thirds @ _SEMITONES[tunings])


def _entropy(rows: Float64Array) -> Float64Array:
    shares = rows / (rows.sum(axis=-1, keepdims=True) + _TINY) + _TINY
    return np.asarray(-(shares * np.log(shares)).sum(axis=-1))


def _change(rows: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Mean and standard deviation of the cosine distance between neighbouring rows; zeros for a single row."""
    if rows.shape[1] < 2:
        return np.zeros(len(rows)), np.zeros(len(rows))
    distances = 1.0 - (rows[:, 1:] * rows[:, :-1]).sum(axis=-1)
    return distances.mean(axis=1), distances.std(axis=1)


def register(weights: Float64Array) -> Float64Array:
    """The values of REGISTER_NAMES for a stretch of peaks, shape (rows, 216), from `peak_weights`: where the tones lie.

    Octave shares of the peaks' energy, peaks per octave, and the height of the strongest, the highest and the lowest
    peak within 20 dB of it (octaves above 55 Hz); mean and standard deviation over rows.
    """
    present, energy = weights > 0.0, np.square(np.square(weights))
    by_octave = (len(weights), N_OCTAVES, BINS_PER_OCTAVE)
    octave_energy = energy.reshape(by_octave).sum(axis=2)
    total_energy = octave_energy.sum(axis=1, keepdims=True) + _TINY
    counts = present.reshape(by_octave).sum(axis=2)
    strong = weights > _STRONG * weights.max(axis=1, keepdims=True)
    heights = np.column_stack(
        [
            _HEIGHTS[::-1][strong[:, ::-1].argmax(axis=1)],
            _HEIGHTS[strong.argmax(axis=1)],
            _HEIGHTS[weights.argmax(axis=1)],
        ]
    )
    heights[~present.any(axis=1)] = (0.0, N_OCTAVES, 0.0)
    tracks = np.column_stack([octave_energy / total_energy, counts, energy @ _HEIGHTS / total_energy[:, 0], heights])
    return np.concatenate(means_and_deviations(tracks))
