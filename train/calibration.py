"""How far a model's predictions are off, and what that can be told from, on songs that it was not trained on.

An error's variance is modelled as a sum of terms, none of them negative: a constant, what the parts of the model
disagree by, and one that fades with the time since the model began. What each is worth is its likelihood on songs that
had no part in the fit; how well the result holds, is counted on the test songs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from scipy.optimize import minimize
from scipy.stats import spearmanr

from realtime_mer.features.engine import FRAME_S, HOP_S
from realtime_mer.models.architectures import LiveModel, StreamingModel
from realtime_mer.models.calibration import Calibration, ErrorVariance
from realtime_mer.models.checkpoint import Checkpoint
from realtime_mer.models.recogniser import Predictor
from realtime_mer.types import FeatureFrame
from train.config import Config
from train.data import Dataset, load_set
from train.loop import fit, scaled
from train.metrics import DIMENSIONS, INTERVAL_PERCENTILES, Estimate
from train.sequences import SongSequence, pad_batch
from train.sets import joined
from train.stage import SET_SONGS

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Held out song by song, in this many parts, so many times.
N_FOLDS = 10
N_PARTITIONS = 5
# The fading term's time constant: from a hop to the length of DEAM's clips, for longer was not heard.
_DECAY_RANGE_S = (HOP_S, 10.0)
_FIRST_DECAY_S = 3.0
# The largest coefficient of a term, in units of the mean squared error over the term's mean.
_MAX_SHARE = 10.0
_MIN_SHARE = 1e-3
_N_BOOTSTRAP = 1000
_SET_SEED = 0
# Of these many frames each are the rows by time since a cut.
_CUT_FRAMES = 4


@dataclass(frozen=True)
class Form:
    """What the variance is made of besides a constant: terms by name, and whether there is one that fades."""

    name: str
    terms: tuple[str, ...] = ()
    fading: bool = False


MEMBERS, READOUT = "members", "readout"
FORMS = (
    Form("constant"),
    Form("time", fading=True),
    Form("members' spread", (MEMBERS,)),
    Form("network against readout", (READOUT,)),
    Form("both", (MEMBERS, READOUT)),
    Form("time, members' spread", (MEMBERS,), fading=True),
    Form("time, network against readout", (READOUT,), fading=True),
    Form("time, both", (MEMBERS, READOUT), fading=True),
)


@dataclass(frozen=True, eq=False)
class Errors:
    """The labelled frames of some songs and how far predictions were off; rows are frames, columns the dimensions.

    song: int, shape (n,), which song, counted from 0. heard_s: shape (n,), how long the model had heard.
    error: shape (n, 2), prediction - label. label: shape (n, 2).
    terms: by name, shape (n, 2), what may tell the variance of the error, each as a variance itself: MEMBERS, of the
        members' predictions around their mean; READOUT, the squared distance from the members' mean to the whole
        model's prediction, which the linear readout pulls away from it. Empty for models without such parts.
    """

    song: IntArray
    heard_s: Float64Array
    error: Float64Array
    label: Float64Array
    terms: Mapping[str, Float64Array]


@dataclass(frozen=True, eq=False)
class Fitted:
    """The most likely variance of a form: constant + Σ coefficients · terms + early · exp(-heard_s / decay_s)."""

    constant: float
    coefficients: tuple[float, ...]
    early: float
    decay_s: float

    def variance(self, terms: Sequence[Float64Array], heard_s: Float64Array) -> Float64Array:
        """Shape (n,), for terms and times of that shape."""
        weighted = sum((b * term for b, term in zip(self.coefficients, terms, strict=True)), np.zeros(len(heard_s)))
        return np.asarray(self.constant + weighted + self.early * np.exp(-heard_s / self.decay_s))


@dataclass(frozen=True, eq=False)
class Comparison:
    """A form, and what it gains over FORMS[0] in the log likelihood of a frame, in nats.

    gain: shape (n_songs, 2), each song's mean, by fits that did not see the song.
    """

    form: Form
    gain: Float64Array


@dataclass(frozen=True, eq=False)
class Stated:
    """Labelled frames, and what a calibrated checkpoint said of them.

    song, heard_s, error, label: as in Errors. frame: int, shape (n,), the frame's number in its song. sd: shape (n, 2).
    confidence: shape (n,).
    """

    song: IntArray
    frame: IntArray
    heard_s: Float64Array
    error: Float64Array
    label: Float64Array
    sd: Float64Array
    confidence: Float64Array


@dataclass(frozen=True)
class Reliability:
    """How well a dimension's standard deviations hold.

    rmse: of the errors. sd: the root mean square of those stated. standardised: the same of error / sd; 1 where they
    hold. within_1, within_2: share of the errors within one and two of them. rank_correlation: Spearman's, of sd and
    |error|; NaN where all sd are the same.
    """

    rmse: float
    sd: float
    standardised: Estimate
    within_1: float
    within_2: float
    rank_correlation: Estimate


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a checkpoint's errors were found to be like.

    comparisons, calibration, settling: what compare, calibration_of and settling make of the validation songs.
    alone: by part of the data, "validation" (by a model like the checkpoint that was not trained on them) and "test"
        (by the checkpoint itself), what was said of each song from its own file.
    cut_to_cut: the same of songs that follow each other; without the parts that have no audio to play.
    """

    comparisons: Sequence[Comparison]
    calibration: Calibration
    settling: Float64Array
    alone: Mapping[str, Stated]
    cut_to_cut: Mapping[str, Stated]


