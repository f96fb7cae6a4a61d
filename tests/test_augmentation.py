"""Altered copies of songs: their filters, their speed, their times; and a sound card at another gain."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.features.conditioning import Resampler
from realtime_mer.features.engine import ENGINE_RATE_HZ, opensmile_names
from realtime_mer.features.extraction import ExtractionSettings, extract_file
from realtime_mer.sources.reading import AudioFileError
from realtime_mer.types import FloatArray
from train import augmentation
from train.augmentation import (
    Alteration,
    AlteredExtraction,
    GainExtraction,
    alteration,
    altered_audio,
    describe_alterations,
    extract_altered,
    extract_at_gain,
    shelf,
)

DEAM_ONLY = ExtractionSettings(level=None, descriptors=False)
# Changes nothing.
UNALTERED = Alteration(1.0, 0.0, 0.0, 100.0, 0.0, 4_000.0, 0.0)


def noise(duration_s: float, n_channels: int = 1, level: float = 0.1) -> FloatArray:
    shape = (round(duration_s * ENGINE_RATE_HZ), n_channels)
    return (level * np.random.default_rng(0).normal(size=shape)).astype(np.float32)


def written(
    folder: Path, samples: npt.NDArray[np.floating], name: str = "7.wav", rate_hz: int = ENGINE_RATE_HZ
) -> Path:
    soundfile.write(folder / name, samples, rate_hz, subtype="FLOAT")
    return folder / name


# --- the shelves


@given(frequency_hz=st.floats(80.0, 8_000.0), gain_db=st.floats(-4.0, 4.0), high=st.booleans())
def test_a_shelf_is_the_analog_one(frequency_hz: float, gain_db: float, high: bool) -> None:
    """H(s) = A (s² + √(A/Q²) s + A) / (A s² + √(A/Q²) s + 1) of the low shelf, Q = 1/√2, by the bilinear transform."""
    a = 10.0 ** (gain_db / 40.0)
    root = np.sqrt(2.0 * a)
    numerator, denominator = (a * np.array([1.0, root, a]), np.array([a, root, 1.0]))
    if high:
        numerator, denominator = (a * np.array([a, root, 1.0]), np.array([1.0, root, a]))
    warped = np.tan(np.pi * frequency_hz / ENGINE_RATE_HZ)
    b, c = scipy.signal.bilinear(numerator * [1.0, warped, warped**2], denominator * [1.0, warped, warped**2], fs=0.5)
    expected = np.concatenate([b, c])
    np.testing.assert_allclose(shelf(frequency_hz, gain_db, ENGINE_RATE_HZ, high=high)[0], expected, rtol=0, atol=1e-9)


# --- which alterations


def test_an_alteration_belongs_to_a_file_and_a_copy() -> None:
    first = alteration(Path("audio/1002.ogg"), 1)
    assert alteration(Path("elsewhere/1002.mp3"), 1) == first
    others = [alteration(Path("1002.ogg"), 2), alteration(Path("1003.ogg"), 1), alteration(Path("1003.ogg"), 2)]
    assert len({first, *others}) == 4
    # The same in every process, on every machine.
    assert (first.speed, first.start_s) == pytest.approx((0.9852095, 2.2524330), abs=1e-6)


def test_the_changes_are_independent() -> None:
    drawn = np.array([astuple(alteration(Path(f"{song_id}.ogg"), 1)) for song_id in range(400)])
    assert np.abs(np.corrcoef(drawn.T) - np.eye(7)).max() < 0.2


def test_the_description_has_settings_and_code() -> None:
    texts = [
        describe_alterations(AlteredExtraction(DEAM_ONLY, 1)),
        describe_alterations(AlteredExtraction(DEAM_ONLY, 2)),
        describe_alterations(AlteredExtraction(ExtractionSettings(), 1)),
        describe_alterations(GainExtraction(DEAM_ONLY, 1.0)),
        describe_alterations(GainExtraction(DEAM_ONLY, -1.0)),
    ]
    assert len(set(texts)) == 5
    code = Path(augmentation.__file__).read_text(encoding="utf-8")
    assert all(text.endswith(code) for text in texts)


# --- the altered audio


def test_an_unaltered_copy_is_the_file(tmp_path: Path) -> None:
    samples = noise(0.2, n_channels=2)
    altered, rate_hz = altered_audio(written(tmp_path, samples), UNALTERED)
    assert rate_hz == ENGINE_RATE_HZ
    np.testing.assert_allclose(altered, samples, rtol=0.0, atol=1e-7)
    assert altered.dtype == np.float32


@pytest.mark.parametrize("gain_db", [-20.0, 6.0])
def test_the_gain_clips_like_a_sound_card(tmp_path: Path, gain_db: float) -> None:
    samples = noise(0.2, level=0.3)
    altered, _ = altered_audio(written(tmp_path, samples), replace(UNALTERED, gain_db=gain_db))
    np.testing.assert_allclose(altered, np.clip(10.0 ** (gain_db / 20.0) * samples, -1.0, 1.0), rtol=0.0, atol=1e-6)
    assert (np.abs(altered).max() == 1.0) == (gain_db >= 6.0)


def test_the_start_is_skipped(tmp_path: Path) -> None:
    samples = noise(0.5)
    altered, _ = altered_audio(written(tmp_path, samples), replace(UNALTERED, start_s=0.2))
    np.testing.assert_allclose(altered, samples[8_820:], rtol=0.0, atol=1e-7)


def test_both_shelves_are_applied(tmp_path: Path) -> None:
    """For tones far below, between and far above the corners."""
    time_s = np.arange(ENGINE_RATE_HZ) / ENGINE_RATE_HZ
    tones_hz = (20.0, 800.0, 20_000.0)
    samples = sum(0.1 * np.sin(2.0 * np.pi * hz * time_s) for hz in tones_hz)
    change = replace(UNALTERED, low_shelf_hz=200.0, low_shelf_db=3.0, high_shelf_hz=3_000.0, high_shelf_db=-4.0)
    altered, _ = altered_audio(written(tmp_path, np.asarray(samples)), change)
    spectrum = 2.0 * np.abs(np.fft.rfft(altered[-22_050:, 0])) / 22_050
    levels_db = [20.0 * np.log10(spectrum[round(hz / 2.0)] / 0.1) for hz in tones_hz]
    np.testing.assert_allclose(levels_db, [3.0, 0.0, -4.0], rtol=0.0, atol=0.2)


@pytest.mark.parametrize(("speed", "rate_hz"), [(0.93, 44_100), (1.07, 48_000)])
def test_speed_moves_tempo_and_pitch_together(tmp_path: Path, speed: float, rate_hz: int) -> None:
    time_s = np.arange(2 * rate_hz) / rate_hz
    path = written(tmp_path, 0.1 * np.sin(2.0 * np.pi * 440.0 * time_s), rate_hz=rate_hz)
    altered, played_at_hz = altered_audio(path, replace(UNALTERED, speed=speed))
    resampler = Resampler(played_at_hz)
    played = np.concatenate([resampler.step(altered[:, 0]), resampler.flush()])
    assert len(played) / ENGINE_RATE_HZ == pytest.approx(2.0 / speed, abs=1e-3)
    spectrum = np.abs(np.fft.rfft(played * np.hanning(len(played)), 1 << 19))
    assert spectrum.argmax() * ENGINE_RATE_HZ / (1 << 19) == pytest.approx(440.0 * speed, abs=0.1)


def test_a_file_at_a_low_rate_is_altered_too(tmp_path: Path) -> None:
    """The shelf's corner is above half the rate: the level stays within some decibels of the original's."""
    samples = noise(1.0)
    path = written(tmp_path, samples, rate_hz=8_000)
    altered, _ = altered_audio(path, replace(UNALTERED, high_shelf_hz=6_000.0, high_shelf_db=-4.0))
    assert np.isfinite(altered).all()
    assert abs(20.0 * np.log10(altered.std() / samples.std())) < 5.0


def test_unusable_audio_is_named(tmp_path: Path) -> None:
    start_s = alteration(Path("9.wav"), 1).start_s
    (tmp_path / "7.wav").write_bytes(b"no audio")
    with pytest.raises(AudioFileError, match=r"7\.wav cannot be read as audio"):
        extract_altered(tmp_path / "7.wav", AlteredExtraction(DEAM_ONLY, 1))
    for duration_s in (0.0, start_s - 0.1, start_s + 0.5):
        path = written(tmp_path, noise(duration_s), "9.wav")
        with pytest.raises(AudioFileError, match=r"9\.wav is too short"):
            extract_altered(path, AlteredExtraction(DEAM_ONLY, 1))


# --- features


@pytest.mark.parametrize("copy", [1, 2])
def test_frames_keep_the_songs_own_time(tmp_path: Path, copy: int) -> None:
    """A song that is silent until 4.0 s: frames that end before are silent, and those that end after are not."""
    samples = noise(7.0)
    samples[: 4 * ENGINE_RATE_HZ] = 0.0
    path = written(tmp_path, samples)
    altered = alteration(path, copy)
    assert abs(altered.speed - 1.0) > 0.01, "the speed differs"
    starts_s, values = extract_altered(path, AlteredExtraction(DEAM_ONLY, copy))
    np.testing.assert_allclose(np.diff(starts_s), 0.5 * altered.speed, rtol=0.0, atol=1e-9)
    ends_s = starts_s + 1.0
    assert ends_s[0] == pytest.approx(altered.start_s + altered.speed, abs=1e-9)
    assert ends_s[-1] <= 7.0
    loud = values[:, opensmile_names().index("pcm_RMSenergy_sma_amean")] > 1e-5
    # openSMILE's windows of 60 ms, smoothed over three, look a little past a frame's end.
    assert not loud[ends_s < 4.0 - 0.1].any()
    assert loud[ends_s > 4.0].all()
    assert loud.any()
    assert not loud.all()


def test_an_altered_copy_is_the_altered_audio_extracted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change = replace(UNALTERED, gain_db=-6.0, start_s=0.25)
    monkeypatch.setattr(augmentation, "alteration", lambda path, copy: change)
    samples = noise(2.0)
    starts_s, values = extract_altered(written(tmp_path, samples), AlteredExtraction(DEAM_ONLY, 1))
    expected_audio = (10.0 ** (-6.0 / 20.0) * samples[11_025:].astype(np.float64)).astype(np.float32)
    expected_s, expected = extract_file(written(tmp_path, expected_audio, "8.wav"), DEAM_ONLY)
    np.testing.assert_allclose(starts_s, expected_s + 0.25, rtol=0.0, atol=1e-9)
    # The shelves of 0 dB leave rounding of 1e-17.
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("gain_db", [-20.0, 0.0, 12.0])
def test_another_gain_is_that_of_a_16_bit_sound_card(tmp_path: Path, gain_db: float) -> None:
    samples = noise(1.3, level=0.2)
    starts_s, values = extract_at_gain(written(tmp_path, samples), GainExtraction(DEAM_ONLY, gain_db))
    recorded = np.clip(np.rint(10.0 ** (gain_db / 20.0) * samples * 32_768.0), -32_768, 32_767).astype(np.int16)
    assert (np.abs(recorded.astype(int)).max() >= 32_767) == (gain_db > 0.0)
    soundfile.write(tmp_path / "8.wav", recorded, ENGINE_RATE_HZ, subtype="PCM_16")
    expected_s, expected = extract_file(tmp_path / "8.wav", DEAM_ONLY)
    np.testing.assert_array_equal(starts_s, expected_s)
    np.testing.assert_array_equal(values, expected)
