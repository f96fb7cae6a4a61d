"""Five-fold cross-validation by song, of a model and of the baselines on the same folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from rich.console import Console

from realtime_mer.types import FloatArray
from train.baselines import fit_baselines
from train.config import Config
from train.data import Dataset
from train.deam import folds
from train.loop import fit, scaled, score_sequences, streaming_predictions
from train.metrics import Scores

_N_FOLDS = 5
_FOLDS_SEED = 0


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """scores: the streaming scores by name. by_time: those of the model on the long stretches by time.

    predictions: of the model, by song_id, (frames, 2). others: by kind, the mean prediction for each clip from outside
    DEAM, (clips, 2), by a model that saw neither the clip nor the songs of the same fold.
    """

    scores: dict[str, Scores]
    by_time: dict[str, Scores]
    predictions: dict[int, FloatArray]
    others: dict[str, FloatArray]


def cross_validate(config: Config, dataset: Dataset, console: Console) -> CrossValidation:
    """Five folds over all songs.

    The baselines' penalties are chosen on a tenth of the training songs. So is the model's epoch, unless the last one
    is kept: then the model is trained on all of them. A long stretch is predicted by the model that did not see its
    song.
    """
    predictions: dict[str, dict[int, FloatArray]] = {}
    stretches: dict[int, FloatArray] = {}
    others: dict[str, FloatArray] = {}
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
        held_out_clips = {
            kind: np.arange(len(other.frames)) % _N_FOLDS == number for kind, other in dataset.others.items()
        }
        seen = {kind: other.without(held_out_clips[kind]) for kind, other in dataset.others.items()}
        result = fit(config, replace(dataset, others=seen), split, console)
        columns = [dataset.names.index(name) for name in result.scaler.names]
        for kind, other in dataset.others.items():
            found = others.setdefault(kind, np.zeros((len(other.frames), 2), dtype=np.float32))
            for i in np.flatnonzero(held_out_clips[kind]):
                rows = torch.from_numpy(result.scaler.transform(other.frames[i][:, columns]))[None]
                with torch.no_grad():
                    found[i] = result.model(rows)[0].mean(dim=0).numpy()
        inputs = scaled(result.scaler, dataset.selected(held_out, result.scaler.names))
        by_song = predictions.setdefault(config.model.name, {})
        by_song.update(zip(fold["test"], streaming_predictions(result.model, inputs), strict=True))
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
    return CrossValidation(scores, _by_time(dataset, stretches), predictions[config.model.name], others)


def _by_time(dataset: Dataset, stretches: Mapping[int, FloatArray]) -> dict[str, Scores]:
    """The scores of the long stretches in three parts: the first 10 s, up to 20 s, and the rest."""
    scores = {}
    for low_s, high_s in ((0, 10), (10, 20), (20, 30)):
        predictions, songs = [], []
        for song_id, predicted in stretches.items():
            song = dataset.long[song_id]
            inside = (song.end_s > low_s) & (song.end_s <= high_s)
            if (song.labelled & inside).any():
                songs.append(replace(song, labelled=song.labelled & inside))
                predictions.append(predicted)
        if songs:
            scores[f"{low_s}-{high_s} s, {len(songs)} songs"] = score_sequences(predictions, songs)
    return scores
