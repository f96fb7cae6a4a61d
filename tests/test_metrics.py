"""The scores, against scikit-learn, SciPy, values worked out by hand, and a bootstrap done the slow way."""

from __future__ import annotations

import dataclasses
import json
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


def test_hand_computed_values() -> None:
    valence = ([0.0, 0.2], [0.0, 0.4]), ([0.5, 0.5, 0.7], [0.6, 0.7, 0.8])
    predictions = [np.stack([p, np.zeros(len(p))], axis=1) for p, _ in valence]
    labels = [np.stack([y, np.arange(len(y)) / 10], axis=1) for _, y in valence]
    scores = score(predictions, labels)
    # Errors 0, -.2, -.1, -.2, -.1: SSE .1. Labels 0, .4, .6, .7, .8, mean .5: SST .25 + .01 + .01 + .04 + .09 = .4.
    # Song means .1, .17/.3 against .2, .7: SSE .01 + (.4/3)², SST .125.
    # Around the means .38 and .5 the covariance is .34/5 and the variances .308/5 and .4/5.
    # Second song: covariance .02/3, variances .08/9 and .02/3, mean difference .4/3.
    assert values_of(scores, "valence") == pytest.approx(
        {
            "r2": 0.75,
            "mse": 0.02,
            "ccc": 2 * 0.068 / (0.0616 + 0.08 + 0.0144),
            "between_song_r2": 1 - (0.01 + 0.16 / 9) / 0.125,
            "within_song_r": (1 + math.sqrt(0.75)) / 2,
            "within_song_rmse": (math.sqrt(0.02) + math.sqrt(0.02)) / 2,
            "within_song_ccc": (0.04 / 0.06 + (0.04 / 3) / (0.08 / 9 + 0.02 / 3 + 0.16 / 9)) / 2,
        }
    )


def test_perfect_predictions(songs: tuple[Songs, Songs]) -> None:
    perfect = {name: 0.0 if name in ("mse", "within_song_rmse") else 1.0 for name in ESTIMATES}
    scores = score(songs[1], songs[1])
    for dimension in DIMENSIONS:
        assert values_of(scores, dimension) == pytest.approx(perfect)


def test_intervals_are_those_of_resampling_songs(songs: tuple[Songs, Songs]) -> None:
    """The same resamples, but each made by putting songs together and scoring them the slow way."""
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


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """95 % intervals of the mean squared error of songs drawn from a known distribution, 200 times over."""
    rng = np.random.default_rng(1)
    covered = 0
    for repetition in range(200):
        errors = rng.normal(0.0, 0.2, (60, 2))
        labels = rng.normal(0.0, 0.3, (60, 4, 2))
        mse = score(list(labels + errors[:, None]), list(labels), n_bootstrap=200, seed=repetition).valence.mse
        covered += mse.low <= 0.04 <= mse.high
    assert 0.87 <= covered / 200 <= 0.99


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
    # A perfect song, one whose flat predictions follow nothing, and one with nothing to follow, which is left out.
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


def test_what_is_undefined_is_nan() -> None:
    flat = np.full((4, 2), 0.1)
    wavy = flat + np.array([[0.1], [-0.1], [0.1], [-0.1]])
    valence = score([wavy, wavy], [flat, flat]).valence
    for name in ("r2", "between_song_r2", "within_song_r", "within_song_ccc"):
        assert np.isnan(dataclasses.astuple(getattr(valence, name))).all(), name
    assert valence.mse.value == pytest.approx(0.01)
    assert valence.ccc.value == pytest.approx(0.0, abs=1e-12)
    assert "| m | valence | – [–, –] | 0.0100 |" in markdown_table({"m": score([wavy, wavy], [flat, flat])})


def test_to_dict_survives_json(songs: tuple[Songs, Songs]) -> None:
    scores = score(*songs)
    as_dict = json.loads(json.dumps(scores.to_dict()))
    assert as_dict["valence"]["r2"] == dataclasses.asdict(scores.valence.r2)
    assert set(as_dict) == {"valence", "arousal", "n_songs", "n_frames", "n_bootstrap", "seed"}


def test_markdown_table(songs: tuple[Songs, Songs]) -> None:
    scores = score(*songs)
    arousal = scores.arousal
    lines = markdown_table({"ridge": scores, "mlp": score(songs[1], songs[1])}).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| ridge", "| ridge", "| mlp", "| mlp"]
    assert {line.count("|") for line in lines} == {9}
    assert lines[3] == (
        f"| ridge | arousal | {arousal.r2.value:.3f} [{arousal.r2.low:.3f}, {arousal.r2.high:.3f}] "
        f"| {arousal.mse.value:.4f} | {arousal.between_song_r2.value:.3f} | {arousal.within_song_r.value:.3f} "
        f"| {arousal.within_song_ccc.value:.3f} | {arousal.within_song_rmse.value:.3f} |"
    )


def test_what_does_not_fit_is_named(songs: tuple[Songs, Songs]) -> None:
    predictions, labels = songs
    all_frames = [np.ones(len(y), dtype=np.bool_) for y in labels]
    with pytest.raises(ValueError, match="39 songs of predictions, 40 of labels"):
        score(predictions[1:], labels)
    with pytest.raises(ValueError, match="39 of masks"):
        score(predictions, labels, all_frames[1:])
    with pytest.raises(ValueError, match="no song"):
        score([], [])
    with pytest.raises(ValueError, match="Song 1: predictions and labels must both have shape"):
        score([predictions[0], predictions[1][1:]], labels[:2])
    with pytest.raises(ValueError, match="Song 0: predictions and labels must both have shape"):
        score([predictions[0][:, 0]], [labels[0][:, 0]])
    with pytest.raises(ValueError, match="Song 1: its mask must be boolean"):
        score(predictions[:2], labels[:2], [all_frames[0], all_frames[1].astype(np.float64)])
    with pytest.raises(ValueError, match="Song 1 has no frame to score"):
        score(predictions[:2], labels[:2], [all_frames[0], ~all_frames[1]])
    with pytest.raises(ValueError, match="Song 1: its labels hold a NaN"):
        score(predictions[:2], [labels[0], np.full_like(labels[1], np.nan)])
    with pytest.raises(ValueError, match="Song 0: its predictions hold a NaN"):
        score([np.full_like(predictions[0], np.inf)], labels[:1])
    with pytest.raises(ValueError, match="n_bootstrap"):
        score(predictions, labels, n_bootstrap=0)
