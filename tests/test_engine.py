"""The feature engine: DEAM's features from any blocks, for ever, without a warning, and with clear errors."""

from __future__ import annotations

import csv
import ctypes
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from contract import verify_contract
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from realtime_mer.features import engine as features
from realtime_mer.features.engine import (
    ENGINE_RATE_HZ,
    FRAME_S,
    HOP_S,
    N_FEATURES,
    FeatureEngine,
    FeatureEngineError,
    to_int16,
)
from realtime_mer.features.extraction import SHORTEST_STREAM_S
from realtime_mer.types import FeatureFrame, FloatArray

ROOT = Path(__file__).resolve().parents[1]
GOLDEN_SONGS = ("199", "829", "1002", "1528")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def music(duration_s: float) -> FloatArray:
    """Notes with overtones and vibrato over noise: voiced, so that the pitch smoother holds frames back. Mono."""
    time_s = np.arange(round(duration_s * ENGINE_RATE_HZ)) / ENGINE_RATE_HZ
    pitch_hz = 220.0 * 2.0 ** (np.array([0, 4, 7, 12, 9, 5])[(time_s / 0.7).astype(int) % 6] / 12.0)
    phase = 2.0 * np.pi * np.cumsum(pitch_hz * (1.0 + 0.005 * np.sin(2.0 * np.pi * 5.0 * time_s))) / ENGINE_RATE_HZ
    tone = sum(np.sin(overtone * phase) / overtone for overtone in range(1, 7))
    noise = np.random.default_rng(0).normal(size=len(time_s))
    return np.asarray(0.15 * tone + 0.01 * noise, dtype=np.float32)


def frames_of(samples: FloatArray, block_samples: int | None = None) -> list[FeatureFrame]:
    engine = FeatureEngine()
    frames = []
    step = block_samples or max(len(samples), 1)
    for start in range(0, len(samples), step):
        engine.write(samples[start : start + step])
        frames += engine.frames()
    return frames + engine.finish()


def values_of(frames: list[FeatureFrame]) -> FloatArray:
    return np.stack([frame.values for frame in frames])


# --- the values: DEAM's


@pytest.fixture(scope="module")
def reference(deam_root: Path) -> dict[str, FloatArray]:
    """The features of each clip from a whole-file run of openSMILE, float32, shape (18, 260)."""
    with np.load(deam_root / "features.npz") as file:
        return dict(zip(file["song_id"].astype(str), file["features"], strict=True))


def golden_audio(deam_root: Path, song: str) -> FloatArray:
    samples, rate_hz = soundfile.read(deam_root / "golden" / f"{song}.wav", dtype="float32")
    assert rate_hz == ENGINE_RATE_HZ
    return np.asarray(samples, dtype=np.float32)


def golden_values(deam_root: Path, song: str) -> tuple[list[str], npt.NDArray[np.float64]]:
    """The names and the values of SMILExtract's output, printed with seven digits, without the column of times."""
    with (deam_root / "golden" / f"{song}.csv").open(encoding="ascii", newline="") as file:
        header, *rows = csv.reader(file, delimiter=";")
    assert header[0] == "frameTime"
    return header[1:], np.array([row[1:] for row in rows], dtype=np.float64)


def as_printed(values: npt.NDArray[np.floating]) -> list[str]:
    return [f"{value:.6e}" for value in values]


@pytest.mark.parametrize("song", GOLDEN_SONGS)
def test_names_are_deams(deam_root: Path, song: str) -> None:
    engine = FeatureEngine()
    engine.close()
    assert list(engine.names) == golden_values(deam_root, song)[0]
    assert len(engine.names) == N_FEATURES


@pytest.mark.parametrize("block_samples", [441, 1024, 4410, 7919, None])
@pytest.mark.parametrize("song", GOLDEN_SONGS)
def test_any_blocks_give_the_whole_files_features(
    deam_root: Path, reference: dict[str, FloatArray], song: str, block_samples: int | None
) -> None:
    """Bit for bit."""
    frames = frames_of(golden_audio(deam_root, song), block_samples)
    np.testing.assert_array_equal(values_of(frames), reference[song])


def test_single_samples_give_the_whole_files_features(deam_root: Path, reference: dict[str, FloatArray]) -> None:
    frames = frames_of(golden_audio(deam_root, "829")[: 2 * ENGINE_RATE_HZ], 1)
    np.testing.assert_array_equal(values_of(frames), reference["829"][:2])


