"""The gain stage: any input gain gives the same output, at the target from the first hop on, and dynamics stay."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import numpy.typing as npt
import pytest
from contract import verify_contract
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from realtime_mer.features.gain import GainSettings, GainStage
from realtime_mer.sources.grid import LARGEST_SAMPLE
from realtime_mer.types import FloatArray

RATE_HZ = 44_100
# The stage knows its rate by its hops of 10 ms only: at this one, minutes of sound are cheap.
LOW_RATE_HZ = 800
HOP_S = 0.01
TARGET_DB = GainSettings().target_db
HEADROOM_DB = GainSettings().headroom_db


def swelling(duration_s: float = 1.0, rate_hz: int = RATE_HZ, seed: int = 0) -> FloatArray:
    """Noise whose level moves between -34 and -10 dBFS, three times a second."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    level_db = -22.0 - 12.0 * np.cos(2.0 * np.pi * 3.0 * time_s)
    noise = np.random.default_rng(seed).uniform(-1.0, 1.0, len(time_s)) * math.sqrt(3.0)
    return (10.0 ** (level_db / 20.0) * noise).astype(np.float32)


def steps(*parts: tuple[float, float]) -> FloatArray:
    """A square wave at LOW_RATE_HZ that has each level (dBFS) for so many seconds: every hop of one has one RMS."""
    level_db = np.concatenate([np.full(round(duration_s * LOW_RATE_HZ), level) for level, duration_s in parts])
    sign = np.where(np.arange(len(level_db)) % 2, -1.0, 1.0)
    return (sign * 10.0 ** (level_db / 20.0)).astype(np.float32)


def levelled(samples: FloatArray, settings: GainSettings | None = None, rate_hz: int = RATE_HZ) -> FloatArray:
    stage = GainStage(settings or GainSettings(), rate_hz)
    return np.concatenate([stage.step(samples), stage.flush()])


def level_db(samples: FloatArray) -> float:
    return float(10.0 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


def hop_levels_db(samples: FloatArray, rate_hz: int = LOW_RATE_HZ) -> npt.NDArray[np.float64]:
    hops = samples.reshape(-1, rate_hz // 100).astype(np.float64)
    return np.asarray(10.0 * np.log10(np.mean(np.square(hops), axis=1)))


# --- the contract


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 16_000])
def test_gain_stage_keeps_the_contract(rate_hz: int) -> None:
    verify_contract(lambda: GainStage(GainSettings(), rate_hz), swelling(14_003 / rate_hz, rate_hz))


