"""From raw audio to frames: any block sizes, any rate, any file, and the errors for a bad one."""

from __future__ import annotations

import ast
import os
import shutil
import sys
import threading
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from checkpoints import music
from contract import verify_contract

from realtime_mer.features import extraction
from realtime_mer.features.conditioning import Resampler
from realtime_mer.features.descriptors import DescriptorStage, descriptor_names
from realtime_mer.features.engine import ENGINE_RATE_HZ, FeatureEngine
from realtime_mer.features.extraction import (
    SHORTEST_STREAM_S,
    ExtractionSettings,
    FrameExtractor,
    describe_configuration,
    extract_file,
    extract_stream,
    frame_names,
)
from realtime_mer.features.gain import GainSettings, GainStage
from realtime_mer.models.scaling import Scaler
from realtime_mer.sources.reading import AudioFileError, read_blocks
from realtime_mer.types import LOWEST_RATE_HZ, AudioBlock, FloatArray

WITH_DESCRIPTORS = ExtractionSettings()
DEAM_ONLY = ExtractionSettings(level=None, descriptors=False)
ALL_SETTINGS = [
    ExtractionSettings(level, descriptors) for level in (None, GainSettings()) for descriptors in (False, True)
]
GOLDEN_SONGS = ("199", "829", "1002", "1528")


def clip(deam_root: Path, duration_s: float = 2.2, song: str = "829") -> FloatArray:
    """Music from its first sample on: the files begin with some hundredths of a second of digital silence."""
    samples, rate_hz = soundfile.read(deam_root / "golden" / f"{song}.wav", dtype="float32")
    assert rate_hz == ENGINE_RATE_HZ
    return np.asarray(samples[rate_hz : round((1.0 + duration_s) * rate_hz)], dtype=np.float32)


def at_rate(samples: FloatArray, rate_hz: int) -> FloatArray:
    resampler = Resampler(ENGINE_RATE_HZ, rate_hz)
    return np.concatenate([resampler.step(samples), resampler.flush()])


def extracted(samples: FloatArray, settings: ExtractionSettings, rate_hz: int = ENGINE_RATE_HZ) -> FloatArray:
    """The values of all frames, shape (frames, n)."""
    frames = list(extract_stream(iter([AudioBlock(samples, 0.0, rate_hz)]), settings))
    for k, frame in enumerate(frames):
        assert (frame.index, frame.start_s, frame.end_s) == (k, 0.5 * k, 0.5 * k + 1.0)
    return np.stack([frame.values for frame in frames])


# --- the extractor


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate_hz", "n_channels", "settings"),
    [
        (44_100, 1, WITH_DESCRIPTORS),
        (48_000, 2, WITH_DESCRIPTORS),
        (16_000, 3, ExtractionSettings(descriptors=False)),
        (96_000, 1, DEAM_ONLY),
    ],
)
def test_the_extractor_keeps_the_contract(
    deam_root: Path, rate_hz: int, n_channels: int, settings: ExtractionSettings
) -> None:
    """To the bit, on real music, one channel delayed against the next."""
    mono = at_rate(clip(deam_root), rate_hz)
    samples = np.stack([np.roll(mono, 100 * channel) for channel in range(n_channels)], axis=1)
    chunks = (441, 4_410, 1, 7_919, 17_000, 997)
    verify_contract(lambda: FrameExtractor(settings, rate_hz), samples, chunks=chunks, one_by_one=False)


@pytest.mark.parametrize("settings", ALL_SETTINGS)
def test_a_frame_has_as_many_values_as_names(settings: ExtractionSettings) -> None:
    names = frame_names(settings)
    assert len(set(names)) == len(names) == extracted(music(1.2), settings).shape[1]
    assert names[0] == "F0final_sma_stddev"
    assert len(names) == 260 + (len(descriptor_names()) if settings.descriptors else 0)
    assert names == frame_names(WITH_DESCRIPTORS)[: len(names)]