# What the audio's own samples decide, without a Fourier transform of the library's between.
FROM_SAMPLES = ("jitter", "shimmer", "logHNR", "pcm_RMSenergy", "pcm_zcr", "pcm_fftMag_spectralRollOff")
# The largest distance from SMILExtract's value, in standard deviations of the feature over all DEAM excerpts.
# Measured: 2.2e-6 at most for the others; 1.7e-5 F0, 2.1e-5 voicing, 1.7e-5 skewness, 3.1e-5 kurtosis, 9.7e-6 RASTA
# bands, 4.6e-6 MFCC.
ALLOWED_SD = 3e-6
ALLOWED_SD_WHERE_DIFFERENCES_GROW = 4e-5
WHERE_DIFFERENCES_GROW = (
    "F0final",
    "voicingFinalUnclipped",
    "audSpec_Rfilt",
    "pcm_fftMag_spectralSkewness",
    "pcm_fftMag_spectralKurtosis",
    "pcm_fftMag_mfcc",
)


@pytest.mark.parametrize("song", GOLDEN_SONGS)
def test_values_are_smilextracts(deam_root: Path, reference: dict[str, FloatArray], song: str) -> None:
    """As near to audEERING's SMILExtract 3.0.1 as the Python package's library can come.

    The two are the same sources, compiled differently: whatever passes through the Fourier transform may differ in
    the last bits of its float32s, in one printed seventh digit of three. What does not is the same to the last digit.
    Rounding is relative to the numbers that were added up, not to their result, so the bound is a fraction of each
    feature's spread; it is wider for what divides by small numbers, takes logarithms, or powers of differences. The
    library of every package from 2.2 to 2.6 gives the same bits, so a difference beyond the bounds is ours.
    """
    header, smilextracts = golden_values(deam_root, song)
    values = values_of(frames_of(golden_audio(deam_root, song)))
    spread = np.concatenate(list(reference.values())).astype(np.float64).std(axis=0)
    assert values.shape == smilextracts.shape
    for column, name in enumerate(header):
        if name.startswith(FROM_SAMPLES):
            assert as_printed(values[:, column]) == as_printed(smilextracts[:, column]), name
        else:
            allowed = ALLOWED_SD_WHERE_DIFFERENCES_GROW if name.startswith(WHERE_DIFFERENCES_GROW) else ALLOWED_SD
            distance = np.abs(values[:, column] - smilextracts[:, column])
            assert distance.max() <= allowed * spread[column], name


# --- the stream


class EngineStage:
    """The engine as the streaming contract sees it."""

    def __init__(self) -> None:
        self._engine = FeatureEngine()

    def step(self, chunk: FloatArray, /) -> list[FeatureFrame]:
        self._engine.write(chunk)
        return self._engine.frames()

    def flush(self) -> list[FeatureFrame]:
        return self._engine.finish()

    def close(self) -> None:
        self._engine.close()


def test_engine_keeps_the_contract() -> None:
    verify_contract(EngineStage, music(2.3))


def test_frames_are_numbered_and_timed_by_the_stream() -> None:
    frames = frames_of(music(4.0), 4410)
    assert [frame.index for frame in frames] == list(range(6))
    assert [(frame.start_s, frame.end_s) for frame in frames] == [(k * HOP_S, k * HOP_S + FRAME_S) for k in range(6)]
    assert all(frame.values.shape == (N_FEATURES,) and frame.values.dtype == np.float32 for frame in frames)


