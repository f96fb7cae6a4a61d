"""The training loop, and what a model predicts and scores on songs that it has not been trained on."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from realtime_mer.models.scaling import Scaler
from realtime_mer.types import FloatArray
from train.config import Config
from train.data import Dataset
from train.deam import Split
from train.metrics import Scores, score
from train.models import MODELS, LiveModel, SegmentModel, StreamingModel, WindowModel
from train.professor import Professor
from train.sequences import SEGMENT_FRAMES, SongSequence, consecutive_segments, pad_batch, random_segments
from train.windows import fit_window_model, on_deam_scale

# Songs per batch when predicting; affects only the speed.
_PREDICTION_BATCH = 256


class TrainingError(ValueError):
    """Training cannot start with these songs, or has diverged."""


@dataclass(frozen=True)
class Epoch:
    """The scores after an epoch (1, 2, …); valence first, then arousal.

    training_mse: the mean of the steps' losses. streaming_*: validation, see `streaming_scores`. segments_*:
    validation, see `segment_scores`; None if training was not on segments.
    """

    epoch: int
    learning_rate: float
    training_mse: float
    streaming_mse: tuple[float, float]
    streaming_r2: tuple[float, float]
    segments_mse: tuple[float, float] | None
    segments_r2: tuple[float, float] | None

    @property
    def selection_mse(self) -> float:
        """The criterion for the best epoch: the validation error in the protocol of training."""
        return float(np.mean(self.streaming_mse if self.segments_mse is None else self.segments_mse))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained model in evaluation mode, with the weights of the epoch that was kept, and the scaler of its features.

    history: one entry per epoch. duration_s: how long training took.
    """

    config: Config
    model: StreamingModel
    scaler: Scaler
    history: tuple[Epoch, ...]
    kept: Epoch
    duration_s: float


def fit(config: Config, dataset: Dataset, split: Split, console: Console) -> TrainingResult:
    """Trains a model on the songs of split["train"] and keeps the best epoch on split["validation"], or the last.

    The same configuration, songs and library versions give the same weights bit for bit: all randomness comes from the
    seed, and torch is set to one thread, which is also fastest for models of this size.

    Raises TrainingError if there is nothing to train on, or the loss is not finite.
    """
    began_s = time.monotonic()
    training = config.training
    if training.protocol == "windows":
        return _fit_windows(config, dataset, split, console)
    torch.set_num_threads(1)
    torch.manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)

    # The songs, scaled by the statistics of the training songs.
    names = config.features.selected(dataset.names)
    unscaled = dataset.selected(
        [sequence for song_id in split["train"] for sequence in dataset.training[song_id]], names
    )
    unscaled += dataset.selected(dataset.set_runs(split["train"]), names)
    scaler = Scaler.fit(config.features.scaler, np.concatenate([sequence.features for sequence in unscaled]), names)
    songs = scaled(scaler, unscaled)
    validation = scaled(scaler, dataset.selected([dataset.songs[id_] for id_ in split["validation"]], names))
    if training.protocol == "segments":
        usable = [song for song in songs if _whole_segments([song])]
    else:
        usable = [song for song in songs if song.labelled.any()]
    if not usable:
        raise TrainingError(f"None of the {len(songs)} training sequences has enough labels to train on.")
    if len(usable) < len(songs):
        console.print(f"{len(songs) - len(usable)} of {len(songs)} training sequences have too few labels to train on.")

    # The model, and one optimiser step per batch.
    model = MODELS[config.model.name](len(names), **config.model.arguments)
    if isinstance(model, LiveModel):
        _fit_linear(model, usable, training.linear_penalty)
    professor = (
        Professor(model.architecture.n_hidden)
        if training.professor_forcing > 0 and isinstance(model, LiveModel)
        else None
    )
    optimizer_type = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[training.optimizer]
    optimizer = optimizer_type(model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    n_sequences = len(usable) * (training.segments_per_song if training.protocol == "segments" else 1)
    steps_per_epoch = -(-n_sequences // training.batch_songs)
    schedule: torch.optim.lr_scheduler.LRScheduler
    if training.schedule == "halving":
        halve_every_steps = training.halve_every_epochs * steps_per_epoch
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, halve_every_steps, gamma=0.5)
    else:
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, training.learning_rate, total_steps=training.epochs * steps_per_epoch, cycle_momentum=False
        )

    history: list[Epoch] = []
    with _progress(console) as progress:
        task = progress.add_task(f"{config.model.name}, seed {training.seed}", total=training.epochs, score="")
        for number in range(1, training.epochs + 1):
            # The sequences of this epoch.
            run_frames = None
            if training.protocol == "segments":
                sequences = [
                    segment for _ in range(training.segments_per_song) for segment in random_segments(usable, rng)
                ]
            else:
                sequences = usable
                if training.curriculum:
                    run_frames = training.curriculum[(number - 1) * len(training.curriculum) // training.epochs]
            teacher_forcing = training.teacher_forcing
            if training.teacher_forcing_decay:
                teacher_forcing *= 1.0 - (number - 1) / max(1, training.epochs - 1)
            learning_rate = float(schedule.get_last_lr()[0])

            model.train()
            losses = []
            for indices in _batches(sequences, training.batch_songs, rng):
                batch = pad_batch([sequences[index] for index in indices])
                features = batch.features
                if training.sequence_noise > 0:
                    features = features + training.sequence_noise * torch.randn_like(features[:, :1])
                if isinstance(model, LiveModel):
                    trained = model.training_pass(
                        features, batch.labels, teacher_forcing, run_frames, wanted=batch.mask
                    )
                    loss = ((trained.predictions - batch.labels)[:, batch.mask] ** 2).mean()
                    if professor is not None:
                        loss = loss + training.professor_forcing * professor.loss(
                            model, features, batch.labels, trained
                        )
                else:
                    if training.protocol == "segments" and isinstance(model, SegmentModel):
                        predictions = model.forward_segment(features)
                    else:
                        predictions = model(features)
                    loss = ((predictions - batch.labels)[batch.mask] ** 2).mean()
                if not torch.isfinite(loss):
                    raise TrainingError(
                        f"The loss became {loss.item()} in epoch {number} of {config.model.name}: "
                        "lower training.learning_rate or set training.gradient_clip_norm."
                    )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                if training.gradient_clip_norm > 0:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip_norm)
                optimizer.step()
                schedule.step()
                losses.append(loss.item())

            # Validation.
            streaming = streaming_scores(model, validation, n_bootstrap=1)
            segments = segment_scores(model, validation, n_bootstrap=1) if training.protocol == "segments" else None
            epoch = Epoch(
                number,
                learning_rate,
                float(np.mean(losses)),
                _both(streaming, "mse"),
                _both(streaming, "r2"),
                None if segments is None else _both(segments, "mse"),
                None if segments is None else _both(segments, "r2"),
            )
            better = not history or epoch.selection_mse < min(earlier.selection_mse for earlier in history)
            if better or training.keep == "last":
                kept, kept_weights = epoch, copy.deepcopy(model.state_dict())
            history.append(epoch)
            valence_r2, arousal_r2 = epoch.streaming_r2
            progress.update(task, advance=1, score=f"streaming R² {valence_r2:.3f} / {arousal_r2:.3f}")

    model.load_state_dict(kept_weights)
    return TrainingResult(config, model.eval(), scaler, tuple(history), kept, time.monotonic() - began_s)


