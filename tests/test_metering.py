"""The meter: known levels, states, silence, and the same results however the sound is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.config import LevelMeterSettings
from realtime_mer.live.metering import LOWEST_DB, LevelMeter
from realtime_mer.types import FloatArray
from realtime_mer.updates import InputLevel, LevelState

SETTINGS = LevelMeterSettings()
RATE_HZ = 8_000


def tone(duration_s: float, rms_db: float, n_channels: int = 1, rate_hz: int = RATE_HZ) -> FloatArray:
    """A sine of 200 Hz with this RMS, the same in all channels."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    samples = np.sqrt(2.0) * 10.0 ** (rms_db / 20.0) * np.sin(2.0 * np.pi * 200.0 * time_s)
    return np.repeat(samples[:, np.newaxis], n_channels, axis=1).astype(np.float32)


def level_of(samples: FloatArray, rate_hz: int = RATE_HZ) -> InputLevel:
    meter = LevelMeter(SETTINGS, rate_hz)
    meter.step(samples)
    level = meter.level()
    assert level is not None
    return level


def test_a_sine_of_known_level() -> None:
    level = level_of(tone(1.0, -20.0, n_channels=2))
    assert level.rms_db == pytest.approx(-20.0, abs=0.01)
    assert level.peak_db == pytest.approx(-20.0 + 3.01, abs=0.1)
    assert level.state is LevelState.MUSIC


def test_the_peak_is_of_the_loudest_channel_and_the_rms_of_their_mean() -> None:
    one_sided = np.concatenate([tone(1.0, -20.0), np.zeros((RATE_HZ, 1), dtype=np.float32)], axis=1)
    assert level_of(one_sided).rms_db == pytest.approx(-26.02, abs=0.01)
    assert level_of(one_sided).peak_db == pytest.approx(-16.99, abs=0.1)
    antiphase = np.concatenate([tone(1.0, -20.0), -tone(1.0, -20.0)], axis=1)
    assert level_of(antiphase).state is LevelState.SILENCE


@pytest.mark.parametrize(
    ("rms_db", "state"),
    [(-30.0, LevelState.MUSIC), (-44.0, LevelState.MUSIC), (-46.0, LevelState.QUIET), (-61.0, LevelState.SILENCE)],
)
def test_states_by_level(rms_db: float, state: LevelState) -> None:
    assert level_of(tone(6.0, rms_db)).state is state


def test_digital_silence_and_no_sound_yet() -> None:
    assert LevelMeter(SETTINGS, RATE_HZ).level() is None
    assert level_of(np.zeros((RATE_HZ, 2), dtype=np.float32)) == InputLevel(LOWEST_DB, LOWEST_DB, LevelState.SILENCE)


def test_a_pause_between_notes_and_a_soft_passage_are_music() -> None:
    for duration_s, rms_db in ((0.5, -90.0), (3.0, -50.0)):
        assert level_of(np.concatenate([tone(1.0, -20.0), tone(duration_s, rms_db)])).state is LevelState.MUSIC


def test_clipping_is_several_samples_at_full_scale_and_is_shown_for_two_seconds() -> None:
    for n_full, expected in ((1, LevelState.MUSIC), (3, LevelState.CLIPPING)):
        samples = tone(4.0, -20.0)
        samples[9_000 : 9_000 + n_full] = 1.0
        meter = LevelMeter(SETTINGS, RATE_HZ)
        states = []
        for second in np.split(samples, 4):
            meter.step(second)
            level = meter.level()
            assert level is not None
            states.append(level.state)
        assert states == [LevelState.MUSIC, expected, expected, LevelState.MUSIC]


def test_which_frames_are_silent() -> None:
    meter = LevelMeter(SETTINGS, RATE_HZ)
    meter.step(np.concatenate([tone(2.0, -20.0), tone(2.0, -90.0), tone(0.3, -20.0)]))
    silent = [meter.is_silent(start_s, start_s + 1.0) for start_s in np.arange(0.0, 4.0, 0.5)]
    assert silent == [False, False, False, False, True, True, True, False]


def test_silence_is_found_in_its_place_after_a_long_time() -> None:
    """A tenth of a second is not a whole number of samples: the differences must not add up."""
    rate_hz = 22_051
    meter = LevelMeter(SETTINGS, rate_hz)
    minute = tone(60.0, -20.0, rate_hz=rate_hz)
    for _ in range(20):
        meter.step(minute)
    meter.step(np.zeros((2 * rate_hz, 1), dtype=np.float32))
    meter.step(tone(1.0, -20.0, rate_hz=rate_hz))
    silent = [meter.is_silent(start_s, start_s + 1.0) for start_s in (1_199.0, 1_199.5, 1_200.0, 1_201.0, 1_201.5)]
    assert silent == [False, False, True, True, False]


@given(cuts=st.lists(st.integers(0, 16_000), max_size=10))
def test_the_cuts_have_no_effect(cuts: list[int]) -> None:
    samples = np.concatenate([tone(1.0, -20.0, 2), tone(1.0, -50.0, 2)])
    whole, cut = LevelMeter(SETTINGS, RATE_HZ), LevelMeter(SETTINGS, RATE_HZ)
    whole.step(samples)
    for part in np.split(samples, sorted(cuts)):
        cut.step(part)
    assert whole.level() == cut.level()
    for start_s in (0.0, 0.5, 1.0):
        assert whole.is_silent(start_s, start_s + 0.5) == cut.is_silent(start_s, start_s + 0.5)
