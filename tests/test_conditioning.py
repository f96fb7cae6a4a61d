"""The mono mix and the resampler: contract, alignment, fidelity, and invalid samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import soxr
from contract import verify_contract
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from realtime_mer.features.conditioning import MonoMix, Resampler
from realtime_mer.sources.grid import LARGEST_SAMPLE, with_numbers_only
from realtime_mer.types import FloatArray

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 48_000, 96_000, 192_000)
ANY_FLOAT32 = st.floats(width=32, allow_nan=True, allow_infinity=True)


def noise(*shape: int) -> FloatArray:
    return np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)


def resampled(samples: FloatArray, rate_in_hz: int, rate_out_hz: int = 44_100) -> FloatArray:
    resampler = Resampler(rate_in_hz, rate_out_hz)
    return np.concatenate([resampler.step(samples), resampler.flush()])


# --- the mono mix


@pytest.mark.parametrize("n_channels", [1, 2, 6, 9])
def test_mono_mix_keeps_the_contract(n_channels: int) -> None:
    verify_contract(lambda: MonoMix(48_000), noise(13_000, n_channels), stateful=False)


def test_mono_is_the_mean_of_the_channels() -> None:
    stereo = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, -1.0], [-0.5, -0.25]], dtype=np.float32)
    np.testing.assert_array_equal(MonoMix(48_000).step(stereo), np.array([1.0, 0.5, 0.0, -0.375], dtype=np.float32))
    surround = noise(1_000, 6)
    exact = surround.astype(np.float64).mean(axis=1)
    np.testing.assert_array_max_ulp(MonoMix(48_000).step(surround), exact.astype(np.float32), maxulp=1)


def test_one_channel_passes_bit_for_bit() -> None:
    for shaped in (noise(50), noise(50, 1)):
        assert MonoMix(44_100).step(shaped).tobytes() == shaped.tobytes()


def test_the_memory_layout_does_not_matter() -> None:
    samples = noise(500, 12)
    np.testing.assert_array_equal(MonoMix(48_000).step(np.asfortranarray(samples)), MonoMix(48_000).step(samples))


@given(arrays.arrays(np.float32, (20, 2), elements=ANY_FLOAT32))
def test_any_samples_give_finite_ones(samples: FloatArray) -> None:
    mix = MonoMix(48_000)
    mono = mix.step(samples)
    assert np.isfinite(mono).all()
    assert np.abs(mono).max() <= LARGEST_SAMPLE
    numbers, n_replaced = with_numbers_only(samples)
    assert n_replaced == sum(not abs(sample) <= LARGEST_SAMPLE for sample in samples.flat)
    assert mix.step(numbers).tobytes() == mono.tobytes()


def test_a_bad_sample_is_silent_in_its_own_channel_only() -> None:
    samples = np.full((6, 2), 0.5, dtype=np.float32)
    samples[1:5, 0] = [np.nan, np.inf, -np.inf, 1e30]
    mix = MonoMix(48_000)
    np.testing.assert_array_equal(mix.step(samples), np.array([0.5, 0.25, 0.25, 0.25, 0.25, 0.5], dtype=np.float32))
    assert np.isnan(samples[1, 0]), "the source's own samples are left as they were"


@pytest.mark.parametrize(
    "samples",
    [np.zeros((4, 0), np.float32), np.zeros((4, 2, 1), np.float32), np.zeros((4, 2)), np.zeros((4, 2), np.int16)],
)
def test_mono_mix_refuses_arrays_that_are_not_audio(samples: npt.NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="Audio"):
        MonoMix(48_000).step(samples)


# --- the resampler


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_resampler_keeps_the_contract(rate_hz: int) -> None:
    """To the bit: soxr's output does not depend on how the input was cut, although it works in blocks of its own."""
    verify_contract(lambda: Resampler(rate_hz), noise(13_000))


def test_equal_rates_pass_bit_for_bit() -> None:
    verify_contract(lambda: Resampler(44_100), noise(13_000), stateful=False)
    assert resampled(noise(50), 44_100).tobytes() == noise(50).tobytes()
    assert Resampler(44_100).latency_s == 0.0