def calibrate(config: Config, checkpoint: Checkpoint, dataset: Dataset, console: Console, **loading: Any) -> Outcome:
    """Fits the variance of the errors on the validation songs, and counts on the test songs how well it holds.

    The checkpoint may have been trained on the validation songs, so a model of its configuration that was not is
    trained here, and asked in its place. loading: as in train.data.load_set.

    Raises ValueError for fewer than two validation songs.
    """
    split = dataset.split(config.training.seed)
    songs = {part: [dataset.songs[song_id] for song_id in split[part]] for part in ("validation", "test")}
    held_out = fit(config, dataset, split, console)
    heard = scaled(held_out.scaler, dataset.selected(songs["validation"], held_out.scaler.names))
    errors = errors_of(held_out.model, heard)
    comparisons, calibration = compare(errors), calibration_of(errors)
    like_it = Checkpoint.of_model(held_out.model, held_out.scaler, dataset.extraction, {})
    models = {
        "validation": replace(like_it, calibration=calibration),
        "test": replace(checkpoint, calibration=calibration),
    }
    played = {part: in_a_row(dataset, split[part], console, **loading) for part in models}
    return Outcome(
        comparisons,
        calibration,
        settling(errors),
        alone={part: stated(model, [[song] for song in songs[part]]) for part, model in models.items()},
        cut_to_cut={part: stated(model, [played[part]]) for part, model in models.items() if played[part]},
    )


@torch.no_grad()
def errors_of(model: StreamingModel, songs: Sequence[SongSequence]) -> Errors:
    """What the model says of the songs, each from its first frame on, beside the labels.

    songs: with scaled features. Leaves the model in evaluation mode.
    """
    model.eval()
    batch = pad_batch(songs)
    state = model.initial_state(len(songs))
    predictions, members, readouts = [], [], []
    for frame in batch.features.unbind(dim=1):
        prediction, state = model.step(frame, state)
        predictions.append(prediction)
        if isinstance(model, LiveModel):
            members.append(state.prediction.var(dim=0, correction=0))
            readouts.append((prediction - state.prediction.mean(dim=0)).square())
    mask = batch.mask.numpy()
    parts = {MEMBERS: members, READOUT: readouts} if members else {}

    def rows(frames: Sequence[torch.Tensor]) -> Float64Array:
        values: Float64Array = torch.stack(list(frames), dim=1).numpy()[mask].astype(np.float64)
        return values

    labels = batch.labels.numpy()[mask].astype(np.float64)
    return Errors(
        song=np.nonzero(mask)[0],
        heard_s=np.concatenate([song.end_s[song.labelled] for song in songs]),
        error=rows(predictions) - labels,
        label=labels,
        terms={name: rows(frames) for name, frames in parts.items()},
    )


