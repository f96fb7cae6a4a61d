"""How large a model's prediction errors are, as a function of time, measured on songs it was not trained on.

The variance of an error is modelled as a constant plus a term that decays with the time since the model started. It is
fitted by maximum likelihood on the validation songs and checked on the test songs. Seven richer or simpler forms gained
nothing in comparison: results/uncertainty_forms.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy.optimize import minimize
from scipy.stats import spearmanr

from realtime_mer.features.engine import FRAME_S, HOP_S
from realtime_mer.models.calibration import Calibration, ErrorVariance
from realtime_mer.models.checkpoint import Checkpoint
from realtime_mer.models.predictor import Predictor
from realtime_mer.types import FeatureFrame
from train.checkpoints import checkpoint_of
from train.config import Config
from train.data import Dataset, load_set
from train.loop import fit
from train.metrics import DIMENSIONS, INTERVAL_PERCENTILES, Estimate
from train.robustness import SET_SONGS
from train.sequences import SongSequence
from train.sets import joined

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# The decay's time constant: from one hop to the length of DEAM's clips. Longer times were not observed.
_DECAY_RANGE_S = (HOP_S, 10.0)
_INITIAL_DECAY_S = 3.0
# Bounds of both terms' coefficients, in units of the mean squared error.
_MAX_SHARE = 10.0
_MIN_SHARE = 1e-3
_N_BOOTSTRAP = 1000
_SET_SEED = 0
# Frames per row in the table by time since a cut.
_CUT_FRAMES = 4


@dataclass(frozen=True, eq=False)
class Errors:
    """The errors of a checkpoint's predictions for labelled frames; rows are frames, columns valence and arousal.

    song: int, shape (n,), the song's index. frame: int, shape (n,), the frame's index in its song.
    elapsed_s: shape (n,), time since the model started, at the frame's end.
    error: shape (n, 2), prediction - label. label: shape (n, 2).
    sd: shape (n, 2), confidence: shape (n,): what the checkpoint predicted of the error; NaN if it is not calibrated.
    """

    song: IntArray
    frame: IntArray
    elapsed_s: Float64Array
    error: Float64Array
    label: Float64Array
    sd: Float64Array
    confidence: Float64Array


@dataclass(frozen=True)
class Reliability:
    """How well one dimension's predicted standard deviations match the errors.

    rmse: of the errors. sd: root mean square of the predicted sd. standardised: root mean square of error / sd, ideally
    1. within_1, within_2: share of the errors within one and two sd. rank_correlation: Spearman's, of sd and |error|;
    NaN if sd is constant.
    """

    rmse: float
    sd: float
    standardised: Estimate
    within_1: float
    within_2: float
    rank_correlation: Estimate


@dataclass(frozen=True, eq=False)
class Outcome:
    """A calibration, and the calibrated errors it was checked on.

    alone: by part of the data, the errors on songs that are played alone: on "validation" of a model like the
        checkpoint that was not trained on them, on "test" of the checkpoint itself.
    cut_to_cut: the same for songs played one after the other; without the parts that have no audio.
    """

    calibration: Calibration
    alone: Mapping[str, Errors]
    cut_to_cut: Mapping[str, Errors]


def calibrate(config: Config, checkpoint: Checkpoint, dataset: Dataset, console: Console, **loading: Any) -> Outcome:
    """Fits the variance of the errors on the validation songs, and checks it on the test songs.

    The checkpoint may have been trained on the validation songs. So their errors are those of a model with the same
    configuration that is trained here without them. loading: as in train.data.load_set.
    """
    split = dataset.split(config.training.seed)
    songs = {part: [[dataset.songs[song_id]] for song_id in split[part]] for part in ("validation", "test")}
    held_out = fit(config, dataset, split, console)
    without_validation = checkpoint_of(held_out.model, held_out.scaler, dataset.extraction, {})
    calibration = fit_calibration(errors_of(without_validation, songs["validation"]))
    models = {
        "validation": replace(without_validation, calibration=calibration),
        "test": replace(checkpoint, calibration=calibration),
    }
    played = {part: in_a_row(dataset, split[part], console, **loading) for part in models}
    return Outcome(
        calibration,
        alone={part: errors_of(model, songs[part]) for part, model in models.items()},
        cut_to_cut={part: errors_of(model, [played[part]]) for part, model in models.items() if played[part]},
    )


def fit_variance(squared_error: Float64Array, elapsed_s: Float64Array, *, decaying: bool = True) -> ErrorVariance:
    """The most likely variance of Gaussian errors with mean 0. Without `decaying`, early is 0.

    squared_error, elapsed_s: shape (n,).
    """
    scale = float(squared_error.mean())
    ratio = squared_error / scale

    def negative_log_likelihood(parameters: Float64Array) -> tuple[float, Float64Array]:
        settled, early, log_decay = parameters
        decay = np.exp(-elapsed_s / math.exp(log_decay))
        variance = settled + early * decay
        slope = 0.5 / variance - 0.5 * ratio / variance**2
        by_log_decay = early * decay * elapsed_s / math.exp(log_decay)
        gradient = np.array([slope.sum(), slope @ decay, slope @ by_log_decay]) / len(ratio)
        return float(np.mean(0.5 * np.log(variance) + 0.5 * ratio / variance)), gradient

    initial = [1.0, 0.1 if decaying else 0.0, math.log(_INITIAL_DECAY_S)]
    bounds = [
        (_MIN_SHARE, _MAX_SHARE),
        (0.0, _MAX_SHARE if decaying else 0.0),
        (math.log(_DECAY_RANGE_S[0]), math.log(_DECAY_RANGE_S[1])),
    ]
    found = minimize(negative_log_likelihood, initial, jac=True, method="L-BFGS-B", bounds=bounds)
    settled, early, log_decay = (float(value) for value in found.x)
    return ErrorVariance(scale * settled, scale * early, math.exp(log_decay))


def fit_calibration(errors: Errors) -> Calibration:
    """Fits both dimensions. The decay is left out if the first label comes too late to observe it."""
    decaying = bool(errors.elapsed_s.min() <= _INITIAL_DECAY_S)
    valence, arousal = (fit_variance(errors.error[:, k] ** 2, errors.elapsed_s, decaying=decaying) for k in range(2))
    return Calibration(valence, arousal, float(errors.label.var(axis=0).sum()))


def in_a_row(dataset: Dataset, song_ids: Sequence[int], console: Console, **loading: Any) -> tuple[SongSequence, ...]:
    """SET_SONGS of the songs, in random order, as one stream, cut to cut; empty if one of the songs has no audio.

    loading: as in train.data.load_set.
    """
    audio = {song.song_id: song.audio for song in dataset.deam.songs}
    if any(audio[song_id] is None for song_id in song_ids):
        return ()
    order = np.random.default_rng(_SET_SEED).permutation(len(song_ids))[:SET_SONGS]
    return load_set(dataset, [song_ids[i] for i in order], console=console, **loading)


def errors_of(checkpoint: Checkpoint, streams: Sequence[Sequence[SongSequence]]) -> Errors:
    """The errors of the checkpoint's predictions, made frame by frame as in a live run.

    streams: each a sequence of songs that follow each other, with all features that the checkpoint's settings extract,
        not scaled.
    """
    rows: list[tuple[float, ...]] = []
    n_songs = 0
    for songs in streams:
        stream = joined(songs)
        predictor = Predictor(checkpoint)
        positions = [(n_songs + i, k) for i, song in enumerate(songs) for k in range(len(song.features))]
        for i, (position, values) in enumerate(zip(positions, stream.features, strict=True)):
            end_s, label = float(stream.end_s[i]), stream.labels[i].tolist()
            predicted = predictor.step(FeatureFrame(i, end_s - FRAME_S, end_s, values))
            if stream.labelled[i]:
                error = predicted.valence - label[0], predicted.arousal - label[1]
                uncertainty = predicted.valence_sd, predicted.arousal_sd, predicted.confidence
                rows.append((*position, end_s, *error, *label, *(math.nan if v is None else v for v in uncertainty)))
        n_songs += len(songs)
    table = np.array(rows, dtype=np.float64)
    return Errors(
        song=table[:, 0].astype(np.int64),
        frame=table[:, 1].astype(np.int64),
        elapsed_s=table[:, 2],
        error=table[:, 3:5],
        label=table[:, 5:7],
        sd=table[:, 7:9],
        confidence=table[:, 9],
    )


def reliability(errors: Errors, dimension: int) -> Reliability:
    """Of valence (0) or arousal (1); with 95 % intervals from resamples of the songs."""
    error, sd = errors.error[:, dimension], errors.sd[:, dimension]
    ratio = error / sd
    return Reliability(
        rmse=_rms(error),
        sd=_rms(sd),
        standardised=_resampled(errors.song, lambda rows: _rms(ratio[rows])),
        within_1=float(np.mean(np.abs(ratio) <= 1.0)),
        within_2=float(np.mean(np.abs(ratio) <= 2.0)),
        rank_correlation=_resampled(errors.song, lambda rows: _rank_correlation(sd[rows], np.abs(error[rows]))),
    )


def markdown(outcome: Outcome, command: str) -> str:
    """The results page. command: the command that made it."""
    n_songs = {part: int(errors.song.max()) + 1 for part, errors in outcome.alone.items()}
    calibration, test = outcome.calibration, outcome.alone["test"]
    ends = test.confidence[np.flatnonzero(np.diff(test.song, append=-1))]
    page = (
        "# Expected error of the predictions, and how reliable it is\n\n"
        f"Made by `{command}`, which writes the fitted numbers into the checkpoint. Fitted on the "
        f"{n_songs['validation']} validation songs, as predicted by a model of the same configuration that was not "
        f"trained on them; checked on the {n_songs['test']} test songs, as predicted by the checkpoint. Streaming: one "
        "prediction per frame, no look-ahead, every frame counts. Why this form of the variance: "
        "[uncertainty_forms.md](uncertainty_forms.md).\n\n"
        "## What the checkpoint holds\n\n"
        "variance of the error = settled + early · exp(-elapsed time / decay_s):\n\n"
        f"{_fitted_table(calibration)}\n"
        f"The validation songs' labels have a variance of {calibration.label_variance:.4f}, both dimensions together; "
        "confidence is 1 - the sum of both errors' variances over it. So for any music, after so much sound:\n\n"
        f"{_course_table(calibration)}\n"
        "## How reliable it is\n\n"
        "Standardised errors (error / sd) have an sd of 1 if the predicted sd is right; of Gaussian ones 68.3 % "
        "and 95.4 % lie within 1 and 2 sd. With 95 % intervals from 1,000 resamples of the songs.\n\n"
        f"{_reliability_table(outcome.alone)}\n"
        f"The test songs' frames by confidence:\n\n{_thirds_table(test)}\n"
        f"At a clip's end the confidence is {ends.min():.3f} to {ends.max():.3f} over the test songs, "
        f"{np.median(ends):.3f} in the median.\n"
    )
    if outcome.cut_to_cut:
        page += (
            "\n## Songs after songs, cut to cut\n\nOne stream, in which the model cannot know that another song has "
            f"begun:\n\n{_reliability_table(outcome.cut_to_cut)}"
        )
    for part, errors in outcome.cut_to_cut.items():
        page += f"\n{part.capitalize()} songs by the time since the cut:\n\n{_cut_table(errors)}"
    return page


def _fitted_table(calibration: Calibration) -> str:
    """The parameters stored in the checkpoint; Markdown."""
    lines = ["| | settled | early | decay_s |", "|---|---|---|---|"]
    for name in DIMENSIONS:
        of: ErrorVariance = getattr(calibration, name)
        lines.append(f"| {name} | {of.settled:.4f} | {of.early:.4f} | {of.decay_s:.2f} |")
    return "\n".join(lines) + "\n"


def _course_table(calibration: Calibration, times_s: Sequence[float] = (1.0, 2.0, 3.0, 5.0, 10.0, 60.0)) -> str:
    """The predicted uncertainty over time; Markdown."""
    lines = ["| elapsed | sd of valence | sd of arousal | confidence |", "|---|---|---|---|"]
    for elapsed_s in times_s:
        at = calibration.after(elapsed_s)
        lines.append(f"| {elapsed_s:g} s | {at.valence_sd:.3f} | {at.arousal_sd:.3f} | {at.confidence:.3f} |")
    return "\n".join(lines) + "\n"


def _reliability_table(parts: Mapping[str, Errors]) -> str:
    """A row per part and dimension; Markdown."""
    lines = [
        "| songs | dimension | RMSE | predicted sd | standardised errors' sd [95 %] | within 1 sd | within 2 sd "
        "| rank correlation of sd and \\|error\\| [95 %] |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, errors in parts.items():
        for k, dimension in enumerate(DIMENSIONS):
            of = reliability(errors, k)
            cells = [name, dimension, f"{of.rmse:.3f}", f"{of.sd:.3f}", _interval(of.standardised)]
            cells += [f"{of.within_1:.1%}", f"{of.within_2:.1%}", _interval(of.rank_correlation)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _thirds_table(errors: Errors) -> str:
    """RMSE and R² of the frames with the most and the least confidence; Markdown."""
    low, high = np.quantile(errors.confidence, [1.0 / 3.0, 2.0 / 3.0])
    thirds = {"least confident": errors.confidence <= low, "most confident": errors.confidence >= high}
    lines = [
        "| third | confidence | RMSE valence | RMSE arousal | R² valence | R² arousal |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in thirds.items():
        mse = np.mean(errors.error[rows] ** 2, axis=0)
        r2 = 1.0 - mse / errors.label[rows].var(axis=0)
        cells = [f"{errors.confidence[rows].mean():.3f}", *(f"{v:.3f}" for v in (*np.sqrt(mse), *r2))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cut_table(errors: Errors) -> str:
    """Standardised errors by time since the song began, without rows of fewer frames than songs; Markdown."""
    lines = ["| since the cut | standardised errors' sd, valence | arousal |", "|---|---|---|"]
    for first in range(0, int(errors.frame.max()) + 1, _CUT_FRAMES):
        rows = (errors.frame >= first) & (errors.frame < first + _CUT_FRAMES)
        if rows.sum() > errors.song.max():
            valence, arousal = (_rms(errors.error[rows, k] / errors.sd[rows, k]) for k in range(2))
            since = f"{first * HOP_S:g} to {(first + _CUT_FRAMES) * HOP_S:g} s"
            lines.append(f"| {since} | {valence:.2f} | {arousal:.2f} |")
    return "\n".join(lines) + "\n"


def _rms(values: Float64Array) -> float:
    return math.sqrt(float(np.mean(values**2)))


def _rank_correlation(one: Float64Array, other: Float64Array) -> float:
    return math.nan if np.ptp(one) == 0.0 else float(spearmanr(one, other).statistic)


def _resampled(song: IntArray, statistic: Callable[[IntArray], float]) -> Estimate:
    """A statistic of rows, and its 95 % interval from resamples of the songs."""
    rows_of = [np.flatnonzero(song == each) for each in np.unique(song)]
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(rows_of), size=len(rows_of)) for _ in range(_N_BOOTSTRAP))
    values = [statistic(np.concatenate([rows_of[each] for each in songs])) for songs in drawn]
    low, high = np.percentile(values, INTERVAL_PERCENTILES)
    return Estimate(statistic(np.arange(len(song))), float(low), float(high))


def _interval(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
