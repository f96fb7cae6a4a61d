"""The meter: levels that are known beforehand, states, silence, and no dependence on how the sound is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.config import LevelMeterSettings
from realtime_mer.live.metering import LOWEST_DB, LevelMeter, to_db
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


def test_decibels() -> None:
    assert to_db(1.0) == 0.0
    assert to_db(0.5) == pytest.approx(-6.0206, abs=1e-4)
    assert to_db(0.0) == LOWEST_DB
    assert to_db(1e-30) == LOWEST_DB


def test_a_sine_of_known_level() -> None:
    level = level_of(tone(1.0, -20.0, n_channels=2))
    assert level.rms_db == pytest.approx(-20.0, abs=0.01)
    assert level.peak_db == pytest.approx(-20.0 + 3.01, abs=0.1)
    assert level.state is LevelState.MUSIC


def test_the_peak_is_the_loudest_channels_and_the_rms_what_the_model_hears() -> None:
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


def test_digital_silence_and_nothing_yet() -> None:
    assert LevelMeter(SETTINGS, RATE_HZ).level() is None
    assert level_of(np.zeros((RATE_HZ, 2), dtype=np.float32)) == InputLevel(LOWEST_DB, LOWEST_DB, LevelState.SILENCE)


def test_a_pause_between_two_notes_is_no_silence_and_a_soft_passage_is_not_too_quiet() -> None:
    pause = np.concatenate([tone(1.0, -20.0), tone(0.5, -90.0)])
    assert level_of(pause).state is LevelState.MUSIC
    soft = np.concatenate([tone(1.0, -20.0), tone(3.0, -50.0)])
    assert level_of(soft).state is LevelState.MUSIC


def test_clipping_is_a_run_at_full_scale_and_is_shown_for_two_seconds() -> None:
    music = tone(4.0, -20.0)
    touched, clipped = music.copy(), music.copy()
    touched[9_000] = 1.0
    clipped[9_000:9_003] = 1.0
    meters = [LevelMeter(SETTINGS, RATE_HZ) for _ in range(2)]
    states: list[list[LevelState]] = [[], []]
    for start in range(0, len(music), RATE_HZ):
        for meter, samples, seen in zip(meters, (touched, clipped), states, strict=True):
            meter.step(samples[start : start + RATE_HZ])
            level = meter.level()
            assert level is not None
            seen.append(level.state)
    assert states[0] == [LevelState.MUSIC] * 4, "one sample at full scale is mastering"
    assert states[1] == [LevelState.MUSIC, LevelState.CLIPPING, LevelState.CLIPPING, LevelState.MUSIC]


def test_which_frames_are_silent() -> None:
    meter = LevelMeter(SETTINGS, RATE_HZ)
    meter.step(np.concatenate([tone(2.0, -20.0), tone(2.0, -90.0), tone(0.3, -20.0)]))
    silent = [meter.is_silent(start_s, start_s + 1.0) for start_s in np.arange(0.0, 4.0, 0.5)]
    assert silent == [False, False, False, False, True, True, True, False]


@pytest.mark.parametrize("rate_hz", [11_025, 44_100, 22_051])
def test_silence_is_found_in_its_place_after_hours_whatever_the_rate(rate_hz: int) -> None:
    """Tenths of a second that are not whole numbers of samples must not add up."""
    meter = LevelMeter(SETTINGS, rate_hz)
    minute = tone(60.0, -20.0, rate_hz=rate_hz)
    for _ in range(20):
        meter.step(minute)
    meter.step(np.zeros((2 * rate_hz, 1), dtype=np.float32))
    meter.step(tone(1.0, -20.0, rate_hz=rate_hz))
    assert not meter.is_silent(1_199.0, 1_200.0)
    assert not meter.is_silent(1_199.5, 1_200.5)
    assert meter.is_silent(1_200.0, 1_201.0)
    assert meter.is_silent(1_201.0, 1_202.0)
    assert not meter.is_silent(1_201.5, 1_202.5)


@given(cuts=st.lists(st.integers(0, 16_000), max_size=10))
def test_cutting_changes_nothing(cuts: list[int]) -> None:
    samples = np.concatenate([tone(1.0, -20.0, 2), tone(1.0, -50.0, 2)])
    whole, cut = LevelMeter(SETTINGS, RATE_HZ), LevelMeter(SETTINGS, RATE_HZ)
    whole.step(samples)
    for part in np.split(samples, sorted(cuts)):
        cut.step(part)
    assert whole.level() == cut.level()
    assert [whole.is_silent(s, s + 0.5) for s in (0.0, 0.5, 1.0)] == [
        cut.is_silent(s, s + 0.5) for s in (0.0, 0.5, 1.0)
    ]