def fit_variance(
    squared_error: Float64Array, terms: Sequence[Float64Array], heard_s: Float64Array, *, fading: bool
) -> Fitted:
    """The maximum of the Gaussian likelihood of errors with mean 0 over constant > 0 and coefficients and early >= 0.

    squared_error, each of the terms, and heard_s: shape (n,). Without `fading`, early is 0.
    """
    scale = float(squared_error.mean())
    ratio = squared_error / scale
    columns = [np.ones(len(ratio)), *(term / max(float(term.mean()), 1e-12) for term in terms)]
    fixed = np.stack(columns, axis=1)

    def negative_log_likelihood(parameters: Float64Array) -> tuple[float, Float64Array]:
        *shares, early, log_decay = parameters
        faded = np.exp(-heard_s / math.exp(log_decay))
        variance = fixed @ np.array(shares) + early * faded
        slope = 0.5 / variance - 0.5 * ratio / variance**2
        by_decay = early * faded * heard_s / math.exp(log_decay)
        gradient = np.array([*(slope @ fixed), slope @ faded, slope @ by_decay]) / len(ratio)
        return float(np.mean(0.5 * np.log(variance) + 0.5 * ratio / variance)), gradient

    begin = [1.0, *(0.1 for _ in terms), 0.1 if fading else 0.0, math.log(_FIRST_DECAY_S)]
    bounds = [
        (_MIN_SHARE, _MAX_SHARE),
        *((0.0, _MAX_SHARE) for _ in terms),
        (0.0, _MAX_SHARE if fading else 0.0),
        (math.log(_DECAY_RANGE_S[0]), math.log(_DECAY_RANGE_S[1])),
    ]
    found = minimize(negative_log_likelihood, begin, jac=True, method="L-BFGS-B", bounds=bounds)
    constant, *shares, early, log_decay = (float(value) for value in found.x)
    coefficients = tuple(
        scale * share / max(float(term.mean()), 1e-12) for share, term in zip(shares, terms, strict=True)
    )
    return Fitted(scale * constant, coefficients, scale * early, math.exp(log_decay))


def compare(errors: Errors) -> list[Comparison]:
    """The FORMS that the errors have the terms for, cross-validated by song: N_PARTITIONS times, in N_FOLDS parts.

    Raises ValueError for fewer than two songs.
    """
    forms = [form for form in FORMS if set(form.terms) <= set(errors.terms)]
    n_songs = int(errors.song.max()) + 1
    if n_songs < 2:
        raise ValueError("To hold out songs takes two at least, and there is only one to calibrate on.")
    likelihoods = np.zeros((len(forms), len(errors.song), 2))
    for seed in range(N_PARTITIONS):
        order = np.random.default_rng(seed).permutation(n_songs)
        for part in np.array_split(order, min(N_FOLDS, n_songs)):
            held_out = np.isin(errors.song, part)
            for likelihood, form in zip(likelihoods, forms, strict=True):
                likelihood[held_out] += _held_out_likelihood(errors, form, held_out) / N_PARTITIONS
    gains = likelihoods - likelihoods[0]
    return [Comparison(form, _song_means(gain, errors.song)) for form, gain in zip(forms, gains, strict=True)]


def calibration_of(errors: Errors) -> Calibration:
    """The form "time", fitted: what a checkpoint holds. Nothing fades where the first label comes too late to tell."""
    fading = bool(errors.heard_s.min() <= _FIRST_DECAY_S)
    valence, arousal = (fit_variance(errors.error[:, k] ** 2, (), errors.heard_s, fading=fading) for k in range(2))
    return Calibration(
        ErrorVariance(valence.constant, valence.early, valence.decay_s),
        ErrorVariance(arousal.constant, arousal.early, arousal.decay_s),
        float(errors.label.var(axis=0).sum()),
    )


def settling(errors: Errors) -> Float64Array:
    """How much a song's mean squared error falls from the first third of the time heard to the last.

    Shape (n, 2), for the songs that have frames in both.
    """
    first, last = np.quantile(errors.heard_s, [1.0 / 3.0, 2.0 / 3.0])
    early, late = errors.heard_s <= first, errors.heard_s >= last
    in_both = np.isin(errors.song, np.intersect1d(errors.song[early], errors.song[late]))
    early, late = early & in_both, late & in_both
    squared = errors.error**2
    return _song_means(squared[early], errors.song[early]) - _song_means(squared[late], errors.song[late])


def in_a_row(dataset: Dataset, song_ids: Sequence[int], console: Console, **loading: Any) -> tuple[SongSequence, ...]:
    """SET_SONGS of the songs, in random order, as one stream, cut to cut; no song where one has no audio to play.

    loading: as in train.data.load_set.
    """
    audio = {song.song_id: song.audio for song in dataset.deam.songs}
    if any(audio[song_id] is None for song_id in song_ids):
        return ()
    order = np.random.default_rng(_SET_SEED).permutation(len(song_ids))[:SET_SONGS]
    return load_set(dataset, [song_ids[i] for i in order], console=console, **loading)


