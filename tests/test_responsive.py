"""The responsive stage: it forgets at a change and reports it, however the sound was cut and however loud it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from contract import verify_contract

from realtime_mer.features.changes import (
    N_NOVELTY,
    N_START_POINTS,
    ChangeDetector,
    ChangeReports,
    StartPoints,
    blocks_of,
    novelty,
)
from realtime_mer.features.descriptors.responsive import (
    AGE_NAME,
    LOW_FLOOR,
    ResponsiveStage,
    describe_last,
    responsive_names,
)
from realtime_mer.features.descriptors.spectra import RATE_HZ, short_spectra, tone_peaks
from realtime_mer.types import FeatureFrame, FloatArray

AGE = responsive_names().index(AGE_NAME)


def noise(duration_s: float, level: float = 0.1) -> FloatArray:
    samples = np.random.default_rng(0).normal(size=round(duration_s * RATE_HZ))
    return (level * samples).astype(np.float32)


def chord(duration_s: float, root_hz: float = 220.0) -> FloatArray:
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    beat = 0.6 + 0.4 * np.sign(np.sin(2.0 * np.pi * 2.0 * time_s))
    tones = sum(np.sin(2.0 * np.pi * root_hz * ratio * time_s) for ratio in (1.0, 1.25, 1.5))
    return np.asarray(0.1 * beat * tones, dtype=np.float32)


def frames_of(samples: FloatArray) -> list[FeatureFrame]:
    return ResponsiveStage().step(samples)


@pytest.mark.slow
@pytest.mark.parametrize("rate_hz", [2.0, 20.0])
def test_the_stage_keeps_the_contract_to_the_bit(rate_hz: float) -> None:
    samples = np.concatenate([chord(2.0), noise(1.6)])
    chunks = (441, 44_100, 1, 7_919, 20_011)
    verify_contract(lambda: ResponsiveStage(rate_hz), samples, chunks=chunks, one_by_one=False)


@pytest.mark.parametrize("rate_hz", [4.0, 10.0, 20.0])
def test_at_every_rate_the_frames_at_half_seconds_are_those_of_two_a_second(rate_hz: float) -> None:
    samples = np.concatenate([chord(3.0), noise(1.72)])
    frames, per_hop = ResponsiveStage(rate_hz).step(samples), round(rate_hz / 2.0)
    assert [frame.index for frame in frames] == list(range(int(3.72 * rate_hz) + 1))
    assert [frame.end_s for frame in frames] == pytest.approx([1.0 + k / rate_hz for k in range(len(frames))])
    for frame, expected in zip(frames[::per_hop], frames_of(samples), strict=True):
        assert (frame.end_s, frame.start_s, frame.change) == (expected.end_s, expected.start_s, expected.change)
        assert np.array_equal(frame.values, expected.values)
    between = frames[per_hop + 1]
    assert between.values[AGE] == pytest.approx(between.end_s)
    assert not np.array_equal(between.values, frames[per_hop].values)


def test_a_frame_between_half_seconds_describes_at_most_ten_seconds() -> None:
    frames = ResponsiveStage(10.0).step(chord(10.8))
    assert [frame.values[AGE] for frame in frames[-9:]] == pytest.approx([10.0] * 9)


@pytest.mark.parametrize("rate_hz", [0.5, 3.0, 5.0, 40.0])
def test_other_rates_are_refused(rate_hz: float) -> None:
    with pytest.raises(ValueError, match="2, 4, 10 or 20"):
        ResponsiveStage(rate_hz)


def test_until_a_change_a_frame_describes_all_of_the_music() -> None:
    samples = chord(1.5)
    spectra, peaks_db = short_spectra(samples, LOW_FLOOR), tone_peaks(samples)
    # The stage computes its rows in groups, in which float32 sums may come out differently.
    assert frames_of(samples)[1].values == pytest.approx(describe_last(spectra, peaks_db, 30), rel=1e-4, abs=1e-4)


def test_after_a_change_the_music_before_it_is_forgotten_and_the_change_reported_once() -> None:
    frames = frames_of(np.concatenate([chord(6.0), noise(3.0)]))
    reported = [frame.end_s for frame in frames if frame.change > 0.0]
    assert len(reported) == 1
    assert 6.5 <= reported[0] <= 7.5
    after = next(frame for frame in frames if frame.end_s == 7.5)
    assert after.values[AGE] < 2.0
    assert frames[9].values[AGE] > 4.0


def test_a_constant_gain_changes_nothing() -> None:
    samples = np.concatenate([chord(2.0), noise(1.0)])
    loud, quiet = frames_of(samples), frames_of(samples * np.float32(0.0625))
    for one, other in zip(loud, quiet, strict=True):
        assert one.values == pytest.approx(other.values, abs=2e-3)


def test_silence_gives_finite_values() -> None:
    frames = frames_of(np.zeros(3 * RATE_HZ, dtype=np.float32))
    assert all(np.isfinite(frame.values).all() for frame in frames)


def test_novelty_of_too_little_music_is_zero() -> None:
    spectra, peaks_db = short_spectra(chord(1.0)), tone_peaks(chord(1.0))
    values = novelty(blocks_of(spectra.mel_db[6:], spectra.contrast_db[6:], peaks_db))
    assert values.shape == (N_NOVELTY,)
    assert not values[N_NOVELTY // 2 :].any()


def test_start_points_share_all_weight_and_stay_few() -> None:
    starts = StartPoints(memory_hops=20)
    rng = np.random.default_rng(0)
    for end_hop in range(2, 100):
        points = starts.step(end_hop, float(rng.normal(-2.0, 3.0)))
        assert sum(p.weight for p in points) == pytest.approx(1.0)
        assert 1 <= len(points) <= N_START_POINTS
        assert all(2 <= end_hop - p.hop <= 20 for p in points)


def test_a_sure_change_leaves_only_its_own_start() -> None:
    starts = StartPoints(memory_hops=20)
    starts.step(10, -math.inf)
    assert [p.hop for p in starts.step(11, 20.0)] == [9]


def test_reports_keep_their_distance() -> None:
    reports = ChangeReports()
    assert [reports.step(0.5 * k, 5.0) > 0.0 for k in range(7)] == [True, False, False, False, False, True, False]
    assert ChangeReports().step(3.0, -1.0) == 0.0


def test_the_detector_is_a_mean_of_its_members() -> None:
    detector = ChangeDetector(
        {
            "offset": np.zeros(N_NOVELTY, dtype=np.float32),
            "spread": np.ones(N_NOVELTY, dtype=np.float32),
            "hidden_weight": np.zeros((2, N_NOVELTY, 1), dtype=np.float32),
            "hidden_bias": np.array([[1.0], [2.0]], dtype=np.float32),
            "weight": np.ones((2, 1), dtype=np.float32),
            "bias": np.array([0.0, 1.0], dtype=np.float32),
        }
    )
    assert detector.logit(np.zeros(N_NOVELTY, dtype=np.float32)) == pytest.approx(2.0)