@given(st.sampled_from(RATES_HZ), st.integers(0, 5_000))
@example(48_000, 400)
@example(48_000, 1_200)
def test_a_stream_keeps_its_duration(rate_hz: int, n_samples: int) -> None:
    """To the nearest sample. soxr divides by the ratio as a double, so exact halves (367.5, 1102.5) go either way."""
    silence = np.zeros(n_samples, dtype=np.float32)
    expected = int(n_samples / (rate_hz / 44_100) + 0.5)
    assert len(resampled(silence, rate_hz)) == expected
    assert len(soxr.resample(silence, rate_hz, 44_100, quality="HQ")) == expected


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_click_keeps_its_time(rate_hz: int) -> None:
    """No delay is left in the output, and none of it lies outside of the declared receptive field."""
    click = np.zeros(rate_hz, dtype=np.float32)
    click[rate_hz // 2] = 1.0
    response = np.abs(resampled(click, rate_hz))
    times_s = np.arange(len(response)) / 44_100 - (rate_hz // 2) / rate_hz
    assert abs(times_s[np.argmax(response)]) <= 0.5 / 44_100 + 1e-9
    reached_s = np.abs(times_s[response > 1e-6 * response.max()]).max()
    reach_s = Resampler(rate_hz).receptive_field_s / 2.0
    assert 0.8 * reach_s < reached_s <= reach_s


@pytest.mark.parametrize(
    ("rate_hz", "tone_hz", "allowed"),
    [(16_000, 1_000.0, 1e-5), (48_000, 1_000.0, 1e-5), (48_000, 18_000.0, 2e-4), (96_000, 18_000.0, 2e-4)],
)
def test_a_tone_keeps_its_pitch_amplitude_and_phase(rate_hz: int, tone_hz: float, allowed: float) -> None:
    def tone(rate: int) -> npt.NDArray[np.float64]:
        return np.asarray(0.5 * np.sin(2.0 * np.pi * tone_hz * np.arange(rate) / rate))

    middle = slice(10_000, 34_000)
    found = resampled(tone(rate_hz).astype(np.float32), rate_hz)
    np.testing.assert_allclose(found[middle], tone(44_100)[middle], rtol=0.0, atol=allowed)


def test_tones_above_22_05_khz_are_removed() -> None:
    """23 kHz would fold down to 21.1 kHz; -100 dB is below what 16 bits hold."""
    tone = np.sin(2.0 * np.pi * 23_000.0 * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(resampled(tone, 48_000)[10_000:34_000]).max() < 1e-5


@pytest.mark.parametrize("rate_hz", [8_000, 48_000, 96_000])
def test_the_declared_latency_is_the_longest_wait(rate_hz: int) -> None:
    resampler = Resampler(rate_hz)
    received, waits_s = 0, []
    for sent in range(1, rate_hz + 1):
        received += len(resampler.step(np.zeros(1, dtype=np.float32)))
        waits_s.append(sent / rate_hz - received / 44_100)
    assert 0.95 * resampler.latency_s - 0.001 <= max(waits_s) <= resampler.latency_s


def test_an_ended_stream_refuses_samples() -> None:
    for resampler in (Resampler(48_000), Resampler(44_100)):
        resampler.step(noise(100))
        resampler.flush()
        assert len(resampler.flush()) == 0
        with pytest.raises(ValueError, match="new Resampler"):
            resampler.step(noise(100))


@pytest.mark.parametrize(("rate_in_hz", "rate_out_hz"), [(0, 44_100), (-48_000, 44_100), (48_000, 0)])
def test_impossible_rates_are_refused(rate_in_hz: int, rate_out_hz: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Resampler(rate_in_hz, rate_out_hz)


@pytest.mark.parametrize("samples", [np.zeros((4, 1), np.float32), np.zeros(4), np.zeros(4, np.int16)])
def test_resampler_takes_one_channel_of_float32(samples: npt.NDArray[np.float32]) -> None:
    for rate_hz in (48_000, 44_100):
        with pytest.raises(ValueError, match="one channel of float32"):
            Resampler(rate_hz).step(samples)
