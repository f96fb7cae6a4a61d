"""How fast predictions follow: what is measured, on made-up predictions, and sets on made-up sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.responsiveness import (
    Followed,
    SetAudio,
    changes_per_minute,
    crossfaded,
    followed,
    opening_high_pass,
    quiet_break,
    r2,
    reaction_s,
    standardised,
    within_song_sd,
)
from realtime_mer.features.changes import N_NOVELTY, ChangeDetector
from realtime_mer.features.engine import ENGINE_RATE_HZ
from realtime_mer.types import Prediction
from train.changes import CutFrames, cut_to_cut, detection_table, extract_blocks
from train.deam import Song


def song(song_id: int, audio: Path | None = None, label: tuple[float, float] = (0.0, 0.0)) -> Song:
    times_s = np.arange(15.0, 45.5, 0.5)
    return Song(
        song_id, audio, 30.0, None, times_s, np.tile(np.array(label, dtype=np.float32), (len(times_s), 1)), "test"
    )


def sound(tmp_path: Path, name: str, level: float, duration_s: float = 4.0) -> Path:
    path = tmp_path / f"{name}.wav"
    soundfile.write(path, np.full(round(duration_s * ENGINE_RATE_HZ), level, dtype=np.float32), ENGINE_RATE_HZ, "FLOAT")
    return path


def two_songs(reaction: int) -> Followed:
    """Ten seconds each of labels 0 and .4; the predictions follow `reaction` frames after the first of the second."""
    time_s = np.arange(1, 41) * 0.5
    audio = SetAudio((song(1), song(2, label=(0.4, 0.4))), np.empty(0, np.float32), (0.0, 10.0), (0.0, 10.0))
    values = np.where(np.arange(40) >= 20 + reaction, 0.4, 0.0)
    return followed(
        audio, [Prediction(t, v, v, 0.1, 0.1) for t, v in zip(time_s.tolist(), values.tolist(), strict=True)]
    )


def test_each_prediction_belongs_to_the_song_that_plays() -> None:
    found = two_songs(0)
    assert (found.song[:20] == 0).all()
    assert (found.song[20:] == 1).all()
    assert found.since_s[20] == pytest.approx(0.5)
    assert found.label[[0, 19, 20]] == pytest.approx(np.array([[0.0, 0.0], [0.0, 0.0], [0.4, 0.4]]))


def test_what_is_measured_of_predictions_that_follow_two_seconds_late() -> None:
    found = two_songs(3)
    assert r2(found) == pytest.approx((1 - 3 / 10, 1 - 3 / 10))
    assert r2(two_songs(0)) == pytest.approx((1.0, 1.0))
    assert reaction_s(found).tolist() == [2.0]
    assert within_song_sd(found) == (0.0, 0.0)
    assert standardised(found, 0.0, 3.0)[0] == pytest.approx(np.sqrt(3 * 16 / 12))
    assert changes_per_minute(found) == 0.0


def test_songs_lie_cut_to_cut_or_cross(tmp_path: Path) -> None:
    songs = [song(1, sound(tmp_path, "one", 0.5)), song(2, sound(tmp_path, "two", -0.5))]
    cut = crossfaded(songs, 0.0)
    assert len(cut.samples) == 8 * ENGINE_RATE_HZ
    assert cut.starts_s == (0.0, 4.0)
    crossed = crossfaded(songs, 1.0)
    assert len(crossed.samples) == 7 * ENGINE_RATE_HZ
    assert crossed.starts_s == (0.0, 3.5)
    assert crossed.audible_s == (0.0, 3.0)
    assert crossed.samples[round(3.5 * ENGINE_RATE_HZ)] == pytest.approx(0.0, abs=1e-3)


def test_breaks_are_quiet_or_without_low_tones() -> None:
    time_s = np.arange(16 * ENGINE_RATE_HZ) / ENGINE_RATE_HZ
    low = np.sin(2 * np.pi * 60.0 * time_s).astype(np.float32)

    def level(samples: np.ndarray, start_s: float) -> float:
        return float(samples[round(start_s * ENGINE_RATE_HZ) :][:ENGINE_RATE_HZ].std())

    quiet, opening = quiet_break(low), opening_high_pass(low)
    assert level(quiet, 3.0) == pytest.approx(level(low, 3.0)) == pytest.approx(level(quiet, 14.5))
    assert 20 * np.log10(level(quiet, 8.0) / level(low, 8.0)) == pytest.approx(-15.0, abs=0.1)
    assert level(opening, 6.1) < 0.15 * level(low, 6.1)
    assert level(opening, 14.5) == pytest.approx(level(low, 14.5))


def test_frames_of_songs_cut_to_cut_know_the_time_since_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "noise.wav"
    noise = 0.1 * np.random.default_rng(0).normal(size=8 * ENGINE_RATE_HZ)
    soundfile.write(path, noise, ENGINE_RATE_HZ, "FLOAT")
    starts_s, blocks = extract_blocks(path, None)
    assert blocks.shape == (len(starts_s), 85)
    frames = cut_to_cut([blocks, blocks, blocks], np.random.default_rng(0))
    assert frames.values.shape == (len(frames.since_s), N_NOVELTY)
    later = frames.since_s[np.isfinite(frames.since_s)]
    assert later.min() < 0.6
    assert np.allclose(np.diff(later)[np.diff(later) > 0], 0.5)


def test_a_detector_that_knows_the_answer_finds_all() -> None:
    since_s = np.tile(np.arange(0.1, 10.0, 0.5), 5)
    frames = CutFrames(np.zeros((len(since_s), N_NOVELTY), dtype=np.float32), since_s)
    logits = np.where((since_s >= 0.8) & (since_s < 1.8), 5.0, -5.0)
    assert "| 3 | 1.000 | 1.000 | -5.00 |" in detection_table(frames, logits)


def test_the_packaged_detector_loads() -> None:
    assert np.isfinite(ChangeDetector.default().logit(np.zeros(N_NOVELTY, dtype=np.float32)))
