"""The scores, compared with scikit-learn, SciPy and a bootstrap done the slow way."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_squared_error, r2_score

from train.metrics import DIMENSIONS, DimensionScores, Estimate, Scores, markdown_table, score

Array = npt.NDArray[np.float64]
Songs = list[Array]
ESTIMATES = [field.name for field in dataclasses.fields(DimensionScores) if not field.name.startswith("n_")]


def lin(x: Array, y: Array) -> float:
    """Lin's coefficient as he writes it."""
    covariance = np.cov(x, y, ddof=0)
    return float(2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + (x.mean() - y.mean()) ** 2))


@pytest.fixture(scope="module")
def songs() -> tuple[Songs, Songs]:
    """Predictions and labels of 40 songs of different lengths, away from 0, better between songs than within."""
    rng = np.random.default_rng(0)
    labels = [
        rng.normal(0.3, 0.3, 2) + np.cumsum(rng.normal(0.0, 0.02, (n, 2)), axis=0) for n in rng.integers(5, 30, 40)
    ]
    predictions = [0.6 * y + 0.1 + rng.normal(0.0, 0.1, 2) + rng.normal(0.0, 0.02, y.shape) for y in labels]
    return predictions, labels


def values_of(scores: Scores, dimension: str) -> dict[str, float]:
    of_dimension = getattr(scores, dimension)
    return {name: getattr(of_dimension, name).value for name in ESTIMATES}


def slow_values(predictions: Songs, labels: Songs, column: int) -> dict[str, float]:
    p_songs, y_songs = [p[:, column] for p in predictions], [y[:, column] for y in labels]
    p, y = np.concatenate(p_songs), np.concatenate(y_songs)
    each = list(zip(p_songs, y_songs, strict=True))
    return {
        "r2": r2_score(y, p),
        "mse": mean_squared_error(y, p),
        "ccc": lin(p, y),
        "between_song_r2": r2_score([song.mean() for song in y_songs], [song.mean() for song in p_songs]),
        "within_song_r": float(np.mean([pearsonr(*song).statistic for song in each])),
        "within_song_rmse": float(np.mean([np.sqrt(np.mean((a - b) ** 2)) for a, b in each])),
        "within_song_ccc": float(np.mean([lin(*song) for song in each])),
    }


def test_scores_are_those_of_scikit_learn_and_scipy(songs: tuple[Songs, Songs]) -> None:
    scores = score(*songs)
    for column, dimension in enumerate(DIMENSIONS):
        assert values_of(scores, dimension) == pytest.approx(slow_values(*songs, column), rel=1e-9)
    assert (scores.n_songs, scores.n_frames) == (40, sum(map(len, songs[1])))


def test_intervals_are_those_of_resampling_songs(songs: tuple[Songs, Songs]) -> None:
    """The same resamples, but each made by concatenating songs and scoring them the slow way."""
    predictions, labels = songs
    scores = score(predictions, labels, n_bootstrap=30, seed=5)
    times_drawn = np.random.default_rng(5).multinomial(40, np.full(40, 1 / 40), size=30)
    for column, dimension in enumerate(DIMENSIONS):
        resampled = []
        for times in times_drawn:
            drawn = np.repeat(np.arange(40), times)
            resampled.append(slow_values([predictions[i] for i in drawn], [labels[i] for i in drawn], column))
        for name in ESTIMATES:
            estimate = getattr(getattr(scores, dimension), name)
            expected = np.percentile([values[name] for values in resampled], [2.5, 97.5])
            assert [estimate.low, estimate.high] == pytest.approx(expected, rel=1e-6), name


def test_the_seed_decides_the_intervals(songs: tuple[Songs, Songs]) -> None:
    assert score(*songs, seed=1) == score(*songs, seed=1)
    assert score(*songs, seed=1) != score(*songs, seed=2)
    assert values_of(score(*songs, seed=1), "arousal") == values_of(score(*songs, seed=2), "arousal")


