"""A take's sound by stream time, and its level."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import RATE_HZ, capture, good_recording, noise, record, update

from realtime_mer.config import LevelMeterSettings
from realtime_mer.live.metering import LevelMeter
from realtime_mer.recording import RecordingError
from realtime_mer.recording.reader import read_recording
from realtime_mer.types import FloatArray
from realtime_mer.viewer.loading import take_of_recording
from realtime_mer.viewer.moments import Piece, Take
from realtime_mer.viewer.sound import Levels, stereo_blocks


def heard(take: Take, from_s: float, rate_hz: int) -> FloatArray:
    with contextlib.closing(stereo_blocks(take, from_s, rate_hz)) as blocks:
        return np.concatenate([np.zeros((0, 2), dtype=np.float32), *blocks])


def take_of(pieces: tuple[Piece, ...], end_s: float) -> Take:
    return Take("a song", 0.0, end_s, (), pieces, LevelMeterSettings(), 30.0)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from([8_000, 11_025, 44_100]), st.integers(1, 9), st.integers(0, 9)), max_size=4),
    st.sampled_from([8_000, 48_000]),
    st.floats(0.0, 3.0),
)
def test_every_piece_is_heard_at_its_place_whatever_the_rates(
    parts: list[tuple[int, int, int]], rate_hz: int, from_s: float
) -> None:
    """Each piece is one constant, unlike the silence between them."""
    with TemporaryDirectory() as folder:
        pieces, now_s = [], 0.0
        for number, (rate, length, gap) in enumerate(parts):
            path = Path(folder) / f"{number}.wav"
            n_samples = length * rate // 20
            soundfile.write(path, np.full((n_samples + 100, 1), 0.5), rate, subtype="FLOAT")
            now_s += gap / 20
            pieces.append(Piece(path, rate, 100, n_samples, now_s))
            now_s += n_samples / rate
        take = take_of(tuple(pieces), now_s + 0.1)
        samples = heard(take, from_s, rate_hz)
    assert len(samples) == max(round((take.end_s - from_s) * rate_hz), 0)
    times_s = from_s + (np.arange(len(samples)) + 0.5) / rate_hz
    # A resampler rings on both sides of an edge.
    margin_s = 0.004
    loud, silent = np.zeros(len(samples), dtype=bool), np.ones(len(samples), dtype=bool)
    for piece in pieces:
        loud |= (times_s > piece.start_s + margin_s) & (times_s < piece.end_s - margin_s)
        silent &= (times_s < piece.start_s - margin_s) | (times_s > piece.end_s + margin_s)
    assert np.abs(samples[silent]).max(initial=0.0) < 0.01
    # From within a piece, the resampler begins there.
    loud &= times_s > from_s + margin_s
    assert np.abs(samples[loud] - 0.5).max(initial=0.0) < 0.02


def test_a_recordings_sound_has_silence_where_blocks_were_dropped(tmp_path: Path) -> None:
    first, second = noise(6_000, 2), noise(2_000, 2, seed=1)
    recording = record(tmp_path / "r", [capture(first), capture(second, dropped_samples=480)], [update(0)])
    samples = heard(take_of_recording(recording), 0.0, RATE_HZ)
    expected = np.concatenate([first, np.zeros((480, 2)), second])
    # The take goes on to its last update.
    assert np.array_equal(samples[: len(expected)], expected)
    assert not samples[len(expected) :].any()


def test_channels_become_two(tmp_path: Path) -> None:
    one, three = noise(800), noise(800, 3, seed=1)
    recording = record(tmp_path / "r", [capture(one), capture(three, 1)], [])
    samples = heard(take_of_recording(recording), 0.0, RATE_HZ)
    assert np.array_equal(samples[:800], np.repeat(one, 2, axis=1))
    assert np.allclose(samples[800:], three.mean(axis=1, keepdims=True), atol=1e-6)


def test_damaged_sound_is_reported(tmp_path: Path) -> None:
    take = take_of_recording(read_recording(good_recording(tmp_path / "r")))
    path = take.pieces[0].path
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(RecordingError, match="damaged"):
        heard(take, 0.0, RATE_HZ)
    assert Levels(take).at(0.5) is None


@settings(max_examples=20)
@given(st.lists(st.integers(0, 1_200), min_size=1, max_size=12))
def test_the_level_at_a_moment_is_the_live_one_whatever_came_before(moments: list[int]) -> None:
    rng = np.random.default_rng(0)
    loudness = np.repeat(rng.choice([0.0, 1e-4, 0.01, 0.5, 1.0], 24), RATE_HZ // 2)
    samples = np.clip(loudness * rng.normal(size=len(loudness)), -1.0, 1.0).astype(np.float32)[:, None]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "s.wav"
        soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")
        # In two pieces, as where sound was dropped: two seconds.
        n = 30_000
        pieces = (Piece(path, RATE_HZ, 0, n, 0.0), Piece(path, RATE_HZ, n, len(samples) - n, n / RATE_HZ + 2.0))
        take = take_of(pieces, pieces[-1].end_s)
        levels = Levels(take)
        try:
            for hundredth in moments:
                n_heard = hundredth * RATE_HZ // 100
                meter = LevelMeter(take.meter, RATE_HZ)
                meter.step(samples[:n_heard])
                time_s = n_heard / RATE_HZ + (2.0 if n_heard > n else 0.0)
                found, expected = levels.at(time_s), meter.level()
                assert found == expected
        finally:
            levels.close()


def test_a_recordings_pieces_follow_one_another(tmp_path: Path) -> None:
    take = take_of_recording(read_recording(good_recording(tmp_path / "r")))
    assert [(piece.start_s, piece.n_samples) for piece in take.pieces] == [
        (0.0, 6_000),
        (pytest.approx(6_480 / RATE_HZ), 2_000),
        (pytest.approx(8_481 / RATE_HZ), 100),
    ]
    assert list(take.breaks) == pytest.approx([8_480 / RATE_HZ])
    assert [drop.duration_s for drop in take.drops] == [480 / RATE_HZ, 1 / RATE_HZ]
    assert all(one.end_s <= other.start_s for one, other in pairwise(take.pieces))
    # Its last update, at 2 s, is later than its sound.
    assert (take.start_s, take.end_s) == (0.0, 2.0)
