"""Plots of a training run: scores by epoch, and predictions for songs that were not trained on."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from realtime_mer.types import FloatArray
from train.loop import Epoch
from train.metrics import DIMENSIONS
from train.sequences import SongSequence

_DPI = 110
_COLOURS = ("tab:blue", "tab:red")  # valence, arousal
_N_SONGS = 6


def curves_png(history: Sequence[Epoch], kept: Epoch, title: str) -> bytes:
    """The loss, and R² on validation, by epoch, with a mark at the epoch that was kept; a PNG."""
    epochs = [epoch.epoch for epoch in history]
    figure = Figure(figsize=(11.0, 4.0), layout="constrained")
    figure.suptitle(title)
    losses, scores = figure.subplots(1, 2)
    losses.plot(epochs, [epoch.training_mse for epoch in history], color="grey", label="training")
    losses.plot(epochs, [epoch.selection_mse for epoch in history], color="black", label="validation")
    losses.set(xlabel="epoch", ylabel="mean squared error", yscale="log")
    for column, (dimension, colour) in enumerate(zip(DIMENSIONS, _COLOURS, strict=True)):
        streaming = [epoch.streaming_r2[column] for epoch in history]
        scores.plot(epochs, streaming, color=colour, label=f"{dimension}, streaming")
        segments = [epoch.segments_r2[column] for epoch in history if epoch.segments_r2 is not None]
        if segments:
            scores.plot(epochs, segments, color=colour, linestyle=":", label=f"{dimension}, segments")
    # The first epochs can be far below 0.
    scores.set(xlabel="epoch", ylabel="R² on validation", ylim=(max(-1.0, scores.get_ylim()[0]), 1.0))
    for axes in (losses, scores):
        axes.axvline(kept.epoch, color="lightgrey", zorder=0)
        axes.legend()
    return _png(figure)


def trajectories_png(sequences: Sequence[SongSequence], predictions: Sequence[FloatArray], title: str) -> bytes:
    """Labels and predictions of some songs, over time and in the valence-arousal plane; a PNG.

    sequences: at least one song, each with at least one label; predictions: (frames, 2) for each. The songs shown are
    spread over the range of valence plus arousal.
    """
    by_label = np.argsort(
        [sequence.labels[sequence.labelled].sum() / sequence.labelled.sum() for sequence in sequences]
    )
    n_shown = min(_N_SONGS, len(sequences))
    shown = by_label[np.linspace(0, len(by_label) - 1, n_shown).round().astype(int)]
    figure = Figure(figsize=(11.0, 2.6 * n_shown), layout="constrained")
    figure.suptitle(title)
    rows = figure.subplots(n_shown, 2, width_ratios=(3, 1), squeeze=False)
    for (over_time, plane), index in zip(rows, shown, strict=True):
        sequence, predicted = sequences[index], predictions[index]
        labels = np.where(sequence.labelled[:, None], sequence.labels, np.nan)
        for column, dimension in enumerate(DIMENSIONS):
            over_time.plot(
                sequence.end_s, predicted[:, column], color=_COLOURS[column], label=f"{dimension}, predicted"
            )
            over_time.plot(
                sequence.end_s, labels[:, column], color=_COLOURS[column], linestyle=":", label=f"{dimension}, rated"
            )
        over_time.axhline(0.0, color="grey", linewidth=0.5)
        over_time.set(title=f"song {sequence.song_id}", xlabel="time in s", ylim=(-1, 1))
        plane.plot(predicted[:, 0], predicted[:, 1], color="black", label="predicted")
        plane.plot(labels[:, 0], labels[:, 1], color="black", linestyle=":", label="rated")
        for path, marker in ((predicted, "o"), (labels[sequence.labelled], "s")):
            plane.plot(path[-1, 0], path[-1, 1], color="black", marker=marker, markersize=4, linestyle="")
        plane.axhline(0.0, color="grey", linewidth=0.5)
        plane.axvline(0.0, color="grey", linewidth=0.5)
        plane.set(xlabel="valence", ylabel="arousal", xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    rows[0][0].legend(ncols=2, fontsize="small")
    rows[0][1].legend(fontsize="small")
    return _png(figure)


def set_png(songs: Sequence[SongSequence], predictions: Sequence[FloatArray], title: str) -> bytes:
    """A whole set over time, predicted and rated, with the boundaries between songs marked; a PNG.

    songs: the set's frames song by song, `end_s` in the set's time; predictions: (frames, 2) for each.
    """
    figure = Figure(figsize=(16.0, 6.0), layout="constrained")
    figure.suptitle(title)
    rows = figure.subplots(2, 1, sharex=True)
    end_s = np.concatenate([song.end_s for song in songs])
    predicted = np.concatenate(list(predictions))
    for column, (axes, dimension) in enumerate(zip(rows, DIMENSIONS, strict=True)):
        axes.plot(end_s, predicted[:, column], color=_COLOURS[column], linewidth=1.0, label="predicted")
        for number, song in enumerate(songs):
            rated = np.where(song.labelled, song.labels[:, column], np.nan)
            label = "rated" if number == 0 else None
            axes.plot(song.end_s, rated, color="black", linewidth=2.0, label=label)
            axes.axvline(song.end_s[0], color="grey", linewidth=0.4)
        axes.set(ylabel=dimension, ylim=(-0.8, 0.8))
    rows[0].legend(ncols=2, fontsize="small", loc="upper right")
    rows[1].set(xlabel="time in the set, s; grey lines: another song begins", xlim=(0.0, end_s[-1]))
    return _png(figure)


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DPI)
    return picture.getvalue()
