"""Baselines: a constant, and ridge regression on single frames and on the mean of all frames so far.

All of them are causal: they predict at each frame from that frame and the ones before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import Ridge

from realtime_mer.models.scaling import Scaler
from realtime_mer.types import FloatArray
from train.data import Dataset
from train.deam import Split
from train.loop import scaled, score_sequences, streaming_scores
from train.metrics import Scores
from train.models import StreamingModel
from train.sequences import SongSequence

Float64Array = npt.NDArray[np.float64]

# The ridge penalties to choose from on validation, for valence and arousal separately.
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 6, 13))


class Baseline(Protocol):
    """Anything that predicts causally from features as extracted."""

    def predict(self, sequences: Sequence[SongSequence]) -> list[FloatArray]:
        """sequences: features as extracted, not scaled. Returns (frames, 2) in [-1, 1] for each."""
        ...


@dataclass(frozen=True, eq=False)
class Constant:
    """The same prediction for every frame. mean: shape (2,), the training labels' mean."""

    mean: Float64Array

    def predict(self, sequences: Sequence[SongSequence]) -> list[FloatArray]:
        """See Baseline."""
        return [np.tile(self.mean, (len(sequence.features), 1)).astype(np.float32) for sequence in sequences]


@dataclass(frozen=True, eq=False)
class RidgeBaseline:
    """Linear in the scaled features, or in their mean over all frames so far; clipped to [-1, 1].

    coefficients: shape (n_features, 2); intercept: shape (2,). alphas: the penalties, of valence and of arousal.
    """

    scaler: Scaler
    on_running_mean: bool
    coefficients: Float64Array
    intercept: Float64Array
    alphas: tuple[float, float]

    def predict(self, sequences: Sequence[SongSequence]) -> list[FloatArray]:
        """See Baseline."""
        inputs = _inputs(self.scaler, sequences, self.on_running_mean)
        return [np.clip(rows @ self.coefficients + self.intercept, -1.0, 1.0).astype(np.float32) for rows in inputs]


def running_mean(features: npt.ArrayLike) -> Float64Array:
    """The mean of a frame and all before it, for each frame: float64, shape (frames, n_features) in and out."""
    frames = np.asarray(features, dtype=np.float64)
    mean: Float64Array = np.cumsum(frames, axis=0) / np.arange(1, len(frames) + 1)[:, None]
    return mean


def fit_constant(training: Sequence[SongSequence]) -> Constant:
    """The mean of all labels."""
    return Constant(_labels(training).mean(axis=0))


def fit_ridge(
    training: Sequence[SongSequence], validation: Sequence[SongSequence], names: Sequence[str], *, on_running_mean: bool
) -> RidgeBaseline:
    """Ridge regression on signed-log standardised features, with the penalties of ALPHAS that are best on validation.

    training, validation: features as extracted; names: the features' names.
    """
    scaler = Scaler.fit("signed_log_standard", np.concatenate([sequence.features for sequence in training]), names)
    inputs, labels = _labelled_inputs(scaler, training, on_running_mean), _labels(training)
    held_out, held_out_labels = _labelled_inputs(scaler, validation, on_running_mean), _labels(validation)
    fits = [Ridge(alpha=alpha).fit(inputs, labels) for alpha in ALPHAS]
    errors = np.array([np.mean((ridge.predict(held_out) - held_out_labels) ** 2, axis=0) for ridge in fits])
    chosen = errors.argmin(axis=0)
    return RidgeBaseline(
        scaler,
        on_running_mean,
        coefficients=np.stack([fits[index].coef_[column] for column, index in enumerate(chosen)], axis=1),
        intercept=np.array([fits[index].intercept_[column] for column, index in enumerate(chosen)]),
        alphas=(ALPHAS[chosen[0]], ALPHAS[chosen[1]]),
    )


def fit_baselines(dataset: Dataset, split: Split) -> dict[str, Baseline]:
    """The baselines by name, trained on split["train"], the penalties chosen on split["validation"]."""
    training = [dataset.songs[song_id] for song_id in split["train"]]
    validation = [dataset.songs[song_id] for song_id in split["validation"]]
    return {
        "constant": fit_constant(training),
        "ridge, single frames": fit_ridge(training, validation, dataset.names, on_running_mean=False),
        "ridge, running mean": fit_ridge(training, validation, dataset.names, on_running_mean=True),
    }


def score_all(
    dataset: Dataset,
    song_ids: Sequence[int],
    models: Mapping[str, tuple[StreamingModel, Scaler]],
    baselines: Mapping[str, Baseline],
    n_bootstrap: int = 1000,
) -> dict[str, Scores]:
    """The streaming scores on these songs, baselines first.

    models: with their scalers, whose features must be among the data's. All scores are on the same songs and
    resamples, so that their intervals can be compared.
    """
    songs = [dataset.songs[song_id] for song_id in song_ids]
    scores = {
        name: score_sequences(baseline.predict(songs), songs, n_bootstrap) for name, baseline in baselines.items()
    }
    for name, (model, scaler) in models.items():
        scores[name] = streaming_scores(model, scaled(scaler, dataset.selected(songs, scaler.names)), n_bootstrap)
    return scores


def _inputs(scaler: Scaler, sequences: Sequence[SongSequence], on_running_mean: bool) -> list[Float64Array]:
    features = [scaler.transform(sequence.features).astype(np.float64) for sequence in sequences]
    return [running_mean(frames) for frames in features] if on_running_mean else features


def _labelled_inputs(scaler: Scaler, sequences: Sequence[SongSequence], on_running_mean: bool) -> Float64Array:
    inputs = _inputs(scaler, sequences, on_running_mean)
    return np.concatenate([rows[sequence.labelled] for rows, sequence in zip(inputs, sequences, strict=True)])


def _labels(sequences: Sequence[SongSequence]) -> Float64Array:
    return np.concatenate([sequence.labels[sequence.labelled] for sequence in sequences]).astype(np.float64)
