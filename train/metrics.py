"""Scores of predictions over all frames, between songs, and within songs, each with its uncertainty.

In ten-second clips nearly all of the labels' variance lies between songs, so pooled R² rewards knowing a song's mean;
lights follow the change within a song. So both kinds of scores are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

DIMENSIONS = ("valence", "arousal")
INTERVAL_PERCENTILES = (2.5, 97.5)
# A variance below this is a rounding error: labels and predictions lie in [-1, 1].
_NO_VARIANCE = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A score and its 95 % interval, percentiles of a bootstrap over songs. NaN: undefined (see DimensionScores)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class DimensionScores:
    """The scores of valence or of arousal.

    r2, mse: over all frames of all songs: 1 - SSE / SST, and the mean squared error.
    ccc: Lin's concordance correlation coefficient over all frames (Lin, "A concordance correlation coefficient to
        evaluate reproducibility", Biometrics 1989, with population moments).
    between_song_r2: R² of the songs' mean predictions for the songs' mean labels, every song counting once.
    within_song_r, within_song_ccc: Pearson's r and Lin's coefficient inside each song, averaged over the songs whose
        labels change. Constant predictions for such a song count as 0 in both.
    within_song_rmse: the root mean squared error inside each song, averaged over all songs.
    n_constant_labels: songs whose labels do not change; they are excluded from within_song_r and within_song_ccc.
    n_constant_predictions: songs whose predictions do not change.

    A score is NaN if it is undefined: R² if labels (or the songs' means) do not vary, within_song_r and within_song_ccc
    if no song's labels change. Resamples with an undefined score are left out of its interval.
    """

    r2: Estimate
    mse: Estimate
    ccc: Estimate
    between_song_r2: Estimate
    within_song_r: Estimate
    within_song_rmse: Estimate
    within_song_ccc: Estimate
    n_constant_labels: int
    n_constant_predictions: int


@dataclass(frozen=True)
class Scores:
    """The scores of one set of predictions, and what they are based on."""

    valence: DimensionScores
    arousal: DimensionScores
    n_songs: int
    n_frames: int
    n_bootstrap: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Nested plain numbers, ready for JSON (an undefined score is NaN)."""
        return asdict(self)


def score(
    predictions: Sequence[npt.ArrayLike],
    labels: Sequence[npt.ArrayLike],
    masks: Sequence[npt.ArrayLike] | None = None,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Scores:
    """Compares predictions with labels, song by song.

    predictions, labels: one array of shape (frames, 2) per song, column 0 valence, column 1 arousal.
    masks: optional, one boolean array of shape (frames,) per song; only frames where it is True are scored.
    n_bootstrap: resamples of the songs, with replacement. The same number of songs and seed give the same resamples,
        so the intervals of two models on the same songs are comparable.

    Raises ValueError, naming the song by its index, if lengths or shapes do not match, a song has no frame to score, or
    a scored value is NaN or infinite.
    """
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap: expected at least 1, got {n_bootstrap}.")
    predicted, labelled, lengths = _joined(predictions, labels, masks)
    n_songs = len(lengths)
    sums_by_song, constant_labels, constant_predictions = _song_sums(predicted, labelled, lengths)

    # Every score is a function of sums over songs, so a resample is a sum weighted by the number of draws of each song.
    times_drawn = np.random.default_rng(seed).multinomial(n_songs, np.full(n_songs, 1.0 / n_songs), size=n_bootstrap)
    values = _scores_from_sums({name: song_sums.sum(axis=0) for name, song_sums in sums_by_song.items()})
    resampled = _scores_from_sums({name: times_drawn @ song_sums for name, song_sums in sums_by_song.items()})

    def dimension(column: int) -> DimensionScores:
        return DimensionScores(
            **{name: _estimate(values[name][column], resampled[name][:, column]) for name in values},
            n_constant_labels=int(constant_labels[:, column].sum()),
            n_constant_predictions=int(constant_predictions[:, column].sum()),
        )

    return Scores(dimension(0), dimension(1), n_songs, int(lengths.sum()), n_bootstrap, seed)


def markdown_table(scores: Mapping[str, Scores]) -> str:
    """A Markdown table, a row per name and dimension: R² with its interval, and the other scores."""
    lines = [
        "| model | dimension | R² [95 %] | MSE | R² between songs | r within songs | CCC within | RMSE within |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, of_model in scores.items():
        for dimension in DIMENSIONS:
            of_dimension: DimensionScores = getattr(of_model, dimension)
            r2 = of_dimension.r2
            others = [
                of_dimension.between_song_r2,
                of_dimension.within_song_r,
                of_dimension.within_song_ccc,
                of_dimension.within_song_rmse,
            ]
            cells = [
                name,
                dimension,
                f"{_decimal(r2.value)} [{_decimal(r2.low)}, {_decimal(r2.high)}]",
                _decimal(of_dimension.mse.value, places=4),
                *(_decimal(estimate.value) for estimate in others),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _decimal(value: float, places: int = 3) -> str:
    return "–" if np.isnan(value) else f"{value:.{places}f}"


def _joined(
    predictions: Sequence[npt.ArrayLike], labels: Sequence[npt.ArrayLike], masks: Sequence[npt.ArrayLike] | None
) -> tuple[Float64Array, Float64Array, npt.NDArray[np.int64]]:
    """The scored frames of all songs, one song after another, each (frames, 2), and the songs' numbers of frames."""
    if len(predictions) != len(labels) or (masks is not None and len(masks) != len(labels)):
        counts = [len(songs) for songs in (predictions, labels, masks) if songs is not None]
        raise ValueError(f"Expected predictions, labels and masks of as many songs each, got {counts}.")
    if len(labels) == 0:
        raise ValueError("There is no song to score.")
    predicted, labelled = [], []
    for song in range(len(labels)):
        song_predictions = np.asarray(predictions[song], dtype=np.float64)
        song_labels = np.asarray(labels[song], dtype=np.float64)
        if song_labels.ndim != 2 or song_labels.shape[1] != 2 or song_predictions.shape != song_labels.shape:
            raise ValueError(
                f"Song {song}: expected predictions and labels of shape (frames, 2), got {song_predictions.shape} and "
                f"{song_labels.shape}."
            )
        if masks is not None:
            mask = np.asarray(masks[song])
            if mask.shape != song_labels.shape[:1] or mask.dtype != np.bool_:
                raise ValueError(
                    f"Song {song}: expected a boolean mask of {len(song_labels)} frames, got {mask.dtype} {mask.shape}."
                )
            song_predictions, song_labels = song_predictions[mask], song_labels[mask]
        if len(song_labels) == 0:
            raise ValueError(f"Song {song} has no frame to score; leave it out.")
        for what, values in (("predictions", song_predictions), ("labels", song_labels)):
            if not np.isfinite(values).all():
                raise ValueError(f"Song {song}: its {what} have a NaN or infinite value; mask such frames.")
        predicted.append(song_predictions)
        labelled.append(song_labels)
    return np.concatenate(predicted), np.concatenate(labelled), np.array([len(values) for values in labelled])


def _song_sums(
    predicted: Float64Array, labelled: Float64Array, lengths: npt.NDArray[np.int64]
) -> tuple[dict[str, Float64Array], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Each song's terms of the sums that the scores are based on, every entry of shape (n_songs, 2); and which songs'
    labels, and predictions, are constant."""
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    n_frames = np.repeat(lengths[:, None].astype(np.float64), 2, axis=1)

    def per_song(values: Float64Array) -> Float64Array:
        return np.add.reduceat(values, starts, axis=0)

    def constant(values: Float64Array) -> npt.NDArray[np.bool_]:
        return np.asarray(np.maximum.reduceat(values, starts, axis=0) == np.minimum.reduceat(values, starts, axis=0))

    constant_labels, constant_predictions = constant(labelled), constant(predicted)
    # Centred, so that sums of squares lose no digits; a common shift changes no score.
    centre = labelled.mean(axis=0)
    p, y = predicted - centre, labelled - centre
    mean_p, mean_y = per_song(p) / n_frames, per_song(y) / n_frames
    p_around_mean, y_around_mean = p - np.repeat(mean_p, lengths, axis=0), y - np.repeat(mean_y, lengths, axis=0)
    variance_p, variance_y = per_song(p_around_mean**2) / n_frames, per_song(y_around_mean**2) / n_frames
    covariance = per_song(p_around_mean * y_around_mean) / n_frames
    squared_error = per_song((p - y) ** 2)

    tracked = ~constant_labels & ~constant_predictions
    deviations = np.sqrt(variance_p) * np.sqrt(variance_y)
    r = np.divide(covariance, deviations, out=np.zeros_like(deviations), where=tracked & (deviations > 0))
    concordance_scale = variance_p + variance_y + (mean_p - mean_y) ** 2
    ccc = np.divide(2 * covariance, concordance_scale, out=np.zeros_like(r), where=tracked & (deviations > 0))
    sums = {
        "songs": np.ones_like(n_frames),
        "frames": n_frames,
        "p": per_song(p),
        "y": per_song(y),
        "pp": per_song(p * p),
        "yy": per_song(y * y),
        "py": per_song(p * y),
        "squared_error": squared_error,
        "mean_y": mean_y,
        "mean_y_squared": mean_y**2,
        "squared_error_of_means": (mean_p - mean_y) ** 2,
        "songs_with_changing_labels": (~constant_labels).astype(np.float64),
        "r": r,
        "ccc": ccc,
        "rmse": np.sqrt(squared_error / n_frames),
    }
    return sums, constant_labels, constant_predictions


def _scores_from_sums(sums: Mapping[str, Float64Array]) -> dict[str, Float64Array]:
    """The scores, by their names in DimensionScores, from sums over songs; any shape in, the same out."""
    frames, songs = sums["frames"], sums["songs"]
    mse = sums["squared_error"] / frames
    mean_p, mean_y = sums["p"] / frames, sums["y"] / frames
    variance_p, variance_y = sums["pp"] / frames - mean_p**2, sums["yy"] / frames - mean_y**2
    covariance = sums["py"] / frames - mean_p * mean_y
    between_song_variance = sums["mean_y_squared"] / songs - (sums["mean_y"] / songs) ** 2
    return {
        "r2": 1.0 - _ratio(mse, variance_y),
        "mse": mse,
        "ccc": _ratio(2 * covariance, variance_p + variance_y + (mean_p - mean_y) ** 2),
        "between_song_r2": 1.0 - _ratio(sums["squared_error_of_means"] / songs, between_song_variance),
        "within_song_r": _ratio(sums["r"], sums["songs_with_changing_labels"]),
        "within_song_rmse": sums["rmse"] / songs,
        "within_song_ccc": _ratio(sums["ccc"], sums["songs_with_changing_labels"]),
    }


def _ratio(numerator: Float64Array, denominator: Float64Array) -> Float64Array:
    """The quotient, NaN if the denominator, a variance or a count, is 0."""
    quotient = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > _NO_VARIANCE)
    return quotient


def _estimate(value: float, resampled: Float64Array) -> Estimate:
    defined = resampled[~np.isnan(resampled)]
    low, high = np.percentile(defined, INTERVAL_PERCENTILES) if len(defined) else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))