def test_masked_frames_do_not_count(songs: tuple[Songs, Songs]) -> None:
    predictions, labels = songs
    rng = np.random.default_rng(2)
    masks = [rng.random(len(y)) < 0.7 for y in labels]
    for mask in masks:
        mask[:3] = True
    unlabelled = [np.where(mask[:, None], y, np.nan) for y, mask in zip(labels, masks, strict=True)]
    kept = [[x[mask] for x, mask in zip(xs, masks, strict=True)] for xs in (predictions, labels)]
    assert score(predictions, unlabelled, masks) == score(*kept)


def test_songs_without_change() -> None:
    rising = np.array([[0.0, 0.0], [0.1, 0.1], [0.2, 0.2]])
    flat = np.full((3, 2), 0.1)
    scores = score([rising, flat, rising], [rising, rising, flat])
    # A perfect song, one with constant predictions, and one with constant labels, which is left out.
    assert scores.valence.within_song_r.value == pytest.approx(0.5)
    assert scores.valence.within_song_ccc.value == pytest.approx(0.5)
    assert scores.valence.within_song_rmse.value == pytest.approx((0.0 + 2 * math.sqrt(0.02 / 3)) / 3)
    assert (scores.valence.n_constant_labels, scores.valence.n_constant_predictions) == (1, 1)


def test_a_constant_predictor_tracks_nothing(songs: tuple[Songs, Songs]) -> None:
    _, labels = songs
    mean = np.concatenate(labels).mean(axis=0)
    valence = score([np.tile(mean, (len(y), 1)) for y in labels], labels).valence
    assert valence.r2.value == pytest.approx(0.0, abs=1e-12)
    assert valence.within_song_r == valence.within_song_ccc == Estimate(0.0, 0.0, 0.0)
    assert valence.ccc.value == pytest.approx(0.0, abs=1e-12)
    assert valence.n_constant_predictions == 40


def test_undefined_scores_are_nan() -> None:
    flat = np.full((4, 2), 0.1)
    wavy = flat + np.array([[0.1], [-0.1], [0.1], [-0.1]])
    valence = score([wavy, wavy], [flat, flat]).valence
    for name in ("r2", "between_song_r2", "within_song_r", "within_song_ccc"):
        assert np.isnan(dataclasses.astuple(getattr(valence, name))).all(), name
    assert valence.mse.value == pytest.approx(0.01)
    assert valence.ccc.value == pytest.approx(0.0, abs=1e-12)
    assert "| m | valence | – [–, –] | 0.0100 |" in markdown_table({"m": score([wavy, wavy], [flat, flat])})


def test_the_table_has_a_row_for_each_model_and_dimension(songs: tuple[Songs, Songs]) -> None:
    scores = score(*songs)
    lines = markdown_table({"ridge": scores, "mlp": score(songs[1], songs[1])}).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| ridge", "| ridge", "| mlp", "| mlp"]
    assert {line.count("|") for line in lines} == {9}
    r2 = scores.arousal.r2
    assert lines[3].startswith(f"| ridge | arousal | {r2.value:.3f} [{r2.low:.3f}, {r2.high:.3f}] |")


def test_invalid_input_is_named(songs: tuple[Songs, Songs]) -> None:
    p, y = (each[:2] for each in songs)
    masks = [np.ones(len(labels), dtype=np.bool_) for labels in y]
    not_boolean, empty = [masks[0], masks[1].astype(np.float64)], [masks[0], ~masks[1]]
    for predictions, labels, mask, message in (
        (p[1:], y, None, r"got \[1, 2\]"),
        (p, y, masks[1:], r"got \[2, 2, 1\]"),
        ([], [], None, "no song"),
        ([p[0], p[1][1:]], y, None, "Song 1: expected predictions and labels of shape"),
        ([p[0][:, 0]], [y[0][:, 0]], None, "Song 0: expected predictions and labels of shape"),
        (p, y, not_boolean, "Song 1: expected a boolean mask"),
        (p, y, empty, "Song 1 has no frame to score"),
        (p, [y[0], np.full_like(y[1], np.nan)], None, "Song 1: its labels have a NaN"),
        ([np.full_like(p[0], np.inf)], y[:1], None, "Song 0: its predictions have a NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            score(predictions, labels, mask)
    with pytest.raises(ValueError, match="n_bootstrap"):
        score(p, y, n_bootstrap=0)