def _fit_windows(config: Config, dataset: Dataset, split: Split, console: Console) -> TrainingResult:
    """As `fit`, for the model of windows: the scaler from DEAM's windows, then all three learners at once."""
    began_s = time.monotonic()
    training = config.training
    torch.set_num_threads(1)
    names = config.features.selected(dataset.names)
    songs = [sequence for song_id in split["train"] for sequence in dataset.training[song_id]]
    songs = [song for song in dataset.selected(songs, names) if song.labelled.any()]
    if not songs:
        raise TrainingError("None of the training songs has labels to train on.")
    features = [song.features[song.labelled] for song in songs]
    labels = np.concatenate([song.labels[song.labelled] for song in songs])
    # Every song counts the same, however many of its windows have labels.
    weights = [np.full(len(rows), 1.0 / len(rows)) for rows in features]
    targets = [labels]
    columns = [dataset.names.index(name) for name in names]
    for name, weight, scale in (
        ("quadrants", training.quadrants_weight, training.quadrants_scale),
        ("ratings", training.ratings_weight, training.ratings_scale),
    ):
        other = dataset.others.get(name)
        if other is not None and weight > 0:
            features.append(other.values[:, columns])
            targets.append(on_deam_scale(other.targets, labels, scale, rated=name == "ratings"))
            weights.append(weight / np.bincount(other.clip)[other.clip].astype(np.float64))
    scaler = Scaler.fit(config.features.scaler, np.concatenate(features[: len(songs)]), names)
    model = WindowModel(len(names), **config.model.arguments)
    losses: dict[int, list[float]] = {}
    with _progress(console) as progress:
        task = progress.add_task(
            f"{config.model.name}, seed {training.seed}", total=training.epochs * len(model.members), score=""
        )

        def note(epoch: int, loss: float) -> None:
            losses.setdefault(epoch, []).append(loss)
            progress.advance(task)

        fit_window_model(
            model,
            scaler.transform(np.concatenate(features)),
            np.concatenate(targets),
            np.concatenate(weights),
            linear_penalty=training.linear_penalty,
            kernel_penalty=training.kernel_penalty,
            epochs=training.epochs,
            batch_rows=training.batch_songs,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            seed=training.seed,
            on_epoch=note,
        )
    model.eval()
    validation = scaled(scaler, dataset.selected([dataset.songs[id_] for id_ in split["validation"]], names))
    streaming = streaming_scores(model, validation, n_bootstrap=1)
    last = Epoch(
        training.epochs,
        training.learning_rate,
        float(np.mean(losses[training.epochs])),
        _both(streaming, "mse"),
        _both(streaming, "r2"),
        None,
        None,
    )
    return TrainingResult(config, model, scaler, (last,), last, time.monotonic() - began_s)


