"""Sequences of features and labels, one per song, and the segments and batches that training makes of them.

Frames without a label stay in a sequence, so that a model's state runs through them; `labelled` marks the frames with
one. A missing label is 0, not NaN, since NaN times a mask of 0 is still NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from realtime_mer.features.engine import FRAME_S, HOP_S
from realtime_mer.types import FloatArray
from train.deam import ANNOTATION_STEP_S, Song

BoolArray = npt.NDArray[np.bool_]
TimeArray = npt.NDArray[np.float64]

# The published protocol's segments, in frames.
SEGMENT_FRAMES = 8

# Times closer than this are equal: they come from text with three digits and from sums of half seconds.
_TIME_TOLERANCE_S = 1e-3


@dataclass(frozen=True, eq=False)
class SongSequence:
    """A song's consecutive frames, or a run of them, one every 0.5 s.

    features: float32, shape (frames, n_features).
    labels: float32, shape (frames, 2), valence and arousal in [-1, 1]; 0 where there is no label.
    labelled: bool, shape (frames,).
    end_s: float64, shape (frames,): when each frame ends, in seconds from the first sample of the song's audio. This is
        the `time_s` of a prediction; song time is the song's `audio_start_s` later.
    """

    song_id: int
    features: FloatArray
    labels: FloatArray
    labelled: BoolArray
    end_s: TimeArray


class Batch(NamedTuple):
    """Sequences as one batch, padded with zeros at their ends.

    features: float32, shape (batch, frames, n_features); labels: float32, shape (batch, frames, 2);
    mask: bool, shape (batch, frames), True where a frame has a label.
    """

    features: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor


def align(song: Song, frame_start_s: TimeArray, values: FloatArray) -> SongSequence:
    """Labels each frame of a song's audio with the annotation at the frame's end.

    frame_start_s: float64, shape (frames,), from the first sample of `song.audio`, 0.5 s apart.
    values: float32, shape (frames, n_features), finite.

    The label is interpolated linearly at song time audio_start_s + frame_start_s + 1.0. Before the first annotation,
    after the last, and between annotations more than 0.5 s apart, a frame has none.

    Raises ValueError, naming the song, for features of other shapes, with NaN, or with frames not 0.5 s apart.
    """
    if values.ndim != 2 or frame_start_s.shape != values.shape[:1] or not len(values):
        raise ValueError(
            f"Song {song.song_id}: expected frame starts of shape (frames,) and features of shape (frames, n_features) "
            f"with at least one frame, got {frame_start_s.shape} and {values.shape}."
        )
    if not np.isfinite(values).all():
        frame, feature = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"Song {song.song_id}: feature {feature} of frame {frame} is {values[frame, feature]}.")
    if np.any(np.abs(np.diff(frame_start_s) - HOP_S) > _TIME_TOLERANCE_S):
        raise ValueError(f"Song {song.song_id}: expected frames {HOP_S} s apart.")
    end_s = frame_start_s + FRAME_S
    labels, labelled = labels_at(song.audio_start_s + end_s, song.label_times_s, song.labels)
    return SongSequence(song.song_id, np.asarray(values, dtype=np.float32), labels, labelled, end_s)


def random_segments(
    sequences: Sequence[SongSequence], rng: np.random.Generator, length: int = SEGMENT_FRAMES
) -> list[SongSequence]:
    """One epoch of the published protocol: from every song, `length` consecutive labelled frames at a random place.

    Raises ValueError naming the songs that have none.
    """
    segments = []
    too_short = []
    for sequence in sequences:
        starts = _run_starts(sequence.labelled, length)
        if len(starts):
            start = int(rng.choice(starts))
            segments.append(_cut(sequence, start, start + length))
        else:
            too_short.append(sequence.song_id)
    if too_short:
        songs = ", ".join(str(song_id) for song_id in too_short)
        raise ValueError(f"No {length} consecutive labelled frames in song {songs}: leave it out or use fewer frames.")
    return segments


def consecutive_segments(sequences: Sequence[SongSequence], length: int = SEGMENT_FRAMES) -> list[SongSequence]:
    """All labelled frames, each once: every run of them cut into segments of `length`; the last one may be shorter."""
    _check_length(length)
    segments = []
    for sequence in sequences:
        edges = np.flatnonzero(np.diff(sequence.labelled.astype(np.int8), prepend=0, append=0))
        for run_start, run_stop in edges.reshape(-1, 2):
            starts = range(int(run_start), int(run_stop), length)
            segments += [_cut(sequence, start, min(start + length, int(run_stop))) for start in starts]
    return segments


def pad_batch(sequences: Sequence[SongSequence]) -> Batch:
    """The sequences as one batch, padded at their ends to the longest.

    Raises ValueError for no sequence, or sequences with different numbers of features.
    """
    if len({sequence.features.shape[1] for sequence in sequences}) != 1:
        numbers = sorted({sequence.features.shape[1] for sequence in sequences})
        raise ValueError(f"Expected sequences with one number of features, got {numbers or 'no sequence'}.")
    n_frames = max(len(sequence.features) for sequence in sequences)
    batch = Batch(
        torch.zeros(len(sequences), n_frames, sequences[0].features.shape[1]),
        torch.zeros(len(sequences), n_frames, 2),
        torch.zeros(len(sequences), n_frames, dtype=torch.bool),
    )
    for row, sequence in enumerate(sequences):
        n = len(sequence.features)
        batch.features[row, :n] = torch.from_numpy(sequence.features)
        batch.labels[row, :n] = torch.from_numpy(sequence.labels)
        batch.mask[row, :n] = torch.from_numpy(sequence.labelled)
    return batch


def labels_at(at_s: TimeArray, times_s: TimeArray, labels: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Labels (n, 2) at the times `at_s` and which of them exist (n,), from annotations at ascending `times_s`."""
    last = len(times_s) - 1
    # The first annotation that is not earlier, and the one before it.
    right = np.searchsorted(times_s, at_s - _TIME_TOLERANCE_S)
    after = np.minimum(right, last)
    before = np.maximum(right - 1, 0)
    on_grid = np.abs(times_s[after] - at_s) <= _TIME_TOLERANCE_S
    gap_s = times_s[after] - times_s[before]
    between = (right > 0) & (right <= last) & (gap_s <= ANNOTATION_STEP_S + _TIME_TOLERANCE_S)
    labelled = on_grid | between
    weight = np.where(on_grid | ~between, 1.0, (at_s - times_s[before]) / np.where(between, gap_s, 1.0))[:, None]
    values = (1.0 - weight) * labels[before] + weight * labels[after]
    return np.where(labelled[:, None], values, 0.0).astype(np.float32), labelled


def _check_length(length: int) -> None:
    if length < 1:
        raise ValueError(f"Expected a segment length of at least 1, got {length}.")


def _run_starts(labelled: BoolArray, length: int) -> npt.NDArray[np.intp]:
    """The frames at which a run of `length` labelled frames starts."""
    _check_length(length)
    n_before = np.concatenate(([0], np.cumsum(labelled)))
    return np.flatnonzero(n_before[length:] - n_before[:-length] == length)


def _cut(sequence: SongSequence, start: int, stop: int) -> SongSequence:
    return replace(
        sequence,
        features=sequence.features[start:stop],
        labels=sequence.labels[start:stop],
        labelled=sequence.labelled[start:stop],
        end_s=sequence.end_s[start:stop],
    )