def test_without_gain_and_descriptors_it_is_the_feature_engine(deam_root: Path) -> None:
    samples = clip(deam_root)
    engine = FeatureEngine()
    engine.write(samples)
    expected = np.stack([frame.values for frame in engine.finish()])
    np.testing.assert_array_equal(extracted(samples, DEAM_ONLY), expected, strict=True)
    # With descriptors, DEAM's columns are the same, and the descriptors are those of the same frames.
    with_descriptors = extracted(samples, ExtractionSettings(level=None))
    np.testing.assert_array_equal(with_descriptors[:, :260], expected)
    described = np.stack([frame.values for frame in DescriptorStage().step(samples)])
    assert len(with_descriptors) == 3
    np.testing.assert_array_equal(with_descriptors[:, 260:], described[:3])
    # With a gain stage they are those of the levelled sound.
    stage = GainStage(GainSettings(), ENGINE_RATE_HZ)
    levelled = np.concatenate([stage.step(samples), stage.flush()])
    np.testing.assert_array_equal(
        extracted(samples, ExtractionSettings(descriptors=False)), extracted(levelled, DEAM_ONLY)
    )


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(60_000),
        np.full(60_000, 1e-40),
        np.tile([1.0, -1.0], 30_000),
        np.tile([1e10, -1e10], 30_000),
        np.concatenate([np.full(3, np.nan), np.sin(np.arange(60_000.0))]),
    ],
    ids=["silence", "denormals", "full-scale square", "huge", "not a number"],
)
def test_every_sound_gives_finite_features(samples: np.ndarray) -> None:
    values = extracted(samples.astype(np.float32), WITH_DESCRIPTORS)
    assert len(values) > 0
    assert np.isfinite(values).all()


def test_a_stream_that_is_left_early_frees_its_engine(deam_root: Path) -> None:
    def engines() -> int:
        return sum(thread.name == "opensmile" for thread in threading.enumerate())

    before = engines()
    frames = extract_stream((AudioBlock(clip(deam_root), 2.2 * i, ENGINE_RATE_HZ) for i in range(99)), DEAM_ONLY)
    assert next(frames).index == 0
    assert engines() == before + 1
    frames.close()  # type: ignore[attr-defined]
    assert engines() == before
    assert list(extract_stream(iter([]), DEAM_ONLY)) == []


# --- files


@pytest.mark.parametrize("file_name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_a_file_gives_the_frames_of_its_samples(deam_root: Path, tmp_path: Path, file_name: str) -> None:
    path = tmp_path / file_name
    soundfile.write(path, clip(deam_root, 1.7), ENGINE_RATE_HZ)
    starts_s, values = extract_file(path, WITH_DESCRIPTORS)
    decoded = np.concatenate([block.samples for block in read_blocks(path)])
    # FFmpeg decodes an mp3, libsndfile's decoder rounds in another way.
    allowed = 1e-5 if path.suffix == ".mp3" else 0.0
    np.testing.assert_allclose(decoded[:, 0], soundfile.read(path, dtype="float32")[0], rtol=0.0, atol=allowed)
    np.testing.assert_array_equal(starts_s, [0.0, 0.5])
    np.testing.assert_array_equal(values, extracted(decoded, WITH_DESCRIPTORS), strict=True)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such a name")
def test_a_file_name_that_is_not_valid_utf_8(tmp_path: Path) -> None:
    good, bad = (Path(os.fsdecode(os.fsencode(tmp_path) + name)) for name in (b"/\xff\xe4.wav", b"/\xfe.wav"))
    soundfile.write(os.fsencode(good), music(1.2), ENGINE_RATE_HZ)
    assert len(extract_file(good, DEAM_ONLY)[0]) == 1
    bad.write_bytes(b"no audio")
    with pytest.raises(AudioFileError) as raised:
        extract_file(bad, DEAM_ONLY)
    assert str(raised.value).startswith(str(bad))


@pytest.mark.parametrize(
    ("file_name", "content"),
    [
        (".", None),
        ("missing.wav", None),
        ("empty.wav", b""),
        ("text.mp3", b"All work and no play makes Jack a dull boy. " * 100),
        ("headerless.raw", bytes(200_000)),
    ],
)
def test_the_error_for_a_file_without_audio_names_it(tmp_path: Path, file_name: str, content: bytes | None) -> None:
    path = tmp_path / file_name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioFileError) as raised:
        extract_file(path, DEAM_ONLY)
    assert str(raised.value).startswith(f"{path} cannot be read as audio: ")