def test_every_sample_is_returned_once() -> None:
    stage = GainStage(GainSettings(), RATE_HZ)
    ready, rest = stage.step(swelling()[:1_999]), stage.flush()
    # The last, incomplete hop waits: the latency.
    assert (len(ready), len(rest)) == (1_999 // 441 * 441, 1_999 % 441)
    assert len(stage.flush()) == 0


# --- invariance to gain


@given(gain=st.floats(0.02, 100.0), seed=st.integers(0, 99))
@example(gain=0.1, seed=0)
@example(gain=100.0, seed=0)
def test_any_input_gain_gives_the_same_output(gain: float, seed: int) -> None:
    """Within the rounding of the scaled samples to float32. The quietest hop stays above the gate."""
    samples = swelling(seed=seed)
    scaled = (gain * samples.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(levelled(scaled), levelled(samples), rtol=3e-7, atol=0.0)
    power_of_two = np.float32(2.0 ** math.ceil(math.log2(gain)))
    np.testing.assert_array_equal(levelled(power_of_two * samples), levelled(samples))


def test_below_the_gate_and_beyond_the_limits_the_input_gain_matters() -> None:
    quiet = steps((-20.0, 1.0), (-45.0, 1.0), (-20.0, 1.0))
    assert not np.allclose(levelled(0.03 * quiet, rate_hz=LOW_RATE_HZ), levelled(quiet, rate_hz=LOW_RATE_HZ), rtol=1e-3)
    low = GainSettings(max_gain_db=6.0)
    assert level_db(levelled(swelling(), low)) - level_db(levelled(0.1 * swelling(), low)) > 5.0


# --- at the target


@given(input_db=st.floats(-69.9, 5.9), target_db=st.just(TARGET_DB) | st.floats(-40.0, 0.0))
def test_the_target_is_reached_from_the_first_hop_on(input_db: float, target_db: float) -> None:
    settings = GainSettings(target_db=target_db, max_gain_db=100.0)
    out = hop_levels_db(levelled(steps((input_db, 0.5)), settings, LOW_RATE_HZ))
    np.testing.assert_allclose(out, target_db, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize(("after_s", "kept_db", "kept_at_its_end_db"), [(5, 10.3, 9.4), (30, 11.4, 11.0)])
def test_a_quiet_passage_stays_quiet(after_s: float, kept_db: float, kept_at_its_end_db: float) -> None:
    """12 dB quieter for 5 s: after 5 s of song 10.4 dB of them are left in the mean and 9.5 in the last second."""
    out = levelled(steps((-18.0, after_s), (-30.0, 5.0)), rate_hz=LOW_RATE_HZ)
    loud, quiet = np.split(out, [round(after_s * LOW_RATE_HZ)])
    before_db = level_db(loud[-LOW_RATE_HZ:])
    assert kept_db <= before_db - level_db(quiet) <= 12.0
    assert kept_at_its_end_db <= before_db - level_db(quiet[-LOW_RATE_HZ:]) <= 12.0


@pytest.mark.parametrize(("change_db", "arrives_s"), [(-20.0, 120), (-6.0, 51), (6.0, 28), (20.0, 32)])
def test_after_a_lasting_change_the_target_is_reached_again(change_db: float, arrives_s: float) -> None:
    """Within 1 dB, and for good. The level is a mean of squares: what was loud is forgotten more slowly than what was
    quiet, 20 s · ln((10^(change/10) - 1) / 0.26) for a fall."""
    out = levelled(steps((-30.0, 60.0), (-30.0 + change_db, 150.0)), rate_hz=LOW_RATE_HZ)
    away = np.abs(hop_levels_db(out)[6000:] - TARGET_DB) > 1.0
    assert away[0]
    assert (np.flatnonzero(away)[-1] + 1) * HOP_S <= arrives_s


@pytest.mark.parametrize("entry_db", [15.0, 40.0])
def test_a_sudden_loud_entry_is_held_to_the_headroom(entry_db: float) -> None:
    """As the momentary level rises over 0.4 s: to within 2 dB of the headroom after 0.4 s, .4 dB after 1 s."""
    signal = steps((-60.0, 20.0), (-60.0 + entry_db, 3.0))
    entry = hop_levels_db(levelled(signal, rate_hz=LOW_RATE_HZ))[2000:] - TARGET_DB
    risen = 1.0 - np.exp(-HOP_S * np.arange(1, len(entry) + 1) / GainSettings().momentary_s)
    # Within a hop the gain still moves from its value in the hop before.
    assert (entry[1:] <= HEADROOM_DB - 10.0 * np.log10(risen[:-1]) + 0.05).all()
    assert entry[40:].max() <= HEADROOM_DB + 2.0
    assert entry[100:].max() <= HEADROOM_DB + 0.4
    free = GainSettings(headroom_db=60.0)
    unheld = hop_levels_db(levelled(signal, free, LOW_RATE_HZ))[2000:] - TARGET_DB
    assert unheld[100] > entry[100] + 0.5, "without a headroom the entry is louder"


def test_a_swell_within_the_headroom_is_left_alone() -> None:
    signal = steps((-30.0, 20.0), (-22.5, 2.0))
    held, free = (levelled(signal, GainSettings(headroom_db=db), LOW_RATE_HZ) for db in (HEADROOM_DB, 60.0))
    np.testing.assert_array_equal(held, free)


def test_the_gain_moves_without_a_click() -> None:
    """Within a hop it goes straight from the old gain to the new one."""
    samples = swelling(2.0)
    gain = (levelled(samples).astype(np.float64) / samples)[np.abs(samples) > 1e-3]
    assert np.abs(np.diff(np.log(gain))).max() < 0.01
    assert gain.max() > 1.2 * gain.min()


# --- silence and invalid samples


@pytest.mark.parametrize("pause_db", [-math.inf, -75.0])
def test_silence_holds_the_gain(pause_db: float) -> None:
    stage = GainStage(GainSettings(), LOW_RATE_HZ)
    stage.step(swelling(5.0, LOW_RATE_HZ))
    before_db = stage.gain_db
    pause = steps((-75.0, 60.0)) if math.isfinite(pause_db) else np.zeros(60 * LOW_RATE_HZ, dtype=np.float32)
    out = stage.step(pause)
    assert stage.gain_db == before_db
    np.testing.assert_allclose(out, pause * 10.0 ** (before_db / 20.0), rtol=1e-6)


def test_music_after_a_pause_sounds_as_without_the_pause() -> None:
    music = swelling(6.0, LOW_RATE_HZ)
    first, second = np.split(music, 2)
    pause = np.zeros(30 * LOW_RATE_HZ, dtype=np.float32)
    with_pause = levelled(np.concatenate([first, pause, second]), rate_hz=LOW_RATE_HZ)
    np.testing.assert_array_equal(with_pause[-len(second) :], levelled(music, rate_hz=LOW_RATE_HZ)[-len(second) :])


def test_before_any_music_nothing_is_amplified() -> None:
    hiss = steps((-75.0, 3.0))
    stage = GainStage(GainSettings(), LOW_RATE_HZ)
    np.testing.assert_array_equal(stage.step(hiss), hiss)
    assert stage.gain_db == 0.0
    # The hiss was not taken for music: the first hop of music is at the target.
    np.testing.assert_allclose(hop_levels_db(stage.step(steps((-40.0, 0.1)))), TARGET_DB, atol=1e-4)


@pytest.mark.parametrize(("input_db", "gain_db"), [(-65.0, 20.0), (-41.0, 20.0), (-39.0, 19.0), (3.0, -20.0)])
def test_the_gain_is_limited(input_db: float, gain_db: float) -> None:
    stage = GainStage(GainSettings(max_gain_db=20.0), LOW_RATE_HZ)
    stage.step(steps((input_db, 1.0)))
    assert stage.gain_db == pytest.approx(gain_db, abs=1e-4)


@pytest.mark.parametrize("played_s", [20.0, 60.0])
def test_one_hop_of_invalid_samples_is_forgotten_at_once(played_s: float) -> None:
    invalid = np.full(LOW_RATE_HZ // 100, LARGEST_SAMPLE, dtype=np.float32)
    signal = np.concatenate([steps((-20.0, played_s)), invalid, steps((-20.0, 2.0))])
    after = hop_levels_db(levelled(signal, rate_hz=LOW_RATE_HZ))[round(played_s / HOP_S) + 1 :]
    assert np.abs(after[100:] - TARGET_DB).max() < 1.0


@given(arrays.arrays(np.float32, st.integers(0, 60), elements=st.floats(-LARGEST_SAMPLE, LARGEST_SAMPLE, width=32)))
@example(np.repeat(np.array([1e-38, LARGEST_SAMPLE, 0.0, 1e-45], dtype=np.float32), 50))
def test_the_output_of_any_samples_is_finite(samples: FloatArray) -> None:
    """In hops of eight samples, so that a few samples are many hops."""
    out = levelled(samples, rate_hz=LOW_RATE_HZ)
    assert np.isfinite(out).all()
    assert out.shape == samples.shape


# --- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((field.name, math.nan) for field in fields(GainSettings)),
        *((name, 0.0) for name in ("memory_s", "momentary_s", "max_gain_db")),
        ("target_db", math.inf),
        ("gate_db", -4000.0),
    ],
)
def test_impossible_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        GainStage(GainSettings(**{name: value}), LOW_RATE_HZ).step(np.zeros(100, dtype=np.float32))
