"""Pictures and videos of a take, decoded again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from drawing import require_qt, rgb
from live_runs import DISPLAY_VARIABLES
from recordings import RATE_HZ, SETTINGS, SHA256, capture
from windows import ROOT, TIMEOUT_S

from realtime_mer.cli import main
from realtime_mer.errors import OutputError, UsageError
from realtime_mer.recording import Beginning
from realtime_mer.recording.reader import Recording, read_recording
from realtime_mer.recording.recorder import Recorder
from realtime_mer.types import FloatArray, Prediction
from realtime_mer.updates import Update
from realtime_mer.viewer.command import Wish, check_wish, export, moment_of
from realtime_mer.viewer.loading import take_of_recording
from realtime_mer.viewer.moments import Take
from realtime_mer.window.theme import DARK
from realtime_mer.window.trail import Trail

SIDE_PX = 480
# Where the recording begins in its run, and what happens when, from there on.
BEGAN_S, DROP_S, TONE_S, LEAP_S, END_S = 100.0, 0.5, 2.5, 3.0, 6.0
LOW, HIGH = (-0.7, -0.6), (0.8, 0.3)
FRAMES_HZ = 30


def samples() -> tuple[FloatArray, FloatArray]:
    """Silence, and after what was dropped, silence and a tone."""
    before = np.zeros((RATE_HZ, 1), dtype=np.float32)
    n = round((END_S - 1.0 - DROP_S) * RATE_HZ)
    times_s = np.arange(n) / RATE_HZ + 1.0 + DROP_S
    tone = np.where(times_s >= TONE_S, 0.5 * np.sin(2 * np.pi * 1_000 * times_s), 0.0)
    return before, (np.round(tone * 2**15) / 2**15).astype(np.float32)[:, None]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """One that begins in mid-run, with a gap; its point leaps at LEAP_S, and its tone begins at TONE_S."""
    folder = tmp_path_factory.mktemp("made") / "set"
    recorder = Recorder(folder, SETTINGS, "a <b>device</b> & more", SHA256)
    recorder.begin(Beginning(200, BEGAN_S, LOW))
    before, after = samples()
    recorder.capture(capture(before, 3))
    recorder.capture(capture(after, 3, dropped_samples=round(DROP_S * RATE_HZ)))
    for number in range(11):
        time_s = 1.0 + 0.5 * number
        recorder.update(
            Update(200 + number, Prediction(BEGAN_S + time_s, *(LOW if time_s < LEAP_S else HIGH)), False, None)
        )
    recorder.close()
    assert recorder.fault == ""
    return read_recording(folder)


@pytest.fixture(scope="module")
def take(recording: Recording) -> Take:
    require_qt()
    return take_of_recording(recording)


def make(take: Take, path: Path, **wishes: object) -> Path:
    export(Wish(path, **wishes), take, lambda _share: None, threading.Event())  # type: ignore[arg-type]
    return path


def decoded(path: Path, *options: str) -> bytes:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), *options, "pipe:1"]
    return subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT_S).stdout


def probed(path: Path, *options: str) -> list[str]:
    command = ["ffprobe", "-v", "error", *options, "-of", "csv=p=0", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    return [word.strip(",") for word in done.stdout.split()]


def frames_of(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    """Shape (n, height, width, 3)."""
    options = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24")
    return np.frombuffer(decoded(path, *options), dtype=np.uint8).reshape(-1, SIDE_PX, SIDE_PX, 3).astype(np.int16)


def leading_edge(frame: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> float:
    """The rightmost column with much of the point's colour, below the quadrants' names; nan where there is none."""
    yellow = (np.abs(frame[SIDE_PX // 4 :] - rgb(DARK.point)) <= 60).all(axis=2).sum(axis=0)
    columns = np.flatnonzero(yellow >= 4)
    return float(columns[-1]) if len(columns) else np.nan


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "codecs"), [(".mp4", "h264 aac"), (".mkv", "h264 aac"), (".webm", "vp9 opus")])
def test_a_videos_point_and_sound_are_in_time(take: Take, tmp_path: Path, suffix: str, codecs: str) -> None:
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        pytest.skip("no ffmpeg: no videos are made here")
    path = make(take, tmp_path / f"video{suffix}", size_px=(SIDE_PX, SIDE_PX))
    assert sorted(tmp_path.iterdir()) == [path]
    frames = frames_of(path)
    assert len(frames) == round(END_S * FRAMES_HZ)
    edges = [leading_edge(frame) for frame in frames]
    # Before the first prediction there is no point.
    assert np.isnan(edges[: FRAMES_HZ - 1]).all()
    assert not np.isnan(edges[FRAMES_HZ + 1 :]).any()
    low, high = edges[round(2.5 * FRAMES_HZ)], edges[-1]
    assert high - low > 0.6 * SIDE_PX * (HIGH[0] - LOW[0]) / 2

    def expected(time_s: float) -> float:
        trail = Trail(30.0)
        trail.follow(1.0, *LOW, held=False)
        now_s = 1.0
        for step in range(11):
            at_s = 1.0 + 0.5 * step
            if at_s > time_s:
                break
            trail.advance(at_s - now_s)
            now_s = at_s
            trail.follow(at_s, *(LOW if at_s < LEAP_S else HIGH), held=False)
        trail.advance(time_s - now_s)
        point = trail.point
        assert point is not None
        return low + (point[0] - LOW[0]) / (HIGH[0] - LOW[0]) * (high - low)

    for number in range(round(LEAP_S * FRAMES_HZ) - 5, round((LEAP_S + 1.0) * FRAMES_HZ)):
        time_s = number / FRAMES_HZ
        earliest, latest = expected(time_s - 1 / FRAMES_HZ), expected(time_s + 1 / FRAMES_HZ)
        assert earliest - 2.0 <= edges[number] <= latest + 2.0, f"at {time_s:.3f} s"

    sound = np.frombuffer(decoded(path, "-f", "f32le", "-ac", "1", "-ar", "48000"), dtype=np.float32)
    onset_s = int(np.argmax(np.abs(sound) > 0.2)) / 48_000
    assert abs(onset_s - TONE_S) < 1 / FRAMES_HZ
    assert abs(len(sound) / 48_000 - END_S) < 0.1

    # What a player uses: a picture every thirtieth of a second.
    assert probed(path, "-show_entries", "stream=codec_name") == codecs.split()
    times_s = [float(word) for word in probed(path, "-select_streams", "v", "-show_entries", "frame=pts_time")]
    assert times_s[0] == pytest.approx(0.0, abs=0.1)
    assert all(abs(b - a - 1 / FRAMES_HZ) < 2e-3 for a, b in pairwise(times_s))


@pytest.mark.parametrize(("mode", "size"), [("operator", (320, 240)), ("stage", (2560, 1440))])
def test_a_picture_has_the_requested_size(take: Take, tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    from realtime_mer.window.qt import QtGui

    path = make(take, tmp_path / "moment.png", mode=mode, size_px=size)
    image = QtGui.QImage(str(path))
    assert (image.width(), image.height()) == size
    assert path.read_bytes().startswith(b"\x89PNG")
    colours = {image.pixelColor(x, y).name() for x in range(0, size[0], 4) for y in range(0, size[1], 4)}
    assert {DARK.background, DARK.point} <= colours


def test_an_svgs_text_is_text_and_it_looks_like_the_picture(take: Take, tmp_path: Path) -> None:
    from pyqtgraph.Qt import QtSvg

    from realtime_mer.window.qt import QtGui

    path = make(take, tmp_path / "moment.svg", size_px=(1280, 720))
    elements = list(ElementTree.parse(path).iter())
    texts = {"".join(element.itertext()).strip() for element in elements if element.tag.endswith("text")}
    assert {"happy", "valence", "arousal", "+0.80", "+0.30"} <= texts
    assert [element.text for element in elements if element.tag.endswith("title")] == ["a <b>device</b> & more"]

    drawn = QtGui.QImage(1280, 720, QtGui.QImage.Format.Format_RGB32)
    painter = QtGui.QPainter(drawn)
    QtSvg.QSvgRenderer(str(path)).render(painter)
    painter.end()
    expected = QtGui.QImage(str(make(take, tmp_path / "moment.png", size_px=(1280, 720))))
    differences = [
        abs(drawn.pixelColor(x, y).lightness() - expected.pixelColor(x, y).lightness())
        for x in range(0, 1280, 3)
        for y in range(0, 720, 3)
    ]
    assert np.mean(np.array(differences) > 40) < 0.01


def test_a_recording_without_an_update_has_pictures_and_one_without_sound_no_video(tmp_path: Path) -> None:
    require_qt()
    recorder = Recorder(tmp_path / "empty", SETTINGS, "a device", SHA256)
    recorder.close()
    empty = take_of_recording(read_recording(tmp_path / "empty"))
    assert make(empty, tmp_path / "empty.png").stat().st_size > 0
    with pytest.raises(OutputError, match="no sound"):
        make(empty, tmp_path / "empty.mp4")
    recorder = Recorder(tmp_path / "short", SETTINGS, "a device", SHA256)
    recorder.capture(capture(samples()[0]))
    recorder.close()
    short = take_of_recording(read_recording(tmp_path / "short"))
    assert len(frames_of(make(short, tmp_path / "short.mp4", size_px=(SIDE_PX, SIDE_PX)))) == FRAMES_HZ


# What goes wrong


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish(Path("a.gif")), "ends in one of"),
        (Wish(Path("a.mp4"), at_s=1.0), "shows everything"),
        (Wish(Path("a.png"), size_px=(100, 100)), "--size: expected"),
        (Wish(Path("a.png"), size_px=(9000, 900)), "--size: expected"),
        (Wish(Path("a.mp4"), size_px=(641, 480)), "even"),
    ],
)
def test_impossible_wishes_are_refused_before_any_work(wish: Wish, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_wish(wish, Path("nothing"))


def test_the_source_and_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    song = tmp_path / "song.mp4"
    song.write_bytes(b"music")
    with pytest.raises(UsageError, match="overwrite"):
        check_wish(Wish(song), song)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_wish(Wish(tmp_path / "folder.png"), song)
    with pytest.raises(OutputError, match="no folder"):
        check_wish(Wish(tmp_path / "none" / "a.png"), song)
    with pytest.raises(OutputError, match="too long"):
        check_wish(Wish(tmp_path / f"{'a' * 300}.png"), song)


def test_a_moment_outside_the_take_is_refused(take: Take) -> None:
    assert moment_of(BEGAN_S + END_S + 0.0004, take, default_s=0.0) == BEGAN_S + END_S
    assert moment_of(None, take, default_s=101.0) == 101.0
    with pytest.raises(UsageError, match=r"expected 100\.000 to 106\.000 s"):
        moment_of(3.0, take, default_s=0.0)


def fake_ffmpeg(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    program = folder / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_without_ffmpeg_the_message_says_how_to_install_it(
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OutputError, match="there is no ffmpeg"):
        make(take, tmp_path / "a.mp4")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'No space left on device' >&2; exit 1", "ffmpeg reports: No space left on device"),
        ("head -c 1000 > /dev/null; printf 'a\\033[31mb.\\n' >&2; exit 3", r"ffmpeg reports: a\?\[31mb\."),
        ("cat > /dev/null; exit 7", "it ended with 7"),
    ],
)
def test_if_ffmpeg_fails_its_message_is_shown_and_nothing_is_left(
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"the video of yesterday")
    fake_ffmpeg(monkeypatch, tmp_path, f'for last; do :; done\necho part > "${{last#file:}}"\n{script}')
    with pytest.raises(OutputError, match=message):
        make(take, tmp_path / "a.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "bin"]
    assert (tmp_path / "a.mp4").read_bytes() == b"the video of yesterday"


@pytest.mark.slow
def test_ctrl_c_ends_it_and_leaves_nothing(recording: Recording, tmp_path: Path) -> None:
    """In a process of its own, in the middle of the pictures."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg: no videos are made here")
    out = tmp_path / "a.mkv"
    command = [sys.executable, "-m", "realtime_mer", "view", str(recording.directory), "--export", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    give_up_s = time.monotonic() + TIMEOUT_S
    # The second part is that of the pictures.
    while len(list(tmp_path.glob(".*.part"))) < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < give_up_s
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert not any(tmp_path.iterdir())


# The command


def test_the_command_writes_a_picture_and_reports_mistakes(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_qt()
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    out = tmp_path / "a.svg"
    source = str(recording.directory)
    assert main(["view", source, "--export", str(out), "--at", "103", "--mode", "stage", "--size", "640x360"]) == 0
    assert b"<svg" in out.read_bytes()[:500]
    assert main(["view", source, "--export", str(out), "--at", "5"]) == 2
    assert "--at: expected 100.000 to 106.000 s" in capsys.readouterr().err
    assert main(["view", str(tmp_path / "none"), "--export", str(out)]) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert main(["view", str(tmp_path), "--export", str(out)]) == 1
    assert "recording.json is missing" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["view", source, "--size", "big"])
    assert "expected a size such as 1920x1080" in capsys.readouterr().err


def test_without_a_display_the_window_is_refused_and_the_export_named(
    recording: Recording, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in DISPLAY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if sys.platform in ("win32", "darwin"):
        pytest.skip("there is always a display")
    assert main(["view", str(recording.directory)]) == 1
    errors = capsys.readouterr().err
    assert "There is no display" in errors
    assert "--export" in errors
