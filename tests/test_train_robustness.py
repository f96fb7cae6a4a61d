"""Scores under live conditions on made-up songs: gains and sets, calculated by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_songs import made_up_data, made_up_scores, made_up_song, silent_console

from realtime_mer.models.checkpoint import Checkpoint
from realtime_mer.models.scaling import Scaler
from train import robustness
from train.checkpoints import build_model, checkpoint_of
from train.data import Dataset
from train.loop import scaled, score_sequences, streaming_predictions, streaming_scores
from train.models import LiveModel
from train.robustness import GAINS_DB, gain_scores, gain_table, set_scores
from train.sequences import SongSequence


def data(n_songs: int = 30, n_frames: int = 12) -> Dataset:
    return made_up_data([made_up_song(song_id, n_frames) for song_id in range(1, n_songs + 1)])


def checkpoint(dataset: Dataset, columns: tuple[int, ...] = (2, 0, 3, 1)) -> Checkpoint:
    """An untrained model of the data's features, in another order."""
    torch.manual_seed(0)
    names = tuple(dataset.names[column] for column in columns)
    model = LiveModel(len(names), n_running=2, n_members=2, n_embedding=8, n_hidden=4, n_attention=4)
    model.linear_weight.copy_(0.3 * torch.randn_like(model.linear_weight))
    songs = dataset.selected(list(dataset.songs.values()), names)
    scaler = Scaler.fit("signed_log_standard", np.concatenate([song.features for song in songs]), names)
    return checkpoint_of(model, scaler, dataset.extraction, {})


# --- gains


def test_the_songs_are_scored_at_every_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, song_ids = data(), (3, 1, 8)
    asked: list[dict[str, Any]] = []

    def at_gain(given: Dataset, given_ids: Any, gain_db: float, **loading: Any) -> list[SongSequence]:
        assert given is dataset
        asked.append({"song_ids": tuple(given_ids), "gain_db": gain_db, **loading})
        return [
            replace(song, features=song.features + np.float32(gain_db))
            for song in (given.songs[song_id] for song_id in given_ids)
        ]

    monkeypatch.setattr(robustness, "load_at_gain", at_gain)
    console = silent_console()
    of_checkpoint = checkpoint(dataset)
    scores = gain_scores(of_checkpoint, dataset, song_ids, console, jobs=2)
    assert tuple(scores) == GAINS_DB == (-20.0, -12.0, -6.0, 0.0, 6.0)
    assert asked == [{"song_ids": (3, 1, 8), "gain_db": db, "console": console, "jobs": 2} for db in GAINS_DB]
    assert len({of_gain.valence.r2.value for of_gain in scores.values()}) == 5
    songs = dataset.selected([dataset.songs[song_id] for song_id in song_ids], of_checkpoint.feature_names)
    assert scores[0.0] == streaming_scores(build_model(of_checkpoint), scaled(of_checkpoint.scaler, songs))


def test_the_gain_table_shows_how_far_the_scores_move() -> None:
    by_gain = {-20.0: made_up_scores(0.41236, 0.7), 0.0: made_up_scores(0.45, 0.68), 6.0: made_up_scores(0.45, 0.66)}
    assert gain_table(by_gain).splitlines()[2:] == [
        "| -20 dB | 0.4124 | 0.7000 | -0.0376 / +0.0200 |",
        "| +0 dB | 0.4500 | 0.6800 | +0.0000 / +0.0000 |",
        "| +6 dB | 0.4500 | 0.6600 | +0.0000 / -0.0200 |",
    ]


# --- a set


@pytest.mark.parametrize("n_songs", [70, 20])
def test_a_set_is_predicted_in_one_piece_and_scored_in_parts(monkeypatch: pytest.MonkeyPatch, n_songs: int) -> None:
    dataset = data(80, n_frames=4)
    song_ids = list(range(1, n_songs + 1))
    asked: dict[str, Any] = {}

    def load(given: Dataset, given_ids: Any, **loading: Any) -> tuple[SongSequence, ...]:
        asked.update(song_ids=list(given_ids), **loading)
        # Songs of different lengths.
        return tuple(
            SongSequence(s.song_id, s.features[:n], s.labels[:n], s.labelled[:n], s.end_s[:n])
            for s, n in ((given.songs[song_id], 2 + song_id % 3) for song_id in given_ids)
        )

    monkeypatch.setattr(robustness, "load_set", load)
    console = silent_console()
    of_checkpoint = checkpoint(dataset)
    played = set_scores(of_checkpoint, dataset, song_ids, console, cache_dir=Path("cache"))
    n_played = min(n_songs, 60)
    order = asked["song_ids"]
    assert asked["cache_dir"] == Path("cache")
    assert [song.song_id for song in played.songs] == order
    assert len(set(order)) == len(order) == n_played
    assert set(order) <= set(song_ids)
    assert order != sorted(order)

    # The state is carried through: the predictions are those for all frames as one sequence.
    model = build_model(of_checkpoint)
    songs = scaled(of_checkpoint.scaler, dataset.selected(played.songs, of_checkpoint.feature_names))
    with torch.no_grad():
        whole = model(torch.from_numpy(np.concatenate([song.features for song in songs]))[None])[0].numpy()
    np.testing.assert_allclose(np.concatenate(played.predictions), whole, rtol=0.0, atol=1e-6)
    assert [len(predicted) for predicted in played.predictions] == [len(song.features) for song in played.songs]
    alone = streaming_predictions(model, songs)
    np.testing.assert_allclose(played.predictions[0], alone[0], rtol=0.0, atol=1e-6)
    assert np.abs(played.predictions[1] - alone[1]).max() > 1e-3

    assert played.whole == score_sequences(played.predictions, played.songs)
    assert played.first == score_sequences(played.predictions[:12], played.songs[:12])
    assert played.last == score_sequences(played.predictions[-12:], played.songs[-12:])
    assert (played.whole.n_songs, played.first.n_songs, played.last.n_songs) == (n_played, 12, 12)

    # The same songs from a fresh start each, with the features of the song alone.
    by_itself = [dataset.songs[song_id] for song_id in order]
    selected = dataset.selected(by_itself, of_checkpoint.feature_names)
    predicted = streaming_predictions(model, scaled(of_checkpoint.scaler, selected))
    assert played.alone == score_sequences(predicted, by_itself)
    assert played.first_alone == score_sequences(predicted[:12], by_itself[:12])
    assert played.last_alone == score_sequences(predicted[-12:], by_itself[-12:])


def test_the_order_of_a_set_is_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = data(20, n_frames=4)
    monkeypatch.setattr(
        robustness, "load_set", lambda given, song_ids, **_: tuple(given.songs[song_id] for song_id in song_ids)
    )
    orders = [
        [song.song_id for song in set_scores(checkpoint(dataset), dataset, list(dataset.songs), silent_console()).songs]
        for _ in range(2)
    ]
    assert orders[0] == orders[1]