@pytest.mark.parametrize("n_samples", [0, 1, 44_100])
def test_a_file_without_a_whole_frame_is_too_short(tmp_path: Path, n_samples: int) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, music(1.0)[:n_samples], ENGINE_RATE_HZ)
    with pytest.raises(AudioFileError) as raised:
        extract_file(path, WITH_DESCRIPTORS)
    assert str(raised.value) == f"{path} is too short: the first prediction needs {SHORTEST_STREAM_S} s of audio."
    assert len(extracted(music(SHORTEST_STREAM_S), WITH_DESCRIPTORS)) == 1


def test_rates_below_the_lowest_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "slow.wav", music(4.0)[:4_000], LOWEST_RATE_HZ, subtype="FLOAT")
    starts_s, values = extract_file(tmp_path / "slow.wav", WITH_DESCRIPTORS)
    np.testing.assert_array_equal(starts_s, 0.5 * np.arange(6))
    assert np.isfinite(values).all()
    soundfile.write(tmp_path / "slower.wav", music(4.0)[:4_000], LOWEST_RATE_HZ - 1, subtype="FLOAT")
    with pytest.raises(AudioFileError, match="999 samples per second"):
        extract_file(tmp_path / "slower.wav", WITH_DESCRIPTORS)


@pytest.mark.parametrize("file_name", ["a.wav", "a.ogg"])
def test_a_truncated_file_is_read_as_a_shorter_one(tmp_path: Path, file_name: str) -> None:
    """The error for a truncated flac or mp3: tests/test_reading.py."""
    path = tmp_path / file_name
    soundfile.write(path, music(4.0), ENGINE_RATE_HZ)
    whole, _ = soundfile.read(path, dtype="float32")
    content = path.read_bytes()
    path.write_bytes(content[: int(0.7 * len(content))])
    samples = np.concatenate([block.samples for block in read_blocks(path)])
    assert 0 < len(samples) < len(whole)
    np.testing.assert_array_equal(samples[:, 0], whole[: len(samples)])


# --- gain


def test_the_gain_stage_makes_the_features_the_same_at_any_input_gain(deam_root: Path) -> None:
    """At gains by powers of two, without the rounding of a sound card: to the bit."""
    samples = clip(deam_root)
    np.testing.assert_array_equal(
        extracted(samples, WITH_DESCRIPTORS), extracted(np.float32(0.125) * samples, WITH_DESCRIPTORS), strict=True
    )


@pytest.mark.slow
# Measured at -20 and -12 dB: median .003 and .001, mean .04 and .02, 99th percentile .8 and .4, the largest (the
# spread of the highest mel band, at 15 kHz, where the last bit's noise is all there is) 3.8 and 2.6.
@pytest.mark.parametrize(
    ("gain_db", "median", "mean", "percentile_99"), [(-20.0, 0.01, 0.08, 1.2), (-12.0, 0.005, 0.05, 0.8)]
)
def test_input_gain_hardly_moves_the_scaled_features(
    deam_root: Path, tmp_path: Path, gain_db: float, median: float, mean: float, percentile_99: float
) -> None:
    """Of 16-bit files, in standard deviations over these clips; without jitter and shimmer, which depend on the last
    bit of a sample and which no shipped model uses."""

    def moved(settings: ExtractionSettings, only: tuple[str, ...] = ("",)) -> FloatArray:
        names = frame_names(settings)
        columns = [
            i for i, name in enumerate(names) if name.startswith(only) and not name.startswith(("jitter", "shimmer"))
        ]
        at_gain: dict[float, list[FloatArray]] = {0.0: [], gain_db: []}
        for song in GOLDEN_SONGS:
            for of_gain_db, values in at_gain.items():
                samples = 10.0 ** (of_gain_db / 20.0) * clip(deam_root, 2.0, song)
                soundfile.write(tmp_path / "a.wav", samples, ENGINE_RATE_HZ, subtype="PCM_16")
                values.append(extract_file(tmp_path / "a.wav", settings)[1][:, columns])
        before, after = (np.concatenate(values) for values in at_gain.values())
        scaler = Scaler.fit("signed_log_standard", before, [names[i] for i in columns])
        return np.asarray(np.abs(scaler.transform(after) - scaler.transform(before)))

    levelled = moved(WITH_DESCRIPTORS)
    assert np.median(levelled) < median
    assert levelled.mean() < mean
    assert np.percentile(levelled, 99) < percentile_99
    # The purpose of the gain stage: without it they move.
    energies = ("audspec_length", "pcm_RMSenergy", "pcm_fftMag_fband")
    assert moved(DEAM_ONLY, energies).mean() > 1.0


