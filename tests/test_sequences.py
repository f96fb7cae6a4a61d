"""Alignment of labels with frames, segments and batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from train.deam import Song, load_deam
from train.sequences import SongSequence, align, consecutive_segments, pad_batch, random_segments

FloatArray = npt.NDArray[np.float32]
TimeArray = npt.NDArray[np.float64]


def song_with(label_times_s: TimeArray, labels: FloatArray | None = None, audio_start_s: float = 0.0) -> Song:
    if labels is None:
        labels = np.stack([label_times_s / 100, -label_times_s / 100], axis=1).astype(np.float32)
    return Song(7, None, audio_start_s, None, label_times_s, labels, None)


def frames(n: int, first_s: float = 0.0) -> tuple[TimeArray, FloatArray]:
    """Frame starts, and features that hold the frame's number."""
    return first_s + 0.5 * np.arange(n, dtype=np.float64), np.repeat(np.arange(n, dtype=np.float32)[:, None], 3, axis=1)


def sequence(song_id: int, labelled: list[bool], n_features: int = 3) -> SongSequence:
    """Features hold song and frame; labels are the song's number, or 0 without a label."""
    n = len(labelled)
    features = (song_id * 1000 + np.arange(n, dtype=np.float32))[:, None] + np.zeros((1, n_features), np.float32)
    labels = np.where(np.array(labelled, bool)[:, None], np.full((n, 2), song_id / 100), 0.0).astype(np.float32)
    return SongSequence(song_id, features, labels, np.array(labelled, bool), 1.0 + 0.5 * np.arange(n, dtype=np.float64))


# ---- align ------------------------------------------------------------------------------------------------------


def test_a_frame_has_the_annotation_at_its_end() -> None:
    times_s = np.arange(15.0, 45.0, 0.5)
    aligned = align(song_with(times_s, audio_start_s=30.0), *frames(18))
    assert aligned.labelled.all()
    np.testing.assert_array_equal(aligned.end_s, 1.0 + 0.5 * np.arange(18))
    np.testing.assert_array_equal(aligned.labels[:, 0], ((31.0 + 0.5 * np.arange(18)) / 100).astype(np.float32))
    np.testing.assert_array_equal(aligned.labels[:, 1], -aligned.labels[:, 0])
    np.testing.assert_array_equal(aligned.features, frames(18)[1])


def test_frames_outside_the_annotations_stay_without_a_label() -> None:
    aligned = align(song_with(np.array([15.0, 15.5, 16.0])), *frames(40))
    np.testing.assert_array_equal(np.flatnonzero(aligned.labelled), [28, 29, 30])
    np.testing.assert_array_equal(aligned.labels[28:31, 0], np.array([0.15, 0.155, 0.16], np.float32))
    assert not aligned.labels[~aligned.labelled].any()
    assert len(aligned.features) == 40


def test_a_hole_is_not_interpolated() -> None:
    song = song_with(np.array([15.0, 15.5, 16.5, 17.0]), audio_start_s=14.0)
    np.testing.assert_array_equal(align(song, *frames(5)).labelled, [True, True, False, True, True])
    shifted = align(replace(song, audio_start_s=14.25), *frames(5))
    np.testing.assert_array_equal(shifted.labelled, [True, False, False, True, False])


@given(labels=arrays(np.float32, (12, 2), elements=st.floats(-1, 1, width=32)), audio_start_s=st.floats(0, 30))
def test_align_is_linear_interpolation_and_never_extrapolation(labels: FloatArray, audio_start_s: float) -> None:
    times_s = 15.0 + 0.5 * np.arange(12, dtype=np.float64)
    aligned = align(song_with(times_s, labels, audio_start_s), *frames(50))
    at_s = audio_start_s + aligned.end_s
    inside = (at_s >= times_s[0]) & (at_s <= times_s[-1])
    assert (aligned.labelled >= inside).all()
    assert not (aligned.labelled & ((at_s < times_s[0] - 0.002) | (at_s > times_s[-1] + 0.002))).any()
    for column in (0, 1):
        expected = np.interp(at_s, times_s, labels[:, column])
        # The tolerance may move a label by one millisecond of the steepest slope.
        np.testing.assert_allclose(aligned.labels[inside, column], expected[inside], atol=0.005)
    assert np.all(np.abs(aligned.labels) <= 1.0)


def test_float_sums_fall_on_the_grid() -> None:
    song = song_with(np.arange(15.0, 35.0, 0.5), audio_start_s=0.1 + 0.2 + 29.7)
    assert align(song, np.cumsum(np.full(5, 0.1 * 5)) - 0.5, frames(5)[1]).labelled.all()
    # A rounding error beside the last annotation, or beside one with a hole before or after it.
    for times_s in ([15.0], [13.5, 15.0], [15.0, 16.5]):
        for error_s in (1e-9, -1e-9):
            aligned = align(song_with(np.array(times_s)), *frames(1, first_s=14.0 + error_s))
            assert aligned.labelled.all()
            assert aligned.labels[0, 0] == np.float32(0.15)


