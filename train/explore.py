"""Compares variants of configs/live_model.toml by cross-validation, to measure what each choice is worth.

The test songs are not used, neither for training nor for scoring: these numbers are for choosing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from train.config import Config, ConfigError, parse_config
from train.data import Dataset, load_dataset
from train.deam import folds
from train.loop import fit, scaled, score_sequences, streaming_predictions
from train.metrics import Scores
from train.models import LiveModel
from train.sequences import SongSequence

_FOLDS_SEED = 1
_N_FOLDS = 5


@dataclass(frozen=True)
class Variant:
    """A change to the base configuration. changes: the values it sets, by table."""

    group: str
    name: str
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _training(**values: Any) -> dict[str, dict[str, Any]]:
    return {"training": values}


def _arguments(**values: Any) -> dict[str, dict[str, Any]]:
    return {"model": {"arguments": values}}


# Variants are compared on clips alone, which train three times as fast, and with a noise that proved unnecessary. The
# shipped model adds sets.
_BASE_CHANGES = _training(sets=0, curriculum=[2, 2, 2, 2, 6, 18], sequence_noise=0.3)
BASE = Variant("base", "configs/live_model.toml on clips alone, sequence noise .3")
VARIANTS = (
    BASE,
    Variant("curriculum", "whole clips from the start", _training(curriculum=[])),
    Variant("curriculum", "8 frames, then whole clips", _training(curriculum=[8, 8, 18])),
    Variant("curriculum", "2 frames only", _training(curriculum=[2])),
    Variant(
        "feedback in training",
        "teacher forcing throughout",
        _training(teacher_forcing=1.0, teacher_forcing_decay=False),
    ),
    Variant("feedback in training", "scheduled sampling, 1 to 0", _training(teacher_forcing=1.0)),
    Variant("feedback in training", "professor forcing, whole clips", _training(professor_forcing=0.01, curriculum=[])),
    Variant("sets", "10 sets of 60 songs too", _training(sets=10, curriculum=[2, 2, 2, 2, 6, 40])),
    Variant("sets", "20 sets of 60 songs too", _training(sets=20, curriculum=[2, 2, 2, 2, 6, 40])),
    Variant("data", "one altered copy of each song too", _training(altered_copies=1)),
    Variant("scaling", "min-max", {"features": {"scaler": "min_max"}}),
    Variant("regularisation", "no input dropout", _arguments(input_dropout=0.0)),
    Variant("regularisation", "input dropout .7", _arguments(input_dropout=0.7)),
    Variant("regularisation", "no sequence noise", _training(sequence_noise=0.0)),
    Variant("regularisation", "weight decay .2", _training(weight_decay=0.2)),
    Variant("ensembling", "one member", _arguments(n_members=1)),
    Variant("ensembling", "eight members", _arguments(n_members=8)),
    Variant("memory", "attention over 1 frame", _arguments(memory_frames=1)),
    Variant("memory", "attention over 16 frames", _arguments(memory_frames=16)),
    Variant("features", "jitter and shimmer too", {"features": {"exclude": []}, **_arguments(n_running=260)}),
    Variant("features", "without tonality", {"features": {"exclude": ["jitter", "shimmer", "tonality", "treble"]}}),
    Variant("features", "without rhythm", {"features": {"exclude": ["jitter", "shimmer", "rhythm"]}}),
    Variant(
        "features",
        "without register and timbre",
        {"features": {"exclude": ["jitter", "shimmer", "register", "timbre"]}},
    ),
    Variant("features", "without running mean and deviation", _arguments(n_running=0)),
    Variant(
        "features",
        "DEAM's 260 alone",
        {
            "features": {"exclude": ["tonality", "treble", "register", "rhythm", "timbre"]},
            **_arguments(n_running=260),
        },
    ),
)


@dataclass(frozen=True)
class Outcome:
    """A variant's scores on the held-out songs: of the model, of its network alone, and of its linear readout alone."""

    variant: Variant
    model: Scores
    network: Scores
    linear: Scores
    seconds_per_fold: float


def changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values updated with other nested values; neither argument is changed."""
    result = copy.deepcopy(dict(base))
    for key, value in changes.items():
        below = result.get(key)
        result[key] = changed(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return result


def cross_validate(
    config: Config, dataset: Dataset, song_ids: Sequence[int], n_folds: int, console: Console
) -> tuple[list[SongSequence], dict[str, list[np.ndarray[Any, Any]]], float]:
    """Trains on the other folds and predicts each of the first `n_folds` of five.

    Returns the held-out songs, their predictions by part of the model ("model", "network", "linear"), each of shape
    (frames, 2), and the seconds that a fold's training took.
    """
    held_out: list[SongSequence] = []
    predictions: dict[str, list[np.ndarray[Any, Any]]] = {"model": [], "network": [], "linear": []}
    seconds = []
    for fold in folds(song_ids, _N_FOLDS, _FOLDS_SEED)[:n_folds]:
        split = {"train": fold["train"], "validation": fold["test"], "test": ()}
        result = fit(config, dataset, split, console)
        songs = [dataset.songs[song_id] for song_id in fold["test"]]
        inputs = scaled(result.scaler, dataset.selected(songs, result.scaler.names))
        held_out += songs
        if not isinstance(result.model, LiveModel):
            raise ConfigError(f"Expected the model 'live', which has parts to compare, got {config.model.name!r}.")
        for part, share in (("model", result.model.linear_share), ("network", 0.0), ("linear", 1.0)):
            result.model.linear_share = share
            predictions[part] += streaming_predictions(result.model, inputs)
        seconds.append(result.duration_s)
    return held_out, predictions, float(np.mean(seconds))


def explore(
    deam_root: Path, base: Mapping[str, Any], n_folds: int, names: Sequence[str], console: Console, **loading: Any
) -> list[Outcome]:
    """Cross-validates the base, and the variants whose group or name is in `names` (all if it is empty).

    Raises ConfigError for an unknown name. loading: as in train.data.load_dataset.
    """
    known = {variant.group for variant in VARIANTS} | {variant.name for variant in VARIANTS}
    for name in names:
        if name not in known:
            raise ConfigError(f"Expected a variant of {', '.join(sorted(known))}, got {name!r}.")
    outcomes = []
    datasets: dict[tuple[Any, ...], Dataset] = {}
    for variant in VARIANTS:
        if names and variant is not BASE and variant.group not in names and variant.name not in names:
            continue
        config = parse_config(changed(changed(base, _BASE_CHANGES), variant.changes))
        training = config.training
        key = (config.features.extraction(), training.altered_copies, training.sets)
        if key not in datasets:
            datasets.clear()
            datasets[key] = load_dataset(
                deam_root,
                key[0],
                console=console,
                altered_copies=training.altered_copies,
                sets=training.sets,
                set_songs=training.set_songs,
                **loading,
            )
        dataset = datasets[key]
        split = dataset.split(0)
        console.print(f"{variant.group}: {variant.name}", markup=False)
        songs, predictions, seconds = cross_validate(
            config, dataset, [*split["train"], *split["validation"]], n_folds, console
        )
        scores = {part: score_sequences(predicted, songs, n_bootstrap=1) for part, predicted in predictions.items()}
        outcomes.append(Outcome(variant, scores["model"], scores["network"], scores["linear"], seconds))
        console.print(_row(outcomes[-1], outcomes[0]), markup=False, soft_wrap=True)
    return outcomes


def _pair(scores: Scores, name: str) -> tuple[float, float]:
    return getattr(scores.valence, name).value, getattr(scores.arousal, name).value


def _row(outcome: Outcome, base: Outcome) -> str:
    valence, arousal = _pair(outcome.model, "r2")
    base_valence, base_arousal = _pair(base.model, "r2")
    cells = [
        outcome.variant.group,
        outcome.variant.name,
        f"{valence:.3f} / {arousal:.3f}",
        f"{valence - base_valence:+.3f} / {arousal - base_arousal:+.3f}",
        "{:.3f} / {:.3f}".format(*_pair(outcome.network, "r2")),
        "{:.3f} / {:.3f}".format(*_pair(outcome.linear, "r2")),
        "{:.2f} / {:.2f}".format(*_pair(outcome.model, "within_song_r")),
        f"{outcome.seconds_per_fold:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def markdown(outcomes: Sequence[Outcome], n_folds: int, command: str) -> str:
    """The comparison as a Markdown page."""
    n_songs = outcomes[0].model.n_songs
    lines = [
        "# What each choice in the live model is worth",
        "",
        f"Made by `{command}`. Streaming pooled R², valence / arousal, of songs held out in {n_folds} of five",
        f"folds over the training and validation songs ({n_songs} held-out songs, no test song): one step per frame,",
        "every frame counts. Each row changes one thing of the base; Δ is against the base, on the same songs.",
        "Network and linear are the two halves of the same model alone; within-song r is Pearson's, mean over songs.",
        "",
        "| about | variant | model | Δ | network alone | linear alone | within-song r | s per fold |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_row(outcome, outcomes[0]) for outcome in outcomes)]) + "\n"
