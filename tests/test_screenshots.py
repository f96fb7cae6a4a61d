"""The command that makes the pictures in docs/."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from drawing import require_qt
from windows import ROOT, TIMEOUT_S, bare_environment

from benchmarks import screenshots
from benchmarks.offscreen import PIXEL_FOR_PIXEL, recognise
from benchmarks.screenshots import PICTURES, SIZE_PX
from realtime_mer.updates import LevelState

pytestmark = pytest.mark.slow
RATE_HZ = 22_050


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of a chord that swells and fades, with some noise."""
    time_s = np.arange(4 * RATE_HZ) / RATE_HZ
    chord = sum((np.sin(2 * np.pi * pitch_hz * time_s) for pitch_hz in (220.0, 277.2, 329.6)), start=np.zeros(()))
    noise = np.random.default_rng(1).normal(0.0, 0.1, time_s.shape)
    path = tmp_path_factory.mktemp("song") / "chord.wav"
    soundfile.write(path, 0.1 * (chord + noise) * (1.2 + np.sin(3.0 * time_s)), RATE_HZ)
    return path


def test_songs_are_processed_as_in_a_live_run(song: Path) -> None:
    recognised = recognise([song, song], silence_s=2.5, longest_s=3.0)
    assert recognised.length_s == pytest.approx(8.5)
    assert [update.index for update in recognised.updates] == list(range(len(recognised.updates)))
    times_s = [update.time_s for update in recognised.updates]
    # Each song starts afresh, with its first prediction after a second.
    assert times_s == sorted(times_s)
    assert [time_s for time_s in times_s if 3.0 < time_s < 4.0] == []
    assert [update.held for update in recognised.updates][-1]
    assert not any(update.held for update in recognised.updates if update.time_s <= 6.0)
    statuses = recognised.statuses
    assert len(statuses) == 85
    assert {status.source for status in statuses} == {"chord.wav"}
    levels = [status.level for status in statuses if status.level is not None]
    assert levels[30].state is LevelState.MUSIC
    assert levels[-1].state is LevelState.SILENCE


def test_the_pictures_are_made_and_differ(song: Path, tmp_path: Path) -> None:
    require_qt()
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.screenshots", song, "--output", tmp_path],
        cwd=ROOT,
        env=bare_environment(QT_QPA_PLATFORM="nothing"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    paths = [tmp_path / f"{picture.name}.png" for picture in PICTURES]
    assert [line.partition(":")[0] for line in run.stdout.splitlines()] == [str(path) for path in paths]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert all(path.stat().st_size < 150_000 for path in paths)
    pixels = {path.stem: pixels_of(path) for path in paths}
    assert {picture.shape for picture in pixels.values()} == {(SIZE_PX[1], SIZE_PX[0], 3)}
    # Of a million pixels, a trail and a few words are some thousands.
    for one, other in itertools.combinations(pixels, 2):
        assert np.any(pixels[one] != pixels[other], axis=2).sum() > 2_000, f"{one} looks like {other}"
    for name, picture in pixels.items():
        assert (picture[2, 2].mean() > 128) == name.endswith("-light")
    # On the stage, there is nothing beside the plane.
    for name, picture in pixels.items():
        right = picture[:, -200:]
        assert bool((right == right[0, 0]).all()) == name.startswith("stage")


def test_errors_are_reported(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_qt()
    for name in ("QT_QPA_PLATFORM", *PIXEL_FOR_PIXEL):
        monkeypatch.setenv(name, "")
    for arguments, message in (
        ([tmp_path / "no.wav"], f"error: {tmp_path / 'no.wav'}"),
        ([song, "--output", tmp_path / "no"], f"error: {tmp_path / 'no'} is not a folder"),
    ):
        monkeypatch.setattr(sys, "argv", ["screenshots", *map(str, arguments)])
        assert screenshots.main() == 1
        assert capsys.readouterr().err.startswith(message)


def pixels_of(path: Path) -> npt.NDArray[np.uint8]:
    """Red, green and blue of each, shape (height, width, 3)."""
    from realtime_mer.window.qt import QtGui

    image = QtGui.QImage(str(path)).convertToFormat(QtGui.QImage.Format.Format_RGB888)
    bits = image.constBits()
    assert bits is not None
    rows = np.frombuffer(bits.asstring(image.sizeInBytes()), dtype=np.uint8).reshape(image.height(), -1)
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3)
