"""Scores on music from outside DEAM, and ranks: where a prediction lies among those for songs of DEAM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from realtime_mer.types import FloatArray

Float64Array = npt.NDArray[np.float64]

N_RANK_STEPS = 101


def rank_table(predictions: Iterable[FloatArray]) -> Float64Array:
    """Quantiles of cross-validated predictions, (N_RANK_STEPS, 2): a value at the k-th lies above k % of songs.

    predictions: one song's each, (frames, 2). Every song counts the same.
    """
    songs = [np.asarray(rows, dtype=np.float64) for rows in predictions]
    values = np.concatenate(songs)
    weights = np.concatenate([np.full(len(rows), 1.0 / len(rows)) for rows in songs])
    shares = np.linspace(0.0, 1.0, N_RANK_STEPS)
    columns = []
    for k in range(2):
        order = np.argsort(values[:, k], kind="stable")
        below = (np.cumsum(weights[order]) - 0.5 * weights[order]) / weights.sum()
        columns.append(np.interp(shares, below, values[order, k]))
    return np.stack(columns, axis=1)


def ranks(predictions: FloatArray, table: Float64Array) -> Float64Array:
    """The share of songs below each prediction, (n, 2), 0 to 1."""
    shares = np.linspace(0.0, 1.0, len(table))
    return np.stack([np.interp(predictions[:, k], table[:, k], shares) for k in range(2)], axis=1)


def area_under_curve(values: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_]) -> float:
    """The probability that a positive one lies above another one (ties count half)."""
    above = values[positive][:, None] - values[~positive][None]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def others_page(predictions: Mapping[str, FloatArray], targets: Mapping[str, Float64Array], table: Float64Array) -> str:
    """What the cross-validated model is worth on these clips; Markdown."""
    lines = []
    if "quadrants" in predictions:
        found, target = predictions["quadrants"], targets["quadrants"]
        positive, high = target[:, 0] > 0, target[:, 1] > 0
        by_rank = np.sign(ranks(found, table) - 0.5)
        lines += [
            f"{len(found)} clips with a quadrant, the mean prediction for each:",
            "",
            "| | |",
            "|---|---|",
            f"| quadrant right, split at rank .5 | {(by_rank == target).all(axis=1).mean():.3f} |",
            f"| quadrant right, split at 0 | {(np.sign(found) == target).all(axis=1).mean():.3f} |",
            f"| AUC valence | {area_under_curve(found[:, 0], positive):.3f} |",
            f"| AUC valence, calm clips | {area_under_curve(found[~high, 0], positive[~high]):.3f} |",
            f"| AUC valence, energetic clips | {area_under_curve(found[high, 0], positive[high]):.3f} |",
            f"| AUC arousal | {area_under_curve(found[:, 1], high):.3f} |",
            "",
        ]
    if "ratings" in predictions:
        found, target = predictions["ratings"], targets["ratings"]
        valence, arousal = (float(np.corrcoef(found[:, k], target[:, k])[0, 1]) for k in range(2))
        lines += [f"{len(found)} clips with mean ratings: r {valence:.3f} valence, {arousal:.3f} arousal.", ""]
    return "\n".join(lines)