def stated(checkpoint: Checkpoint, streams: Sequence[Sequence[SongSequence]]) -> Stated:
    """What a calibrated checkpoint says of the songs, as a listener gets it, beside the labels.

    streams: each of songs that follow each other in one stream, with all features that the checkpoint's settings
        extract, not scaled.
    """
    rows: list[tuple[float, ...]] = []
    n_songs = 0
    for songs in streams:
        stream = joined(songs)
        predictor = Predictor(checkpoint)
        song_of = np.repeat(np.arange(len(songs)), [len(song.features) for song in songs])
        frame_of = np.concatenate([np.arange(len(song.features)) for song in songs])
        for i, (values, end_s) in enumerate(zip(stream.features, stream.end_s.tolist(), strict=True)):
            said = predictor.step(FeatureFrame(i, end_s - FRAME_S, end_s, values))
            if stream.labelled[i]:
                if said.valence_sd is None or said.arousal_sd is None or said.confidence is None:
                    raise ValueError("The checkpoint holds no calibration.")
                valence, arousal = stream.labels[i].tolist()
                rows.append(
                    (
                        *(n_songs + song_of[i], frame_of[i], end_s),
                        *(said.valence - valence, said.arousal - arousal, valence, arousal),
                        *(said.valence_sd, said.arousal_sd, said.confidence),
                    )
                )
        n_songs += len(songs)
    table = np.array(rows, dtype=np.float64)
    return Stated(
        song=table[:, 0].astype(np.int64),
        frame=table[:, 1].astype(np.int64),
        heard_s=table[:, 2],
        error=table[:, 3:5],
        label=table[:, 5:7],
        sd=table[:, 7:9],
        confidence=table[:, 9],
    )


def reliability(said: Stated, dimension: int) -> Reliability:
    """Of valence (0) or arousal (1); with 95 % intervals from resamples of the songs."""
    error, sd = said.error[:, dimension], said.sd[:, dimension]
    ratio = error / sd
    return Reliability(
        rmse=_rms(error),
        sd=_rms(sd),
        standardised=_resampled(said.song, lambda rows: _rms(ratio[rows])),
        within_1=float(np.mean(np.abs(ratio) <= 1.0)),
        within_2=float(np.mean(np.abs(ratio) <= 2.0)),
        rank_correlation=_resampled(said.song, lambda rows: _rank_correlation(sd[rows], np.abs(error[rows]))),
    )


