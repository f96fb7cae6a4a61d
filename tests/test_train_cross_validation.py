"""Cross-validation on made-up songs: the splits, and scores calculated by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from training_songs import made_up_data, made_up_song, silent_console

from realtime_mer.types import FloatArray
from train import cross_validation
from train.baselines import fit_baselines
from train.config import Config, parse_config
from train.cross_validation import cross_validate
from train.data import Dataset
from train.deam import folds
from train.loop import fit, scaled, score_sequences, streaming_predictions
from train.metrics import Scores
from train.sequences import SongSequence

pytestmark = pytest.mark.slow
CrossValidated = tuple[Dataset, list[dict[str, tuple[int, ...]]], dict[str, Scores], dict[str, Scores]]
CONFIG = parse_config(
    {
        "model": {"name": "live", "arguments": {"n_hidden": 4, "n_members": 1, "n_embedding": 8, "n_attention": 4}},
        "features": {"scaler": "signed_log_standard"},
        "training": {"protocol": "sequences", "epochs": 1, "learning_rate": 0.01, "keep": "last"},
    }
)


def data(n_songs: int = 30, n_frames: int = 12) -> Dataset:
    return made_up_data([made_up_song(song_id, n_frames) for song_id in range(1, n_songs + 1)])


@pytest.fixture(scope="module")
def cross_validated() -> CrossValidated:
    """Thirty songs, four of them with a long stretch of 24, 12, 40 and 58 frames; the splits used for training."""
    dataset = data(30)
    stretches = {
        song_id: made_up_song(song_id, n_frames) for song_id, n_frames in ((2, 24), (9, 12), (17, 40), (25, 58))
    }
    # One of them has labels from 10 s on only.
    stretches[17] = replace(stretches[17], labelled=stretches[17].end_s > 10.0)
    dataset = replace(dataset, long=stretches)
    splits: list[dict[str, tuple[int, ...]]] = []

    def noted(config: Config, dataset: Dataset, split: Any, console: Console) -> Any:
        splits.append(split)
        return fit(config, dataset, split, console)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_validation, "fit", noted)
        found = cross_validate(CONFIG, dataset, silent_console())
    return dataset, splits, found.scores, found.by_time


def test_every_song_is_held_out_once(cross_validated: CrossValidated) -> None:
    dataset, splits, scores, _ = cross_validated
    assert sorted(song_id for split in splits for song_id in split["test"]) == sorted(dataset.songs)
    assert [split["test"] for split in splits] == [fold["test"] for fold in folds(dataset.songs, 5, 0)]
    for split in splits:
        parts = [song_id for part in ("train", "test") for song_id in split[part]]
        assert sorted(parts) == sorted(dataset.songs), (
            "with the last epoch kept, all songs that are not held out are used"
        )
        assert len(split["validation"]) == 2, "a tenth of the training songs, for the baselines' penalties"
        assert set(split["validation"]) < set(split["train"])
    assert list(scores) == ["constant", "ridge, single frames", "ridge, running mean", "live"]
    assert {(of_one.n_songs, of_one.n_frames) for of_one in scores.values()} == {(30, 360)}


def test_the_baselines_are_fitted_on_the_same_splits(cross_validated: CrossValidated) -> None:
    dataset, splits, scores, _ = cross_validated
    for name in ("constant", "ridge, single frames"):
        predicted: dict[int, FloatArray] = {}
        for split in splits:
            without = tuple(song_id for song_id in split["train"] if song_id not in split["validation"])
            baseline = fit_baselines(dataset, {**split, "train": without})[name]
            held_out = [dataset.songs[song_id] for song_id in split["test"]]
            predicted.update(zip(split["test"], baseline.predict(held_out), strict=True))
        songs = list(dataset.songs.values())
        assert scores[name] == score_sequences([predicted[song.song_id] for song in songs], songs)
    assert scores["ridge, single frames"].valence.r2.value > 0.5 > scores["constant"].valence.r2.value


def test_the_models_predictions_are_those_of_the_fold(cross_validated: CrossValidated) -> None:
    """Trained once more, which gives the same bits."""
    dataset, splits, scores, by_time = cross_validated
    predicted: dict[int, FloatArray] = {}
    stretches: dict[int, FloatArray] = {}
    for split in splits:
        result = fit(CONFIG, dataset, split, silent_console())
        for kind, sequences, ids in (
            (predicted, dataset.songs, split["test"]),
            (stretches, dataset.long, [song_id for song_id in split["test"] if song_id in dataset.long]),
        ):
            inputs = scaled(result.scaler, [sequences[song_id] for song_id in ids])
            kind.update(zip(ids, streaming_predictions(result.model, inputs), strict=True))
    songs = list(dataset.songs.values())
    assert scores["live"] == score_sequences([predicted[song.song_id] for song in songs], songs)
    assert scores["live"].arousal.r2.value > 0.1

    # 24, 12, 40 and 58 frames end at 12.5, 6.5, 20.5 and 29.5 s; song 17 has no label up to 10 s.
    parts = {
        "0-10 s, 3 songs": {2: slice(0, 19), 9: slice(0, 12), 25: slice(0, 19)},
        "10-20 s, 3 songs": {2: slice(19, 24), 17: slice(19, 39), 25: slice(19, 39)},
        "20-30 s, 2 songs": {17: slice(39, 40), 25: slice(39, 58)},
    }
    assert list(by_time) == list(parts)
    for name, frames in parts.items():
        ids = [song_id for split in splits for song_id in split["test"] if song_id in frames]
        expected = score_sequences(
            [stretches[song_id][frames[song_id]] for song_id in ids],
            [_cut(dataset.long[song_id], frames[song_id]) for song_id in ids],
        )
        assert by_time[name].n_frames == sum(part.stop - part.start for part in frames.values())
        assert by_time[name] == expected


def _cut(song: SongSequence, part: slice) -> SongSequence:
    return SongSequence(song.song_id, song.features[part], song.labels[part], song.labelled[part], song.end_s[part])


def test_the_best_epoch_is_chosen_on_other_songs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without long stretches there are no scores by time."""
    splits: list[dict[str, tuple[int, ...]]] = []

    def noted(config: Config, dataset: Dataset, split: Any, console: Console) -> Any:
        splits.append(split)
        return fit(config, dataset, split, console)

    monkeypatch.setattr(cross_validation, "fit", noted)
    config = parse_config({"model": {"name": "mlp", "arguments": {"n_hidden": 2}}, "training": {"epochs": 1}})
    assert config.training.keep == "best"
    dataset = data(15)
    found = cross_validate(config, dataset, silent_console())
    assert len(splits) == 5
    for split in splits:
        parts = [song_id for part in ("train", "validation", "test") for song_id in split[part]]
        assert sorted(parts) == sorted(dataset.songs), "each song in one part"
        assert split["validation"]
    assert found.by_time == {}
    assert found.scores["mlp"].n_songs == 15
