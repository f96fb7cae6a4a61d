"""How a checkpoint scores under live conditions: at other input gains, and on songs played one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from realtime_mer.models.checkpoint import Checkpoint
from realtime_mer.types import FloatArray
from train.checkpoints import build_model
from train.data import Dataset, load_at_gain, load_set
from train.loop import scaled, score_sequences, streaming_predictions, streaming_scores
from train.metrics import Scores
from train.sequences import SongSequence
from train.sets import joined

GAINS_DB = (-20.0, -12.0, -6.0, 0.0, 6.0)
SET_SONGS = 60
_SET_SEED = 0
# A fifth of the set: two minutes of 10 s clips.
_ENDS_SONGS = 12


@dataclass(frozen=True, eq=False)
class SetScores:
    """A set of songs: frames and predictions in playing order; the scores of all songs, of the first and of the last
    fifth; and for each of these the scores of the same songs alone, from a fresh start."""

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
    model = build_model(checkpoint)
    scores = {}
    for gain_db in GAINS_DB:
        songs = load_at_gain(dataset, song_ids, gain_db, console=console, **loading)
        selected = dataset.selected(songs, checkpoint.feature_names)
        scores[gain_db] = streaming_scores(model, scaled(checkpoint.scaler, selected))
    return scores


def set_scores(
    checkpoint: Checkpoint, dataset: Dataset, song_ids: Sequence[int], console: Console, **loading: Any
) -> SetScores:
    """Scores SET_SONGS of the songs in random order as one stream, the model's state carried through all of it.

    loading: as in train.data.load_set.
    """
    order = np.random.default_rng(_SET_SEED).permutation(len(song_ids))[:SET_SONGS]
    songs = load_set(dataset, [song_ids[i] for i in order], console=console, **loading)
    model = build_model(checkpoint)
    inputs = scaled(checkpoint.scaler, dataset.selected([joined(songs)], checkpoint.feature_names))
    predicted = streaming_predictions(model, inputs)[0]
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


def gain_table(scores: Mapping[float, Scores]) -> str:
    """R² by input gain, and the change from 0 dB; Markdown."""
    lines = ["| input gain | R² valence | R² arousal | change |", "|---|---|---|---|"]
    reference = scores[0.0]
    for gain_db, of_gain in scores.items():
        valence, arousal = of_gain.valence.r2.value, of_gain.arousal.r2.value
        change = f"{valence - reference.valence.r2.value:+.4f} / {arousal - reference.arousal.r2.value:+.4f}"
        lines.append(f"| {gain_db:+.0f} dB | {valence:.4f} | {arousal:.4f} | {change} |")
    return "\n".join(lines) + "\n"
