"""The feature engine: DEAM's features from blocks of any size, without end or warnings, and with clear errors."""

from __future__ import annotations

import contextlib
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
from pathlib import Path
from typing import Any

import checkpoints
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
    N_FEATURES,
    FeatureEngine,
    FeatureEngineError,
    opensmile_names,
    to_int16,
)
from realtime_mer.features.extraction import SHORTEST_STREAM_S
from realtime_mer.types import FeatureFrame, FloatArray

ROOT = Path(__file__).resolve().parents[1]
GOLDEN_SONGS = ("199", "829", "1002", "1528")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def music(duration_s: float) -> FloatArray:
    return checkpoints.music(duration_s)[:, 0]


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


@pytest.mark.parametrize("block_samples", [441, 1024, 4410, 7919, None])
@pytest.mark.parametrize("song", GOLDEN_SONGS)
def test_any_blocks_give_the_whole_files_features(
    deam_root: Path, reference: dict[str, FloatArray], song: str, block_samples: int | None
) -> None:
    """Bit for bit."""
    frames = frames_of(golden_audio(deam_root, song), block_samples)
    np.testing.assert_array_equal(values_of(frames), reference[song])


# Features computed from the samples themselves, without a Fourier transform.
FROM_SAMPLES = ("jitter", "shimmer", "logHNR", "pcm_RMSenergy", "pcm_zcr", "pcm_fftMag_spectralRollOff")
# The largest distance from SMILExtract's value, in standard deviations of the feature over all DEAM excerpts: 2.2e-6
# was measured, and up to 3.1e-5 for features that divide by small numbers or take logarithms or powers of differences.
ALLOWED_SD = 3e-6
ALLOWED_SD_OF_SENSITIVE = 4e-5
SENSITIVE = (
    "F0final",
    "voicingFinalUnclipped",
    "audSpec_Rfilt",
    "pcm_fftMag_spectralSkewness",
    "pcm_fftMag_spectralKurtosis",
    "pcm_fftMag_mfcc",
)


@pytest.mark.parametrize("song", GOLDEN_SONGS)
def test_names_and_values_are_smilextracts(deam_root: Path, reference: dict[str, FloatArray], song: str) -> None:
    """As near to audEERING's SMILExtract 3.0.1 as the Python package's library can come.

    The two are compiled differently from the same sources, so features from a Fourier transform may differ in the last
    bits of their float32s; the others are the same to the last printed digit. The library of every package from 2.2 to
    2.6 gives the same bits, so a larger difference is a fault of ours.
    """
    header, smilextracts = golden_values(deam_root, song)
    assert tuple(header) == opensmile_names()
    assert len(header) == N_FEATURES
    values = values_of(frames_of(golden_audio(deam_root, song)))
    spread = np.concatenate(list(reference.values())).astype(np.float64).std(axis=0)
    assert values.shape == smilextracts.shape
    for column, name in enumerate(header):
        if name.startswith(FROM_SAMPLES):
            assert as_printed(values[:, column]) == as_printed(smilextracts[:, column]), name
        else:
            allowed = ALLOWED_SD_OF_SENSITIVE if name.startswith(SENSITIVE) else ALLOWED_SD
            distance = np.abs(values[:, column] - smilextracts[:, column])
            assert distance.max() <= allowed * spread[column], name


# --- the stream


class EngineStage:
    """The engine as a stage of the streaming contract."""

    def __init__(self) -> None:
        self._engine = FeatureEngine()
        self.flush, self.close = self._engine.finish, self._engine.close

    def step(self, chunk: FloatArray, /) -> list[FeatureFrame]:
        self._engine.write(chunk)
        return self._engine.frames()


def test_engine_keeps_the_contract() -> None:
    verify_contract(EngineStage, music(2.3))