# --- settings and configuration


def test_settings_survive_their_dictionary() -> None:
    for settings in (*ALL_SETTINGS, ExtractionSettings(GainSettings(target_db=-23.0), False)):
        assert ExtractionSettings.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize(
    "values",
    [
        {"level": None},
        {"level": None, "descriptors": 1},
        {"level": None, "descriptors": True, "more": 1},
        {"level": {"memory_s": -1.0}, "descriptors": True},
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises((TypeError, KeyError, ValueError)):
        ExtractionSettings.from_dict(values)


def test_every_setting_is_in_the_configurations_text() -> None:
    gains = [replace(GainSettings(), **{name: value + 0.125}) for name, value in asdict(GainSettings()).items()]
    changed = [*ALL_SETTINGS, *map(ExtractionSettings, gains)]
    texts = [describe_configuration(settings) for settings in changed]
    assert len(set(texts)) == len(texts)
    assert texts == [describe_configuration(settings) for settings in changed]


FEATURES = ("changes", "conditioning", "engine", "extraction", "gain", "renewal")
SOURCES = (
    "types.py",
    "sources/grid.py",
    "sources/reading.py",
    "sources/ffmpeg.py",
    *(f"features/{name}.py" for name in FEATURES),
)


def test_only_a_change_of_the_code_that_extracts_changes_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "realtime_mer"
    ignored = shutil.ignore_patterns("__pycache__", "default.*", "open.*")
    shutil.copytree(str(files("realtime_mer")), package, ignore=ignored)
    original = extraction._code_digest()
    digest = extraction._code_digest.__wrapped__
    monkeypatch.setattr(extraction, "files", lambda _: package)
    assert digest() == original
    opensmile, descriptors = package / "features" / "opensmile", package / "features" / "descriptors"
    assert {"deam260.conf", "rings.inc"} <= {path.name for path in opensmile.iterdir()}
    for path in (*(package / name for name in SOURCES), *opensmile.iterdir(), *descriptors.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        assert digest() != original, path
        path.write_bytes(content)
    for name in ("models/checkpoint.py", "batch/command.py"):
        (package / name).write_bytes(b"")
    (descriptors / "__pycache__").mkdir()
    (descriptors / "notes.txt").write_text("nothing")
    assert digest() == original
    # A line moved from one file to the next is a change too.
    first, second = descriptors / "rhythm.py", descriptors / "spectra.py"
    content = second.read_bytes()
    first.write_bytes(first.read_bytes() + content[:100])
    second.write_bytes(content[100:])
    assert digest() != original


def test_every_import_of_the_extraction_is_in_the_configuration() -> None:
    """Otherwise a change there would leave stale features in the cache."""
    package = Path(str(files("realtime_mer")))
    libraries = set()
    for path in [*(package / name for name in SOURCES), *(package / "features" / "descriptors").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, "no relative imports"
                modules = [node.module or ""]
            for module in modules:
                top, *below = module.split(".")
                if top == "realtime_mer":
                    known = f"{'/'.join(below)}.py" in SOURCES or below[:2] == ["features", "descriptors"]
                    assert known or below == ["errors"], f"{path.name} imports {module}"
                elif top not in sys.stdlib_module_names:
                    libraries.add(top)
    text = describe_configuration(WITH_DESCRIPTORS)
    # threadpoolctl affects the speed only.
    for library in (libraries | {"opensmile"}) - {"threadpoolctl"}:
        assert f'"{library}": "' in text, library