@pytest.mark.parametrize(
    ("frame_start_s", "values", "message"),
    [
        (np.arange(3) * 0.5, np.zeros((4, 2), np.float32), r"got \(3,\) and \(4, 2\)"),
        (np.arange(3) * 0.5, np.zeros(3, np.float32), r"got \(3,\) and \(3,\)"),
        (np.zeros(0), np.zeros((0, 2), np.float32), "at least one frame"),
        (np.arange(3) * 1.0, np.zeros((3, 2), np.float32), "expected frames 0.5 s apart"),
        (np.arange(3) * 0.5, np.array([[0, 0], [0, np.nan], [0, 0]], np.float32), "feature 1 of frame 1 is nan"),
    ],
)
def test_wrong_features(frame_start_s: TimeArray, values: FloatArray, message: str) -> None:
    with pytest.raises(ValueError, match=f"Song 7: .*{message}"):
        align(song_with(np.arange(15.0, 45.0, 0.5)), frame_start_s, values)


def test_every_frame_of_the_excerpts_has_its_label(deam_root: Path) -> None:
    with np.load(deam_root / "features.npz") as reference:
        values = dict(zip(reference["song_id"].tolist(), reference["features"], strict=True))
        frame_start_s = reference["frame_start_s"]
    sequences = [align(song, frame_start_s, values[song.song_id]) for song in load_deam(deam_root).songs]
    assert sum(int(aligned.labelled.sum()) for aligned in sequences) == 1632 * 18
    assert len(random_segments(sequences, np.random.default_rng(0))) == 1632


# ---- segments ---------------------------------------------------------------------------------------------------


def test_a_random_segment_is_a_run_of_labelled_frames() -> None:
    sequences = [sequence(1, [False] * 3 + [True] * 10 + [False] * 2), sequence(2, [True] * 8)]
    rng = np.random.default_rng(0)
    starts: Counter[int] = Counter()
    for _ in range(300):
        first, second = random_segments(sequences, rng)
        assert (first.song_id, second.song_id) == (1, 2)
        start = int(first.features[0, 0]) - 1000
        starts[start] += 1
        np.testing.assert_array_equal(first.features[:, 0], 1000 + start + np.arange(8))
        np.testing.assert_array_equal(first.end_s, 1.0 + 0.5 * (start + np.arange(8)))
        assert first.labelled.all()
        np.testing.assert_array_equal(second.features, sequences[1].features)
    # Each of the three places, and each often: 100 times on average.
    assert set(starts) == {3, 4, 5}
    assert min(starts.values()) > 60


def test_songs_without_a_run_of_that_length_are_named() -> None:
    sequences = [sequence(1, [True] * 7 + [False] + [True] * 7), sequence(2, [True] * 8), sequence(3, [])]
    with pytest.raises(ValueError, match="No 8 consecutive labelled frames in song 1, 3:"):
        random_segments(sequences, np.random.default_rng(0))
    assert len(random_segments(sequences[:2], np.random.default_rng(0), length=7)) == 2


def test_a_segment_has_at_least_one_frame() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        random_segments([sequence(1, [True] * 9)], np.random.default_rng(0), 0)
    with pytest.raises(ValueError, match="at least 1, got -1"):
        consecutive_segments([sequence(1, [True] * 9)], -1)


@given(st.lists(st.lists(st.booleans(), max_size=30), max_size=4), st.integers(1, 9))
def test_consecutive_segments_have_every_labelled_frame_once(masks: list[list[bool]], length: int) -> None:
    sequences = [sequence(song_id, mask) for song_id, mask in enumerate(masks, start=1)]
    segments = consecutive_segments(sequences, length)
    taken = [float(value) for segment in segments for value in segment.features[:, 0]]
    expected = [float(value) for whole in sequences for value in whole.features[whole.labelled, 0]]
    assert taken == expected
    for segment in segments:
        assert segment.labelled.all()
        assert 1 <= len(segment.features) <= length
        assert np.all(np.diff(segment.features[:, 0]) == 1)


# ---- batches ---------------------------------------------------------------------------------------------------


def test_a_batch_is_padded_at_the_end() -> None:
    short, long = sequence(1, [True, False]), sequence(2, [False, True, True, True])
    batch = pad_batch([short, long])
    assert batch.features.shape == (2, 4, 3)
    assert batch.labels.shape == (2, 4, 2)
    assert (batch.features.dtype, batch.labels.dtype) == (torch.float32, torch.float32)
    assert batch.mask.tolist() == [[True, False, False, False], [False, True, True, True]]
    np.testing.assert_array_equal(batch.features[0, :2].numpy(), short.features)
    np.testing.assert_array_equal(batch.features[1].numpy(), long.features)
    np.testing.assert_array_equal(batch.labels[1].numpy(), long.labels)
    assert not batch.features[0, 2:].any()
    assert not batch.labels[0, 2:].any()


def test_impossible_batches() -> None:
    with pytest.raises(ValueError, match="no sequence"):
        pad_batch([])
    with pytest.raises(ValueError, match=r"got \[3, 4\]"):
        pad_batch([sequence(1, [True]), sequence(2, [True], n_features=4)])