def markdown(outcome: Outcome, command: str) -> str:
    """The outcome as a page; command: what made it."""
    n_songs = {part: int(said.song.max()) + 1 for part, said in outcome.alone.items()}
    calibration, test = outcome.calibration, outcome.alone["test"]
    ends = test.confidence[np.flatnonzero(np.diff(test.song, append=-1))]
    page = (
        "# How far predictions are off, and how well that is known\n\n"
        f"Made by `{command}`, which writes the fitted numbers into the checkpoint. Fitted on the "
        f"{n_songs['validation']} validation songs, as predicted by a model of the same configuration that was not "
        f"trained on them; held against the {n_songs['test']} test songs, as predicted by the checkpoint. Streaming: "
        "one prediction per frame, nothing ahead of it, every frame counts.\n\n"
        "## What the error can be told from\n\n"
        "The variance of the error as a constant and terms that are never negative, by maximum likelihood (Gaussian): "
        "the spread of the members' predictions, the distance between the network's and the linear readout's (both "
        "squared), and a term that fades with the time since the model began. Gain over the constant alone in the log "
        "likelihood of validation songs that had no part in the fit, in thousandths of a nat per frame ± the standard "
        f"error over songs ({N_FOLDS} folds by song, {N_PARTITIONS} times):\n\n"
        f"{_gain_table(outcome.comparisons)}\n"
        "From the first third of the time heard to the last, the mean squared error of the same songs falls by "
        f"{_mean_and_error(outcome.settling[:, 0])} (valence) and {_mean_and_error(outcome.settling[:, 1])} "
        '(arousal). The checkpoint gets the form "time".\n\n'
        "## What the checkpoint holds\n\n"
        "variance of the error = settled + early · exp(-time heard / decay_s):\n\n"
        f"{_fitted_table(calibration)}\n"
        f"The validation songs' labels have a variance of {calibration.label_variance:.4f}, both dimensions together; "
        "confidence is 1 - the sum of both errors' variances over it. So this is said, of any music, after so much "
        "sound:\n\n"
        f"{_course_table(calibration)}\n"
        "## How well it holds\n\n"
        "Standardised errors (error / sd) have an sd of 1 where it holds; of Gaussian ones 68.3 % and 95.4 % lie "
        "within 1 and 2 sd. With 95 % intervals from 1,000 resamples of the songs.\n\n"
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
    for part, said in outcome.cut_to_cut.items():
        page += f"\n{part.capitalize()} songs by the time since the cut:\n\n{_cut_table(said)}"
    return page


def _gain_table(comparisons: Sequence[Comparison]) -> str:
    """What each form gains, in thousandths of a nat per frame, with its standard error over songs; Markdown."""
    lines = ["| variance made of a constant and | valence | arousal | both |", "|---|---|---|---|"]
    for comparison in comparisons[1:]:
        gains = (*comparison.gain.T, comparison.gain.sum(axis=1))
        cells = [f"{1e3 * gain.mean():+.1f} ± {1e3 * _standard_error(gain):.1f}" for gain in gains]
        lines.append(f"| {comparison.form.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _fitted_table(calibration: Calibration) -> str:
    """The numbers that the checkpoint gets; Markdown."""
    lines = ["| | settled | early | decay_s |", "|---|---|---|---|"]
    for name in DIMENSIONS:
        of: ErrorVariance = getattr(calibration, name)
        lines.append(f"| {name} | {of.settled:.4f} | {of.early:.4f} | {of.decay_s:.2f} |")
    return "\n".join(lines) + "\n"


def _course_table(calibration: Calibration, times_s: Sequence[float] = (1.0, 2.0, 3.0, 5.0, 10.0, 60.0)) -> str:
    """What is stated after so much sound; Markdown."""
    lines = ["| heard | sd of valence | sd of arousal | confidence |", "|---|---|---|---|"]
    for heard_s in times_s:
        at = calibration.after(heard_s)
        lines.append(f"| {heard_s:g} s | {at.valence_sd:.3f} | {at.arousal_sd:.3f} | {at.confidence:.3f} |")
    return "\n".join(lines) + "\n"


def _reliability_table(parts: Mapping[str, Stated]) -> str:
    """A row per part and dimension; Markdown."""
    lines = [
        "| songs | dimension | RMSE | sd stated | standardised errors' sd [95 %] | within 1 sd | within 2 sd "
        "| rank correlation of sd and \\|error\\| [95 %] |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, said in parts.items():
        for k, dimension in enumerate(DIMENSIONS):
            of = reliability(said, k)
            cells = [name, dimension, f"{of.rmse:.3f}", f"{of.sd:.3f}", _interval(of.standardised)]
            cells += [f"{of.within_1:.1%}", f"{of.within_2:.1%}", _interval(of.rank_correlation)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _thirds_table(said: Stated) -> str:
    """RMSE and R² of the frames said with the most and the least confidence; Markdown."""
    low, high = np.quantile(said.confidence, [1.0 / 3.0, 2.0 / 3.0])
    thirds = {"least confident": said.confidence <= low, "most confident": said.confidence >= high}
    lines = [
        "| third | confidence | RMSE valence | RMSE arousal | R² valence | R² arousal |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in thirds.items():
        mse = np.mean(said.error[rows] ** 2, axis=0)
        r2 = 1.0 - mse / said.label[rows].var(axis=0)
        cells = [f"{said.confidence[rows].mean():.3f}", *(f"{v:.3f}" for v in (*np.sqrt(mse), *r2))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cut_table(said: Stated) -> str:
    """Standardised errors by the time since the song began, where there is a frame per song at least; Markdown."""
    lines = ["| since the cut | standardised errors' sd, valence | arousal |", "|---|---|---|"]
    for first in range(0, int(said.frame.max()) + 1, _CUT_FRAMES):
        rows = (said.frame >= first) & (said.frame < first + _CUT_FRAMES)
        if rows.sum() > said.song.max():
            valence, arousal = (_rms(said.error[rows, k] / said.sd[rows, k]) for k in range(2))
            since = f"{first * HOP_S:g} to {(first + _CUT_FRAMES) * HOP_S:g} s"
            lines.append(f"| {since} | {valence:.2f} | {arousal:.2f} |")
    return "\n".join(lines) + "\n"


def _held_out_likelihood(errors: Errors, form: Form, held_out: npt.NDArray[np.bool_]) -> Float64Array:
    """The log likelihood of each frame that is held out, shape (n, 2), by a fit on all others."""
    fitted_on = ~held_out
    likelihoods = []
    for k in range(2):
        squared = errors.error[:, k] ** 2
        terms = [errors.terms[name][:, k] for name in form.terms]
        fitted = fit_variance(
            squared[fitted_on], [term[fitted_on] for term in terms], errors.heard_s[fitted_on], fading=form.fading
        )
        variance = fitted.variance([term[held_out] for term in terms], errors.heard_s[held_out])
        likelihoods.append(-0.5 * (np.log(2.0 * math.pi * variance) + squared[held_out] / variance))
    return np.stack(likelihoods, axis=1)


def _song_means(values: Float64Array, song: IntArray) -> Float64Array:
    return np.stack([values[song == each].mean(axis=0) for each in np.unique(song)])


def _standard_error(values: Float64Array) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _mean_and_error(values: Float64Array) -> str:
    return f"{values.mean():.4f} ± {_standard_error(values):.4f}"


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