def scaled(scaler: Scaler, sequences: Sequence[SongSequence]) -> list[SongSequence]:
    """The sequences with scaled features."""
    return [replace(sequence, features=scaler.transform(sequence.features)) for sequence in sequences]


def streaming_predictions(model: StreamingModel, sequences: Sequence[SongSequence]) -> list[FloatArray]:
    """The model's predictions when stepping through each sequence from its first frame: (frames, 2) for each.

    sequences: with scaled features. Leaves the model in evaluation mode.
    """
    return _predictions(model.eval(), sequences)


def streaming_scores(model: StreamingModel, sequences: Sequence[SongSequence], n_bootstrap: int = 1000) -> Scores:
    """The score that counts: every labelled frame, predicted causally from the song's first frame on.

    sequences: with scaled features, each with at least one label.
    """
    return score_sequences(streaming_predictions(model, sequences), sequences, n_bootstrap)


def segment_scores(model: StreamingModel, sequences: Sequence[SongSequence], n_bootstrap: int = 1000) -> Scores:
    """The published protocol's score: each song's labelled frames are cut into consecutive segments of 8, and the model
    sees each segment as a whole. Remaining frames, fewer than 8, do not count.

    sequences: with scaled features. Raises TrainingError if the model takes no segments, or there is no segment.
    """
    model.eval()
    if not isinstance(model, SegmentModel):
        raise TrainingError(f"{type(model).__name__} does not predict segments.")
    segments = _whole_segments(sequences)
    if not segments:
        raise TrainingError(f"No song has a segment to score: {SEGMENT_FRAMES} labelled frames in a row.")
    predictions = _predictions(model.forward_segment, segments)
    by_song: dict[int, list[int]] = {}
    for index, segment in enumerate(segments):
        by_song.setdefault(segment.song_id, []).append(index)
    return score(
        [np.concatenate([predictions[index] for index in indices]) for indices in by_song.values()],
        [np.concatenate([segments[index].labels for index in indices]) for indices in by_song.values()],
        n_bootstrap=n_bootstrap,
    )


def score_sequences(
    predictions: Sequence[FloatArray], sequences: Sequence[SongSequence], n_bootstrap: int = 1000
) -> Scores:
    """Compares predictions, (frames, 2) for each sequence, with the labels."""
    return score(
        predictions,
        [sequence.labels for sequence in sequences],
        [sequence.labelled for sequence in sequences],
        n_bootstrap=n_bootstrap,
    )


@torch.no_grad()
def _predictions(
    predict: Callable[[torch.Tensor], torch.Tensor], sequences: Sequence[SongSequence]
) -> list[FloatArray]:
    predictions: list[FloatArray] = []
    for start in range(0, len(sequences), _PREDICTION_BATCH):
        part = sequences[start : start + _PREDICTION_BATCH]
        # Padding comes after a sequence's end, so it does not change causal predictions.
        batch = predict(pad_batch(part).features).numpy()
        predictions += [rows[: len(sequence.features)] for rows, sequence in zip(batch, part, strict=True)]
    return predictions


def _whole_segments(sequences: Sequence[SongSequence]) -> list[SongSequence]:
    return [segment for segment in consecutive_segments(sequences) if len(segment.features) == SEGMENT_FRAMES]


def _batches(
    sequences: Sequence[SongSequence], batch_songs: int, rng: np.random.Generator
) -> list[npt.NDArray[np.intp]]:
    """The sequences in random batches, each of similar lengths, so that there is little padding."""
    order = rng.permutation(len(sequences))
    lengths = np.array([len(sequences[index].features) for index in order])
    if (lengths == lengths[0]).all():
        return [order[start : start + batch_songs] for start in range(0, len(order), batch_songs)]
    # A stable sort keeps sequences of equal length in random order.
    by_length = order[np.argsort(lengths, kind="stable")]
    batches = [by_length[start : start + batch_songs] for start in range(0, len(order), batch_songs)]
    return [batches[index] for index in rng.permutation(len(batches))]


@torch.no_grad()
def _fit_linear(model: LiveModel, songs: Sequence[SongSequence], penalty: float) -> None:
    """Fits the linear readout on every labelled training frame."""
    inputs, labels = [], []
    for start in range(0, len(songs), _PREDICTION_BATCH):
        batch = pad_batch(songs[start : start + _PREDICTION_BATCH])
        inputs.append(model.inputs(batch.features)[batch.mask])
        labels.append(batch.labels[batch.mask])
    model.fit_linear(torch.cat(inputs), torch.cat(labels), penalty)


def _both(scores: Scores, name: str) -> tuple[float, float]:
    """A score's value for valence and arousal."""
    return float(getattr(scores.valence, name).value), float(getattr(scores.arousal, name).value)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[score]}"),
        console=console,
    )
