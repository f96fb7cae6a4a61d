"""What the stage asks of a model: any input gain, songs after songs, no drift; and its score by cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from realtime_mer.models.checkpoint import Checkpoint
from realtime_mer.types import FloatArray
from train.baselines import fit_baselines
from train.config import Config
from train.data import Dataset, load_at_gain, load_set
from train.deam import folds
from train.loop import fit, scaled, score_sequences, streaming_predictions, streaming_scores
from train.metrics import Scores
from train.sequences import SongSequence
from train.sets import joined

GAINS_DB = (-20.0, -12.0, -6.0, 0.0, 6.0)
SET_SONGS = 60
_SET_SEED = 0
# A fifth: the first and the last two minutes of a set of 10 s clips.
_ENDS_SONGS = 12
_N_FOLDS = 5
_FOLDS_SEED = 0


@dataclass(frozen=True, eq=False)
class SetScores:
    """A set of songs: their frames and predictions in playing order; the scores of all, of the first fifth of the songs
    and of the last; and, for each of these, what the same songs score alone, from a fresh start."""

    songs: tuple[SongSequence, ...]
    predictions: tuple[FloatArray, ...]
    whole: Scores
    first: Scores
    last: Scores
    alone: Scores
    first_alone: Scores
    last_alone: Scores


def gain_scores(
    checkpoint: Checkpoint, dataset: Dataset, song_ids: Sequence[int], console: Console, **loading: Any
) -> dict[float, Scores]:
    """The streaming scores of the songs at each of GAINS_DB. loading: as in train.data.load_at_gain."""
    model = checkpoint.build_model()
    scores = {}
    for gain_db in GAINS_DB:
        songs = load_at_gain(dataset, song_ids, gain_db, console=console, **loading)
        selected = dataset.selected(songs, checkpoint.feature_names)
        scores[gain_db] = streaming_scores(model, scaled(checkpoint.scaler, selected))
    return scores


def set_scores(
    checkpoint: Checkpoint, dataset: Dataset, song_ids: Sequence[int], console: Console, **loading: Any
) -> SetScores:
    """SET_SONGS of the songs in random order as one stream, the model's state carried through all of it.

    loading: as in train.data.load_set.
    """
    order = np.random.default_rng(_SET_SEED).permutation(len(song_ids))[:SET_SONGS]
    songs = load_set(dataset, [song_ids[i] for i in order], console=console, **loading)
    model = checkpoint.build_model()
    heard = scaled(checkpoint.scaler, dataset.selected([joined(songs)], checkpoint.feature_names))
    predicted = streaming_predictions(model, heard)[0]
    alone = [dataset.songs[song.song_id] for song in songs]
    predicted_alone = streaming_predictions(
        model, scaled(checkpoint.scaler, dataset.selected(alone, checkpoint.feature_names))
    )
    boundaries = np.cumsum([len(song.features) for song in songs])[:-1]
    predictions = tuple(np.split(predicted, boundaries))
    parts = {"whole": slice(None), "first": slice(_ENDS_SONGS), "last": slice(-_ENDS_SONGS, None)}
    in_set = {name: score_sequences(predictions[part], songs[part]) for name, part in parts.items()}
    by_itself = {name: score_sequences(predicted_alone[part], alone[part]) for name, part in parts.items()}
    return SetScores(
        songs,
        predictions,
        in_set["whole"],
        in_set["first"],
        in_set["last"],
        by_itself["whole"],
        by_itself["first"],
        by_itself["last"],
    )


def cross_validate(config: Config, dataset: Dataset, console: Console) -> tuple[dict[str, Scores], dict[str, Scores]]:
    """Five folds by song over all songs, the model and the baselines on the same ones.

    The baselines' penalties are chosen on a tenth of the training songs, and so is the model's epoch, unless the last
    one is kept: then the model is trained on all of them. Returns the streaming scores by name, and those of the model
    on the long stretches, part by part: a stretch is predicted by the model that did not see its song.
    """
    predictions: dict[str, dict[int, FloatArray]] = {}
    stretches: dict[int, FloatArray] = {}
    for number, fold in enumerate(folds(dataset.songs, _N_FOLDS, _FOLDS_SEED)):
        shuffled = np.random.default_rng([_FOLDS_SEED, number]).permutation(np.array(fold["train"]))
        n_validation = len(shuffled) // 10
        split = {
            "train": tuple(int(song_id) for song_id in shuffled[n_validation:]),
            "validation": tuple(int(song_id) for song_id in shuffled[:n_validation]),
            "test": fold["test"],
        }
        held_out = [dataset.songs[song_id] for song_id in fold["test"]]
        for name, baseline in fit_baselines(dataset, split).items():
            predictions.setdefault(name, {}).update(zip(fold["test"], baseline.predict(held_out), strict=True))
        if config.training.keep == "last":
            split = {**split, "train": (*split["train"], *split["validation"])}
        result = fit(config, dataset, split, console)
        heard = scaled(result.scaler, dataset.selected(held_out, result.scaler.names))
        by_song = predictions.setdefault(config.model.name, {})
        by_song.update(zip(fold["test"], streaming_predictions(result.model, heard), strict=True))
        long_ids = [song_id for song_id in fold["test"] if song_id in dataset.long]
        long_songs = dataset.selected([dataset.long[song_id] for song_id in long_ids], result.scaler.names)
        stretches.update(
            zip(long_ids, streaming_predictions(result.model, scaled(result.scaler, long_songs)), strict=True)
        )
    songs = list(dataset.songs)
    scores = {
        name: score_sequences([of_model[song_id] for song_id in songs], [dataset.songs[song_id] for song_id in songs])
        for name, of_model in predictions.items()
    }
    return scores, _by_time(dataset, stretches)


def _by_time(dataset: Dataset, stretches: Mapping[int, FloatArray]) -> dict[str, Scores]:
    """Scores of the long stretches in three parts: the first 10 s, up to 20 s, and the rest."""
    scores = {}
    for low_s, high_s in ((0, 10), (10, 20), (20, 30)):
        predictions, songs = [], []
        for song_id, predicted in stretches.items():
            song = dataset.long[song_id]
            inside = (song.end_s > low_s) & (song.end_s <= high_s)
            if (song.labelled & inside).any():
                songs.append(SongSequence(song_id, song.features, song.labels, song.labelled & inside, song.end_s))
                predictions.append(predicted)
        if songs:
            scores[f"{low_s}-{high_s} s, {len(songs)} songs"] = score_sequences(predictions, songs)
    return scores


def gain_table(scores: Mapping[float, Scores]) -> str:
    """R² by input gain, and how far it moves from that at 0 dB; Markdown."""
    lines = ["| input gain | R² valence | R² arousal | change |", "|---|---|---|---|"]
    reference = scores[0.0]
    for gain_db, of_gain in scores.items():
        valence, arousal = of_gain.valence.r2.value, of_gain.arousal.r2.value
        change = f"{valence - reference.valence.r2.value:+.4f} / {arousal - reference.arousal.r2.value:+.4f}"
        lines.append(f"| {gain_db:+.0f} dB | {valence:.4f} | {arousal:.4f} | {change} |")
    return "\n".join(lines) + "\n"
