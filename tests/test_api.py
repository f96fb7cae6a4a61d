"""The public Python API: the same predictions as the command, from files, arrays, blocks and a device."""

from __future__ import annotations

import contextlib
import doctest
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints import music, small_checkpoint
from sound_server import start_sound_server

import realtime_mer as mer
from realtime_mer import api
from realtime_mer.config import ModelSettings
from realtime_mer.errors import UsageError
from realtime_mer.models.checkpoint import save_checkpoint
from realtime_mer.sources.file import FileSource
from realtime_mer.sources.reading import AudioFileError
from realtime_mer.types import FloatArray

ROOT = Path(__file__).resolve().parents[1]
RATE_HZ = 44_100


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_checkpoint(path, small_checkpoint())
    return path


@pytest.fixture(scope="module")
def song() -> FloatArray:
    """4.2 s that a 16-bit file holds exactly."""
    samples: FloatArray = np.round(music(4.2) * 2**15).clip(-(2**15), 2**15 - 1).astype(np.float32) / np.float32(2**15)
    return samples


@pytest.fixture(scope="module")
def song_file(song: FloatArray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("music") / "song.wav"
    soundfile.write(path, song, RATE_HZ, subtype="PCM_16")
    return path


def test_every_public_name_is_there_and_importing_it_is_cheap() -> None:
    assert all(hasattr(mer, name) for name in mer.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mer.nothing  # noqa: B018
    code = (
        "import sys, realtime_mer as mer; assert 'numpy' not in sys.modules; mer.predict; mer.listen; "
        "print(*sorted({'torch', 'PyQt5', 'pyqtgraph', 'sounddevice', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr


@pytest.mark.slow
def test_the_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(api) == (0, doctest.testmod(api).attempted)
    assert doctest.testmod(api).attempted >= 8


def test_a_file_an_array_and_blocks_give_the_same(song: FloatArray, song_file: Path, checkpoint: Path) -> None:
    of_file = mer.predict(song_file, checkpoint=checkpoint)
    of_array = mer.predict(song, rate_hz=RATE_HZ, checkpoint=checkpoint)
    predictions = []
    with mer.Recogniser(rate_hz=RATE_HZ, checkpoint=checkpoint) as recogniser:
        for start in range(0, len(song), 4_410):
            predictions += recogniser.process(song[start : start + 4_410])
        predictions += recogniser.finish()
    of_blocks = mer.Trajectory.of(predictions)
    assert of_file.time_s.tolist() == [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    for name in ("time_s", "valence", "arousal", "valence_sd", "arousal_sd"):
        np.testing.assert_array_equal(getattr(of_array, name), getattr(of_file, name))
        np.testing.assert_array_equal(getattr(of_blocks, name), getattr(of_file, name))


def test_a_trajectory_as_a_data_frame(song_file: Path, checkpoint: Path) -> None:
    trajectory = mer.predict(song_file, checkpoint=checkpoint)
    frame = trajectory.to_pandas()
    assert list(frame) == ["time_s", "valence", "arousal", "valence_sd", "arousal_sd"]
    assert len(frame) == len(trajectory) == 7
    assert frame["arousal"].tolist() == trajectory.arousal.tolist()


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.zeros((4, 2, 2), np.float32), "expected shape"),
        (np.zeros((4, 0), np.float32), "expected shape"),
        (np.zeros(4, np.int16), "expected floats"),
        (np.zeros(44_100, np.float32), "expected at least 1.05 s, got 1.00 s"),
    ],
)
def test_an_array_that_cannot_be_used_is_refused(samples: FloatArray, expected: str, checkpoint: Path) -> None:
    with pytest.raises(UsageError, match=expected):
        mer.predict(samples, rate_hz=RATE_HZ, checkpoint=checkpoint)


def test_mistakes_are_refused_with_the_packages_error(tmp_path: Path, song: FloatArray, checkpoint: Path) -> None:
    assert issubclass(AudioFileError, mer.RealtimeMerError)
    with pytest.raises(AudioFileError, match=r"missing\.wav"):
        mer.predict(tmp_path / "missing.wav", checkpoint=checkpoint)
    with pytest.raises(UsageError, match="rate_hz"):
        mer.predict(song, checkpoint=checkpoint)
    with pytest.raises(UsageError, match="rate_hz"):
        mer.predict(tmp_path / "song.wav", rate_hz=RATE_HZ, checkpoint=checkpoint)
    with pytest.raises(UsageError, match="expected 1000 to 768000"):
        mer.Recogniser(rate_hz=8, checkpoint=checkpoint)
    with mer.Recogniser(rate_hz=RATE_HZ, checkpoint=checkpoint) as recogniser:
        recogniser.process(song[:100])
        with pytest.raises(UsageError, match="expected 1 channels as before, got 2"):
            recogniser.process(np.zeros((100, 2), np.float32))


def test_a_listener_gives_every_prediction_and_ends_with_its_source(song_file: Path, checkpoint: Path) -> None:
    with api.Listener(
        FileSource(song_file, loop=False, fast=True), ModelSettings(checkpoint=str(checkpoint))
    ) as listener:
        predictions = list(listener)
    np.testing.assert_array_equal(
        mer.Trajectory.of(predictions).valence, mer.predict(song_file, checkpoint=checkpoint).valence
    )


def test_a_failure_while_listening_is_raised_to_the_reader(song_file: Path, tmp_path: Path) -> None:
    missing = ModelSettings(checkpoint=str(tmp_path / "missing"))
    with (
        api.Listener(FileSource(song_file, loop=False, fast=True), missing) as listener,
        pytest.raises(mer.RealtimeMerError, match="no such file"),
    ):
        next(listener)


@pytest.mark.slow
@pytest.mark.parametrize("example", ["file_to_plot.py", "folder_to_data_frame.py"])
def test_the_examples_with_files_run(example: str, song_file: Path, tmp_path: Path) -> None:
    arguments = {
        "file_to_plot.py": [song_file, tmp_path / "out.png"],
        "folder_to_data_frame.py": [song_file.parent, tmp_path / "out.csv"],
    }
    command = [sys.executable, str(ROOT / "examples" / example), *map(str, arguments[example])]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    (written,) = tmp_path.iterdir()
    content = written.read_bytes()
    assert content.startswith(b"\x89PNG") or content.startswith(b"file,valence,arousal\nsong.wav,")


@pytest.mark.slow
def test_the_example_with_a_device_prints_predictions_and_ends(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "music.wav", music(30.0), RATE_HZ)
    command = [sys.executable, str(ROOT / "examples" / "microphone.py")]
    with contextlib.closing(start_sound_server()) as server:
        server.play(tmp_path / "music.wav")
        run = subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE, text=True)
        try:
            assert run.stdout is not None
            assert [run.stdout.readline().split()[0] for _ in range(3)] == ["valence"] * 3
        finally:
            run.send_signal(signal.SIGINT)
            code = run.wait(30)
    assert code == 0
