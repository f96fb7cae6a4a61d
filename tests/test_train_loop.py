"""The training loop: it learns, it is reproducible bit for bit, it keeps the right epoch; and its scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contract import ModelStage, weights_in_numpy
from torch import Tensor
from training_songs import N_FEATURES, made_up_data, made_up_song, silent_console, song_sequence

from train.config import parse_config
from train.data import Dataset
from train.deam import Split, split_songs
from train.loop import (
    TrainingError,
    TrainingResult,
    fit,
    scaled,
    segment_scores,
    streaming_predictions,
    streaming_scores,
)
from train.models import MLP, MODELS, Seq2Seq

# Large enough for the made-up songs.
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"n_hidden": 16, "n_layers": 3},
    "seq2seq": {"n_hidden": 8},
    "seq2seq_a": {"n_hidden": 8},
    "live": {"n_hidden": 8, "n_members": 2, "n_embedding": 16, "input_dropout": 0.0, "embedding_dropout": 0.1},
}


def trained(
    data: Dataset | None = None, model: str = "mlp", split: Split | None = None, **training: Any
) -> TrainingResult:
    data = data or made_up_data()
    values = {"model": {"name": model, "arguments": SMALL.get(model, {})}, "training": training}
    if model == "live":
        values["features"] = {"scaler": "signed_log_standard"}
    return fit(parse_config(values), data, split or split_songs(data.songs, 0), silent_console())


def weights(result: TrainingResult) -> dict[str, Tensor]:
    return dict(result.model.state_dict())


def same(one: TrainingResult, other: TrainingResult) -> bool:
    return all(torch.equal(weights(one)[name], tensor) for name, tensor in weights(other).items())


SEGMENTS: dict[str, Any] = {"epochs": 8, "learning_rate": 0.01}
SEQUENCES: dict[str, Any] = {
    "protocol": "sequences",
    "epochs": 12,
    "learning_rate": 0.01,
    "schedule": "one_cycle",
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "gradient_clip_norm": 1.0,
    "batch_songs": 4,
}


@pytest.mark.parametrize(
    ("model", "training"),
    [("mlp", SEGMENTS), ("seq2seq_a", SEGMENTS), ("live", SEQUENCES)],
)
@pytest.mark.slow
def test_it_learns(model: str, training: dict[str, Any]) -> None:
    result = trained(model=model, **training)
    assert len(result.history) == training["epochs"]
    assert result.history[-1].training_mse < 0.5 * result.history[0].training_mse
    assert min(result.kept.streaming_r2) > 0.5


LIVE_OPTIONS: dict[str, Any] = {
    "protocol": "sequences",
    "sequence_noise": 0.3,
    "teacher_forcing": 0.5,
    "curriculum": [8, 99],
}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "training"), [("seq2seq_a", {}), ("live", LIVE_OPTIONS)])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(model: str, training: dict[str, Any]) -> None:
    data = made_up_data([made_up_song(song_id) for song_id in range(1, 13)])
    first, second, other = (trained(data, model, seed=seed, epochs=2, **training) for seed in (3, 3, 4))
    assert same(first, second)
    assert first.history == second.history
    assert not same(first, other)


def test_the_weights_of_the_best_epoch_are_kept() -> None:
    # Few songs and a large rate, so that the best epoch is not the last.
    data = made_up_data([made_up_song(song_id) for song_id in range(1, 21)])
    split = {"train": (1, 2, 3), "validation": tuple(range(4, 20)), "test": (20,)}
    result = trained(data, split=split, epochs=30, learning_rate=0.03, halve_every_epochs=100)
    errors = [epoch.selection_mse for epoch in result.history]
    assert result.kept == result.history[int(np.argmin(errors))]
    assert result.kept is not result.history[-1]
    validation = scaled(result.scaler, [data.songs[song_id] for song_id in split["validation"]])
    scores = segment_scores(result.model, validation)
    assert (scores.valence.mse.value, scores.arousal.mse.value) == result.kept.segments_mse
    assert np.mean(result.kept.segments_mse or 0) == min(errors)
    last = trained(data, split=split, epochs=30, learning_rate=0.03, halve_every_epochs=100, keep="last")
    assert (last.kept, last.history) == (result.history[-1], result.history)
    assert not same(last, result)


def test_on_sequences_the_streaming_score_decides() -> None:
    result = trained(protocol="sequences", epochs=3)
    assert result.kept.segments_mse is None
    assert result.kept.selection_mse == np.mean(result.kept.streaming_mse)
    assert result.kept.selection_mse == min(np.mean(epoch.streaming_mse) for epoch in result.history)


def test_learning_rates_follow_the_schedule() -> None:
    halving = trained(epochs=5, learning_rate=0.008, halve_every_epochs=2)
    assert [epoch.learning_rate for epoch in halving.history] == [0.008, 0.008, 0.004, 0.004, 0.002]
    rates = [epoch.learning_rate for epoch in trained(epochs=10, schedule="one_cycle").history]
    highest = int(np.argmax(rates))
    assert 0 < highest < 9
    assert rates == sorted(rates[: highest + 1]) + sorted(rates[highest + 1 :], reverse=True)
    assert rates[highest] <= 1e-3


def test_weight_decay_is_an_l2_term_for_adam_and_a_decay_for_adamw() -> None:
    def norm(**training: Any) -> float:
        result = trained(epochs=4, **training)
        return float(sum(tensor.square().sum() for tensor in weights(result).values()))

    plain = norm()
    assert norm(weight_decay=0.1) < 0.9 * plain
    assert norm(optimizer="adamw", weight_decay=10.0) < 0.9 * plain
    assert norm(optimizer="adamw") == plain


class Recorder(MLP):
    """A model that records every batch it is trained on."""

    batches: list[Tensor]

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features, n_hidden=1, n_layers=1)
        type(self).batches = []

    def forward(self, sequence: Tensor) -> Tensor:
        if self.training:
            type(self).batches.append(sequence.detach().clone())
        return super().forward(sequence)


class Diverging(MLP):
    """A model that predicts NaN."""

    def forward(self, sequence: Tensor) -> Tensor:
        return super().forward(sequence) * torch.nan


@pytest.fixture(autouse=True)
def _more_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, model in (("recorder", Recorder), ("diverging", Diverging)):
        monkeypatch.setitem(MODELS, name, model)


def recorded(data: Dataset, **training: Any) -> list[Tensor]:
    trained(data, "recorder", epochs=1, **training)
    return Recorder.batches


def test_an_epoch_has_its_segments_of_every_song_in_batches() -> None:
    data = made_up_data()
    split = split_songs(data.songs, 0)
    scaler = trained(data, "recorder", epochs=1, segments_per_song=3, batch_songs=10).scaler
    batches = Recorder.batches
    assert [tuple(batch.shape) for batch in batches] == [(10, 8, N_FEATURES)] * 9 + [(6, 8, N_FEATURES)]
    windows = {
        song.features[start : start + 8].tobytes(): song.song_id
        for song in scaled(scaler, [data.songs[song_id] for song_id in split["train"]])
        for start in range(13)
    }
    used = [windows[segment.numpy().tobytes()] for batch in batches for segment in batch]
    assert sorted(used) == sorted(3 * split["train"])
    assert used[:32] != sorted(used[:32])


def test_an_epoch_has_every_whole_song_and_copy_once() -> None:
    data = made_up_data([made_up_song(song_id, n_frames=10 + song_id) for song_id in range(1, 13)])
    copies = {
        song_id: (song, replace(song, features=song.features[:5], labels=song.labels[:5], labelled=song.labelled[:5]))
        for song_id, song in data.songs.items()
    }
    batches = recorded(replace(data, training=copies), protocol="sequences", batch_songs=1)
    train = split_songs(data.songs, 0)["train"]
    assert sorted(batch.shape[1] for batch in batches) == sorted([5] * len(train) + [10 + song_id for song_id in train])


def test_noise_is_added_in_training_only() -> None:
    data = made_up_data()
    quiet, noisy = (torch.cat(recorded(data, sequence_noise=noise)) for noise in (0.0, 0.5))
    # The songs and segments are in the same order, since the noise has its own generator.
    noise = noisy - quiet
    torch.testing.assert_close(noise, noise[:, :1].expand_as(noise), rtol=0.0, atol=1e-6)
    assert noise.std() == pytest.approx(0.5, rel=0.05)
    assert noise.mean() == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("protocol", ["segments", "sequences"])
def test_frames_without_a_label_do_not_count(protocol: str) -> None:
    labelled = np.arange(20) >= 6
    songs = [replace(made_up_song(song_id), labelled=labelled) for song_id in range(1, 13)]

    def with_labels_outside(value: float) -> TrainingResult:
        changed = [replace(song, labels=np.where(labelled[:, None], song.labels, np.float32(value))) for song in songs]
        return trained(made_up_data(changed), protocol=protocol, epochs=2)

    one, other = with_labels_outside(0.0), with_labels_outside(0.9)
    assert same(one, other)
    assert one.history == other.history


def test_songs_with_too_few_labels_are_reported() -> None:
    songs = [made_up_song(song_id, n_frames=7 if song_id <= 10 else 20) for song_id in range(1, 41)]
    split = {"train": tuple(range(1, 31)), "validation": (31, 32), "test": (33,)}
    console = silent_console()
    config = parse_config({"model": {"name": "mlp"}, "training": {"epochs": 1}})
    fit(config, made_up_data(songs), split, console)
    assert "10 of 30 training sequences have too few labels to train on." in console.file.getvalue()  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match="None of the 10 training sequences has enough labels"):
        fit(config, made_up_data(songs), split | {"train": tuple(range(1, 11))}, console)


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    with pytest.raises(TrainingError, match=r"became nan in epoch 1 of diverging: lower training.learning_rate"):
        trained(model="diverging")


# ---- predictions and scores -------------------------------------------------------------------------------------


def test_streaming_predictions_are_those_of_single_steps() -> None:
    torch.manual_seed(0)
    model = Seq2Seq(N_FEATURES, n_hidden=6)
    songs = [made_up_song(song_id, n_frames) for song_id, n_frames in ((1, 3), (2, 25), (3, 9))]
    for song, predicted in zip(songs, streaming_predictions(model, songs), strict=True):
        stepped = ModelStage(model.architecture, weights_in_numpy(model)).step(song.features)
        assert predicted.shape == (len(song.features), 2)
        np.testing.assert_allclose(predicted, stepped, atol=1e-6)


class Echo(MLP):
    """Predicts a frame's first two features, and for all frames of a segment those of the last one."""

    def forward(self, sequence: Tensor) -> Tensor:
        return sequence[..., :2]

    def forward_segment(self, segment: Tensor) -> Tensor:
        return segment[:, -1:, :2].expand(-1, segment.shape[1], -1)


def test_scores_of_segments_and_of_the_stream() -> None:
    frames = np.arange(18, dtype=np.float32)[:, None] / 100
    songs = [
        song_sequence(1, frames.repeat(2, axis=1), np.zeros((18, 2))),
        song_sequence(2, np.zeros((7, 2)), np.ones((7, 2))),
    ]
    # In a segment all frames get the last one's value: .07 and .15; the last two frames, and song 2, are left over.
    segments = segment_scores(Echo(2), songs)
    assert (segments.n_songs, segments.n_frames) == (1, 16)
    assert segments.valence.mse.value == pytest.approx((0.07**2 + 0.15**2) / 2)
    streaming = streaming_scores(Echo(2), songs)
    assert (streaming.n_songs, streaming.n_frames) == (2, 25)
    assert streaming.arousal.mse.value == pytest.approx((np.sum(frames**2) + 7) / 25)
    with pytest.raises(TrainingError, match="8 labelled frames in a row"):
        segment_scores(Echo(2), songs[1:])
    with pytest.raises(TrainingError, match="LiveModel does not predict segments"):
        segment_scores(MODELS["live"](N_FEATURES), [made_up_song(1)])
