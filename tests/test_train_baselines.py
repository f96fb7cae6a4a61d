"""The baselines, compared with direct calculations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_songs import N_FEATURES, made_up_data, made_up_song, song_sequence

from realtime_mer.models.scaling import Scaler
from train.baselines import (
    ALPHAS,
    Constant,
    RidgeBaseline,
    fit_baselines,
    fit_constant,
    fit_ridge,
    running_mean,
    score_all,
)
from train.deam import split_songs
from train.loop import scaled, score_sequences, streaming_scores
from train.models import MLP
from train.sequences import SongSequence

NAMES = tuple(f"feature {column}" for column in range(N_FEATURES))


def half_labelled(song: SongSequence) -> SongSequence:
    """The same without labels in the first 10 frames, with wrong values in their place."""
    labelled = np.arange(len(song.features)) >= 10
    labels = np.where(labelled[:, None], song.labels, np.float32(1.0))
    return SongSequence(song.song_id, song.features, labels, labelled, song.end_s)


def test_the_running_mean_is_that_of_all_frames_so_far() -> None:
    np.testing.assert_allclose(running_mean([[1, 10], [3, 20], [8, 0]]), [[1, 10], [2, 15], [4, 10]])


def test_the_constant_is_the_mean_of_the_labels() -> None:
    songs = [
        song_sequence(1, np.zeros((2, 3)), np.array([[0.1, 0.2], [0.3, 0.4]])),
        SongSequence(
            2, np.zeros((2, 3), np.float32), np.full((2, 2), -1, np.float32), np.array([True, False]), np.ones(2)
        ),
    ]
    constant = fit_constant(songs)
    np.testing.assert_allclose(constant.mean, [(0.1 + 0.3 - 1) / 3, (0.2 + 0.4 - 1) / 3], rtol=1e-6)
    first, second = constant.predict([songs[0], made_up_song(3, n_frames=5)])
    assert (first.shape, second.shape) == ((2, 2), (5, 2))
    np.testing.assert_allclose(second, np.tile(constant.mean, (5, 1)), rtol=1e-6)


@pytest.mark.parametrize("on_running_mean", [False, True])
def test_ridge_is_the_closed_form_with_the_best_penalty_on_validation(on_running_mean: bool) -> None:
    training = [half_labelled(made_up_song(song_id)) for song_id in range(1, 9)]
    validation = [half_labelled(made_up_song(song_id)) for song_id in range(20, 23)]
    ridge = fit_ridge(training, validation, NAMES, on_running_mean=on_running_mean)

    scaler = Scaler.fit("signed_log_standard", np.concatenate([song.features for song in training]), NAMES)

    def rows(songs: list[SongSequence]) -> np.ndarray:
        kept = []
        for song in songs:
            frames = scaler.transform(song.features).astype(np.float64)
            if on_running_mean:
                frames = np.stack([frames[: k + 1].mean(axis=0) for k in range(len(frames))])
            kept.append(frames[song.labelled])
        return np.concatenate(kept)

    x, held_out = rows(training), rows(validation)
    for column in range(2):
        y = np.concatenate([song.labels[song.labelled, column] for song in training]).astype(np.float64)
        wanted = np.concatenate([song.labels[song.labelled, column] for song in validation])
        centred = x - x.mean(axis=0)
        fits, errors = [], []
        for alpha in ALPHAS:
            w = np.linalg.solve(centred.T @ centred + alpha * np.eye(N_FEATURES), centred.T @ (y - y.mean()))
            b = y.mean() - x.mean(axis=0) @ w
            fits.append((w, b))
            errors.append(np.mean((held_out @ w + b - wanted) ** 2))
        best = int(np.argmin(errors))
        assert ridge.alphas[column] == ALPHAS[best]
        np.testing.assert_allclose(ridge.coefficients[:, column], fits[best][0], rtol=1e-6)
        np.testing.assert_allclose(ridge.intercept[column], fits[best][1], rtol=1e-6)
    predicted = np.concatenate(
        [frames[song.labelled] for frames, song in zip(ridge.predict(validation), validation, strict=True)]
    )
    np.testing.assert_allclose(predicted, np.clip(held_out @ ridge.coefficients + ridge.intercept, -1, 1), atol=1e-6)


def test_penalties_are_chosen_for_each_dimension() -> None:
    rng = np.random.default_rng(0)

    def song(song_id: int) -> SongSequence:
        features = rng.normal(size=(20, N_FEATURES))
        # Valence depends on the features, arousal does not.
        return song_sequence(song_id, features, np.stack([np.tanh(features[:, 0]), rng.uniform(-1, 1, 20)], axis=1))

    ridge = fit_ridge([song(i) for i in range(10)], [song(i) for i in range(10, 20)], NAMES, on_running_mean=False)
    assert ridge.alphas[0] < ridge.alphas[1]


def test_ridge_is_clipped_and_causal() -> None:
    scaler = Scaler("min_max", ("a",), np.array([0.0]), np.array([1.0]))
    ridge = RidgeBaseline(scaler, True, np.array([[1.0, -4.0]]), np.array([0.0, 0.5]), (1.0, 1.0))
    song = song_sequence(1, np.array([[0.1], [0.3], [0.8]]), np.zeros((3, 2)))
    np.testing.assert_allclose(ridge.predict([song])[0], [[0.1, 0.1], [0.2, -0.3], [0.4, -1.0]], atol=1e-6)


def test_all_are_scored_on_the_same_songs() -> None:
    data = made_up_data()
    split = split_songs(data.songs, 0)
    baselines = fit_baselines(data, split)
    assert list(baselines) == ["constant", "ridge, single frames", "ridge, running mean"]
    assert isinstance(baselines["constant"], Constant)
    assert [getattr(baseline, "on_running_mean", None) for baseline in baselines.values()] == [None, False, True]

    torch.manual_seed(0)
    # A model of two of the features, in its own order.
    names = (data.names[2], data.names[0])
    songs = [data.songs[song_id] for song_id in split["test"]]
    scaler = Scaler.fit("min_max", np.concatenate([song.features[:, [2, 0]] for song in songs]), names)
    model = MLP(2)
    scores = score_all(data, split["test"], {"small": (model, scaler)}, baselines, n_bootstrap=10)
    assert list(scores) == [*baselines, "small"]
    assert {(of_one.n_songs, of_one.n_frames) for of_one in scores.values()} == {(4, 80)}
    assert scores["small"] == streaming_scores(model, scaled(scaler, data.selected(songs, names)), n_bootstrap=10)
    assert scores["constant"] == score_sequences(baselines["constant"].predict(songs), songs, n_bootstrap=10)
    r2 = {name: of_one.valence.r2.value for name, of_one in scores.items()}
    assert r2["ridge, single frames"] > r2["ridge, running mean"] > r2["constant"]
    with pytest.raises(ValueError, match="These data have no feature 'another'"):
        data.selected(songs, ["another"])