def test_a_frame_needs_its_second_and_the_lookahead() -> None:
    enough = round(SHORTEST_STREAM_S * ENGINE_RATE_HZ)
    assert len(frames_of(music(3.0)[:enough])) == 1
    assert frames_of(music(3.0)[: enough - ENGINE_RATE_HZ // 50]) == []
    assert frames_of(music(0.0)) == []


def test_frames_come_while_the_stream_runs() -> None:
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


@pytest.mark.slow
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


# --- long runs

# Feeds an engine in a process of its own, with openSMILE's warnings switched on, and reports on stdout.
LOUD_RUN = """
import gc, json, sys
from pathlib import Path
import numpy as np
from realtime_mer.features import engine as features

lib, configs = features._load_opensmile()

class Loud(lib.OpenSMILE):
    def initialize(self, config_file, options=None, **_):
        super().initialize(config_file, options, loglevel=2, console_output=True)

lib.OpenSMILE = Loud
features._load_opensmile = lambda: (lib, configs)

def resident_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024

samples = np.load(sys.argv[1])
engine = features.FeatureEngine()
n_frames, resident = 0, []
for k in range(1500):
    start = k * 4410 % len(samples)
    engine.write(samples[start : start + 4410])
    n_frames += len(engine.frames())
    if (k + 1) % 300 == 0:
        gc.collect()
        resident.append(resident_mb())
n_frames += len(engine.finish())
print("REPORT", json.dumps({"frames": n_frames, "resident_mb": resident}))
"""


@pytest.mark.slow
@ON_LINUX
def test_long_music_causes_no_warning_and_takes_no_more_memory(tmp_path: Path) -> None:
    """Two and a half minutes. openSMILE's own growing buffers take 1.2 GB by the second minute and double when full;
    ours grew by 0.2 MB in an hour of real music."""
    np.save(tmp_path / "music.npy", music(60.0))
    command = [sys.executable, "-c", LOUD_RUN, str(tmp_path / "music.npy")]
    output = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=True
    ).stdout
    assert "(MSG)" in output, "openSMILE's messages were not switched on"
    assert "(WRN)" not in output
    assert "(ERR" not in output
    report: dict[str, Any] = json.loads(output.partition("REPORT")[2])
    assert report["frames"] == 298
    assert len(report["resident_mb"]) == 5
    assert report["resident_mb"][-1] - report["resident_mb"][1] < 4.0


# --- beginning and end


def test_an_ended_engine_returns_nothing_and_refuses_sound() -> None:
    finished, closed = FeatureEngine(), FeatureEngine()
    closed.write(music(9.0))
    closed.close()
    finished.write(music(2.0))
    assert len(finished.finish()) == 2
    for engine in (finished, closed):
        assert engine.finish() == []
        engine.close()
        assert engine.frames() == []
        with pytest.raises(ValueError, match="new FeatureEngine"):
            engine.write(music(0.1))


def test_close_works_at_any_moment() -> None:
    """Even before openSMILE's thread runs."""
    for delay_s in (0.0,) * 10 + (0.001, 0.003, 0.01, 0.03):
        engine = FeatureEngine()
        time.sleep(delay_s)
        engine.close()


@pytest.mark.parametrize("samples", [np.zeros((100, 2), np.float32), np.zeros(100, np.int16)])
def test_only_mono_floats_are_taken(samples: npt.NDArray[np.float32]) -> None:
    with contextlib.closing(FeatureEngine()) as engine, pytest.raises(ValueError, match="mono"):
        engine.write(samples)


@pytest.mark.slow
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
    for turn in range(40):
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


# --- without openSMILE


def refuse_to_load(path: str) -> None:
    raise OSError(f"{path}: cannot open shared object file")


@pytest.mark.parametrize(
    ("module", "name", "replacement", "message"),
    [
        (ctypes.cdll, "LoadLibrary", refuse_to_load, f"{platform.system()} {platform.machine()}.*cannot open"),
        (platform, "system", lambda: "Haiku", "Haiku"),
        (importlib.util, "find_spec", lambda _name: None, "pip install opensmile"),
    ],
)
def test_without_opensmiles_library_the_error_has_the_reason(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, replacement: Any, message: str
) -> None:
    load = features._load_opensmile.__wrapped__
    monkeypatch.setattr(features, "_load_opensmile", load)
    monkeypatch.setattr(module, name, replacement)
    with pytest.raises(FeatureEngineError, match=message):
        FeatureEngine()


@pytest.mark.parametrize(("folder", "outcome"), [("with spaces", "260"), ("Müsik", "ASCII")])
def test_a_path_with_spaces_works_and_one_beyond_ascii_is_refused(tmp_path: Path, folder: str, outcome: str) -> None:
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