def test_a_frame_needs_its_second_and_the_lookahead() -> None:
    enough = round(SHORTEST_STREAM_S * ENGINE_RATE_HZ)
    assert len(frames_of(music(3.0)[:enough])) == 1
    assert frames_of(music(3.0)[: enough - ENGINE_RATE_HZ // 50]) == []
    assert frames_of(music(0.0)) == []


def test_frames_come_while_the_stream_runs() -> None:
    """Without waiting for the end: a stream on stage has none."""
    engine = FeatureEngine()
    samples = music(8.0)
    for start in range(0, len(samples), 4410):
        engine.write(samples[start : start + 4410])
    frames: list[FeatureFrame] = []
    while len(frames) < 12:
        engine.wait(30.0)
        arrived = engine.frames()
        assert arrived, "no frame within half a minute"
        frames += arrived
    frames += engine.finish()
    np.testing.assert_array_equal(values_of(frames), values_of(frames_of(samples)))


def test_frames_own_their_values() -> None:
    frames = frames_of(music(4.0))
    assert not any(np.shares_memory(a.values, b.values) for a, b in pairwise(frames))
    assert not any(np.array_equal(a.values, b.values) for a, b in pairwise(frames))


def test_silence_and_noise_give_finite_features() -> None:
    silence = np.zeros(3 * ENGINE_RATE_HZ, dtype=np.float32)
    full_scale = np.sign(np.random.default_rng(0).normal(size=3 * ENGINE_RATE_HZ)).astype(np.float32)
    for samples in (silence, full_scale, np.concatenate([full_scale, silence]), np.full_like(silence, 2.0)):
        assert np.isfinite(values_of(frames_of(samples))).all()


def test_engines_side_by_side_do_not_disturb_each_other() -> None:
    songs = [music(6.0), music(6.0)[::-1].copy(), music(6.0) * np.float32(0.1)]
    engines = [FeatureEngine() for _ in songs]
    for start in range(0, len(songs[0]), 7919):
        for engine, song in zip(engines, songs, strict=True):
            engine.write(song[start : start + 7919])
    for engine, song in zip(engines, songs, strict=True):
        np.testing.assert_array_equal(values_of(engine.finish()), values_of(frames_of(song)))


# --- 16-bit samples


@settings(deadline=None)
@given(arrays.arrays(np.float32, st.integers(0, 30), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
@example(np.array([1.0, -1.0, 1.5, -1.5, np.nan, np.inf, -np.inf, 0.0, 3e38, 0.99999], dtype=np.float32))
def test_to_int16_rounds_and_clips_and_never_wraps(samples: FloatArray) -> None:
    with np.errstate(all="raise", under="ignore"):
        pcm = to_int16(samples)
    assert pcm.dtype == np.int16
    for sample, value in zip(samples.tolist(), pcm.tolist(), strict=True):
        if np.isnan(sample):
            assert value == 0
        elif sample >= 1.0:
            assert value == 32767
        elif sample <= -1.0:
            assert value == -32768
        else:
            assert abs(value - sample * 32768.0) <= 0.5 or value == 32767


def test_to_int16_returns_every_16_bit_file_as_it_was() -> None:
    every = np.arange(-32768, 32768).astype(np.int16)
    np.testing.assert_array_equal(to_int16(every.astype(np.float32) / np.float32(32768.0)), every)


# --- running for ever

# Feeds an engine from a process of its own, openSMILE's warnings switched on, and reports on stdout.
LOUD_RUN = """
import gc, json, sys
from pathlib import Path
import numpy as np
from realtime_mer.features import engine as features

audio, minutes = Path(sys.argv[1]), float(sys.argv[2])
lib, configs = features._load_opensmile()

class Loud(lib.OpenSMILE):
    def initialize(self, config_file, options=None, **_):
        super().initialize(config_file, options, loglevel=2, console_output=True)

lib.OpenSMILE = Loud
features._load_opensmile = lambda: (lib, configs)

def resident_mb():
    status = Path("/proc/self/status").read_text() if sys.platform == "linux" else "VmRSS: 0 kB"
    return int(status.split("VmRSS:")[1].split()[0]) / 1024

samples = np.load(audio)
engine = features.FeatureEngine()
block, n_blocks, n_frames, resident = 4410, int(minutes * 600), 0, []
for k in range(n_blocks):
    start = k * block % len(samples)
    engine.write(samples[start : start + block])
    n_frames += len(engine.frames())
    if (k + 1) % 600 == 0:
        gc.collect()
        resident.append(resident_mb())
n_frames += len(engine.finish())
print("REPORT", json.dumps({"frames": n_frames, "resident_mb": resident}))
"""


def loud_run(folder: Path, minutes: float) -> subprocess.CompletedProcess[str]:
    np.save(folder / "music.npy", music(60.0))
    command = [sys.executable, "-c", LOUD_RUN, str(folder / "music.npy"), str(minutes)]
    return subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=True
    )


@pytest.fixture(scope="module")
def five_minutes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What an engine and its process print over five minutes of music, fed as fast as it takes them."""
    return loud_run(tmp_path_factory.mktemp("loud"), 5.0).stdout


def report_of(output: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(output.partition("REPORT")[2])
    return report


def test_opensmile_warns_of_nothing(five_minutes: str) -> None:
    assert "(MSG)" in five_minutes, "openSMILE's messages were not switched on"
    assert "(WRN)" not in five_minutes
    assert "(ERR" not in five_minutes
    assert report_of(five_minutes)["frames"] == 598


@ON_LINUX
def test_memory_stays_flat(five_minutes: str) -> None:
    """openSMILE's own growing buffers take 1.2 GB by the second minute and double when full; ours, once measured over
    an hour of real music, took 0.2 MB more at its end than after two minutes."""
    resident_mb = report_of(five_minutes)["resident_mb"]
    assert len(resident_mb) == 5
    assert resident_mb[-1] - resident_mb[1] < 4.0


# --- beginning and end


def test_finish_and_close_can_be_repeated() -> None:
    engine = FeatureEngine()
    engine.write(music(2.0))
    assert len(engine.finish()) == 2
    assert engine.finish() == []
    engine.close()
    engine.close()
    assert engine.frames() == []


def test_close_works_at_any_moment() -> None:
    """Also before openSMILE's thread has come to run at all."""
    for delay_s in (0.0,) * 20 + (0.001, 0.003, 0.01, 0.03):
        engine = FeatureEngine()
        time.sleep(delay_s)
        engine.close()


@pytest.mark.parametrize("end", ["finish", "close"])
def test_an_ended_engine_takes_no_more(end: str) -> None:
    engine = FeatureEngine()
    getattr(engine, end)()
    with pytest.raises(ValueError, match="new FeatureEngine"):
        engine.write(music(0.1))


@pytest.mark.parametrize("samples", [np.zeros((100, 2), np.float32), np.zeros(100, np.int16)])
def test_only_mono_floats_are_taken(samples: npt.NDArray[np.float32]) -> None:
    """Two channels would be heard one after the other, and integers as full scale."""
    engine = FeatureEngine()
    try:
        with pytest.raises(ValueError, match="mono"):
            engine.write(samples)
    finally:
        engine.close()


@ON_LINUX
def test_engines_leave_nothing_behind() -> None:
    def held() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    def resident_mb() -> float:
        return int(Path("/proc/self/status").read_text(encoding="ascii").split("VmRSS:")[1].split()[0]) / 1024

    samples = music(1.2)
    for _ in range(20):
        frames_of(samples)
    before, before_mb = held(), resident_mb()
    for turn in range(80):
        engine = FeatureEngine()
        engine.write(samples)
        (engine.finish if turn % 2 else engine.close)()
    assert held() == before
    assert resident_mb() - before_mb < 3.0


@pytest.mark.parametrize("delay_s", [0.0, 0.1])
def test_a_program_may_end_with_an_engine_running(delay_s: float) -> None:
    code = (
        "import sys, time, numpy as np; from realtime_mer.features.engine import FeatureEngine; "
        "engine = FeatureEngine(); "
        f"engine.write(np.ones(400_000, np.float32)); time.sleep({delay_s}); sys.exit(3)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (3, "")


# --- where openSMILE cannot be


@pytest.fixture
def not_loaded_yet() -> Iterator[None]:
    """openSMILE's library is loaded once; here it is loaded again, and again afterwards."""
    forget = getattr(features._load_opensmile, "cache_clear", lambda: None)
    forget()
    yield
    forget()


@pytest.mark.usefixtures("not_loaded_yet")
def test_a_library_that_does_not_load_names_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise OSError(f"{path}: cannot open shared object file")

    monkeypatch.setattr(ctypes.cdll, "LoadLibrary", refuse)
    with pytest.raises(FeatureEngineError, match=f"{platform.system()} {platform.machine()}.*cannot open"):
        FeatureEngine()


@pytest.mark.usefixtures("not_loaded_yet")
def test_a_platform_without_opensmile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Haiku")
    with pytest.raises(FeatureEngineError, match="Haiku"):
        FeatureEngine()


@pytest.mark.usefixtures("not_loaded_yet")
def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(FeatureEngineError, match="pip install opensmile"):
        FeatureEngine()


@pytest.mark.parametrize(("folder", "outcome"), [("with spaces", "260"), ("Müsik", "ASCII")])
def test_where_the_package_may_lie(tmp_path: Path, folder: str, outcome: str) -> None:
    """openSMILE's own interface takes ASCII paths only; who has another is told so."""
    shutil.copytree(
        ROOT / "realtime_mer", tmp_path / folder / "realtime_mer", ignore=shutil.ignore_patterns("__pycache__", "model")
    )
    code = (
        "from realtime_mer.features.engine import FeatureEngine, FeatureEngineError\n"
        "try:\n    engine = FeatureEngine()\n    print(len(engine.names))\n    engine.close()\n"
        "except FeatureEngineError as error:\n    print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / folder, capture_output=True, text=True, timeout=60, check=True
    )
    assert outcome in run.stdout
