"""Recordings: what was heard and predicted comes back bit for bit; what goes wrong is said, and stops nothing else."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from checkpoints import music, small_checkpoint
from fake_clock import install_clock, read_all, sound_of
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_mer import __version__, recording
from realtime_mer.config import LevelMeterSettings, LiveSettings
from realtime_mer.recording import (
    Recorder,
    Recording,
    RecordingError,
    ReplayCheck,
    read_recording,
    read_segment,
)
from realtime_mer.session import Session
from realtime_mer.sources import Capture, Source, SourceError
from realtime_mer.sources.grid import on_grid
from realtime_mer.sources.recording import RecordingSource
from realtime_mer.status import InputLevel, LevelState, Sink, SourceState, Status, Update
from realtime_mer.types import FloatArray

ROOT = Path(__file__).resolve().parents[1]
RATE_HZ = 8_000
SHA256 = "0123456789abcdef" * 4
SETTINGS = LiveSettings(level=LevelMeterSettings(silence_db=-55.5))


def noise(n_samples: int, n_channels: int = 1, seed: int = 0) -> FloatArray:
    """Samples on the 24-bit grid, the lowest and the highest among them."""
    values = np.random.default_rng(seed).integers(-(2**23), 2**23, (n_samples, n_channels))
    values[: n_samples // 2][values[: n_samples // 2] > 2**22] = 2**23 - 1
    values[: n_samples // 2][values[: n_samples // 2] < -(2**22)] = -(2**23)
    return (values / 2**23).astype(np.float32)


def capture(samples: FloatArray, segment: int = 0, rate_hz: int = RATE_HZ, dropped_samples: int = 0) -> Capture:
    return Capture(samples, rate_hz, segment, dropped_samples, 123.0)


def update(index: int, valence: float = 0.25, arousal: float = -0.5, *, held: bool = False) -> Update:
    return Update(index, 1.0 + 0.5 * index, valence, arousal, held, 0.1)


def recorder_into(directory: Path) -> Recorder:
    return Recorder(directory, SETTINGS, "some device", SHA256)


def record(directory: Path, captures: list[Capture], updates: list[Update] | None = None) -> Recording:
    """A whole recording of these."""
    recorder = recorder_into(directory)
    for one in captures:
        recorder.heard(one)
    for one_update in updates or []:
        recorder.update(one_update)
    recorder.close()
    assert recorder.fault == ""
    return read_recording(directory)


def replayed(of: Recording) -> list[Capture]:
    source = RecordingSource(of, fast=True)
    source.start()
    captures = read_all(source)
    assert source.state == SourceState.ENDED
    return captures


def essence(captures: list[Capture]) -> list[tuple[int, int, bytes, tuple[int, ...], dict[int, int]]]:
    """What must not change, however it is cut: each segment's number, rate, samples and where how much was dropped."""
    segments: dict[tuple[int, int], tuple[list[FloatArray], dict[int, int]]] = {}
    for one in captures:
        pieces, drops = segments.setdefault((one.segment, one.rate_hz), ([], {}))
        if one.dropped_samples:
            position = sum(map(len, pieces))
            drops[position] = drops.get(position, 0) + one.dropped_samples
        pieces.append(one.samples)
    return [
        (segment, rate_hz, samples.tobytes(), samples.shape, drops)
        for (segment, rate_hz), (pieces, drops) in segments.items()
        if len(samples := np.concatenate(pieces)) or drops
    ]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---- what comes back ------------------------------------------------------------------------------------------------


@st.composite
def streams(draw: st.DrawFn) -> list[Capture]:
    """Some segments of captures, each segment with its own rate and channels, some captures after a drop."""
    captures = []
    segment = -1
    for _ in range(draw(st.integers(1, 3))):
        segment += draw(st.integers(1, 3))
        rate_hz = draw(st.sampled_from([8_000, 11_025, 44_100, 48_000, 96_000, 384_000]))
        n_channels = draw(st.integers(1, 8))
        for n_samples in draw(st.lists(st.sampled_from([0, 1, 7, 64, 441, 4_096, 9_001]), min_size=1, max_size=6)):
            samples = noise(n_samples, n_channels, draw(st.integers(0, 99)))
            dropped_samples = draw(st.sampled_from([0, 0, 1, 480, 10**9]))
            captures.append(capture(samples, segment, rate_hz, dropped_samples))
    return captures


@settings(max_examples=50)
@given(streams())
def test_sound_comes_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, captures: list[Capture]) -> None:
    recorded = record(tmp_path_factory.mktemp("sound") / "recording", captures)
    again = replayed(recorded)
    assert essence(again) == essence(captures)
    assert {one.captured_s for one in again} <= {None}
    assert recorded.fault == ""


def test_every_24_bit_value_comes_back(tmp_path: Path) -> None:
    """Those at both ends, at every power of two, and beside each of these."""
    steps = sorted({s * 2**e + d for s in (-1, 1) for e in range(24) for d in (-1, 0, 1)})
    values = np.array([step for step in steps if -(2**23) <= step < 2**23])
    samples = (values / 2**23).astype(np.float32)[:, np.newaxis]
    assert (samples[0, 0], samples[-1, 0]) == (-1.0, 1.0 - 2.0**-23)
    (again,) = replayed(record(tmp_path / "recording", [capture(samples)]))
    np.testing.assert_array_equal(again.samples, samples, strict=True)


numbers = st.floats(-1.0, 1.0)


@given(st.lists(st.tuples(numbers, numbers, st.booleans(), st.floats(0.0, 10.0)), max_size=20))
def test_predictions_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float, float, bool, float]]
) -> None:
    updates: list[Update] = []
    time_s = 0.1
    for valence, arousal, held, step_s in values:
        time_s += step_s
        updates.append(Update(len(updates), time_s, valence, arousal, held, 0.25))
    recorded = record(tmp_path_factory.mktemp("predictions") / "recording", [], updates)
    assert [replace(one, latency_s=None) for one in updates] == list(recorded.updates)
    signs = [math.copysign(1.0, one.valence) for one in recorded.updates]
    assert signs == [math.copysign(1.0, one.valence) for one in updates], "minus zero too"


def test_numpys_numbers_are_written_as_plain_ones(tmp_path: Path) -> None:
    odd = Update(0, 1.0, np.float32(0.1), np.float64(-0.1), False, None)  # type: ignore[arg-type]
    assert list(record(tmp_path / "recording", [], [odd]).updates) == [
        Update(0, 1.0, float(np.float32(0.1)), -0.1, False, None)
    ]


def test_what_is_in_the_folder(tmp_path: Path) -> None:
    """As other programs read it."""
    before = datetime.now().astimezone()
    directory = tmp_path / "new" / "recording"
    recorder: Sink = recorder_into(directory)
    assert isinstance(recorder, Recorder)
    assert recorder.directory == directory
    stereo, eight = noise(5_000, 2), noise(700, 8)
    music_level = InputLevel(-3.0, -20.0, LevelState.MUSIC)
    status = Status("some device", SourceState.OPENING)
    recorder.status(status)
    recorder.heard(capture(stereo[:1_000], 0, 44_100))
    recorder.heard(capture(stereo[1_000:], 0, 44_100, 480))
    for time_s in (0.1, 0.2):
        recorder.status(replace(status, state=SourceState.RUNNING, time_s=time_s, level=music_level))
    recorder.update(update(0))
    lost = 'It is "gone",\nfor now. \ud800'
    recorder.status(replace(status, state=SourceState.LOST, time_s=0.25, level=music_level, detail=lost))
    recorder.heard(capture(eight, 2, 96_000))
    recorder.update(update(1, 1 / 3, held=True))
    recorder.close()
    recorder.close()
    assert sorted(path.name for path in directory.iterdir()) == [
        "audio-000.flac",
        "audio-002.flac",
        "drops.csv",
        "events.csv",
        "predictions.csv",
        "recording.json",
        "settings.toml",
    ]
    for name, samples, rate_hz in (("audio-000.flac", stereo, 44_100), ("audio-002.flac", eight, 96_000)):
        info = soundfile.info(directory / name)
        assert (info.format, info.subtype, info.samplerate, info.channels) == (
            "FLAC",
            "PCM_24",
            rate_hz,
            samples.shape[1],
        )
        pcm, _ = soundfile.read(directory / name, dtype="int32", always_2d=True)
        np.testing.assert_array_equal(pcm / 2**31, samples)
    assert rows_of(directory / "drops.csv") == [{"segment": "0", "at_sample": "1000", "dropped_samples": "480"}]
    assert (directory / "predictions.csv").read_text() == (
        "index,time_s,valence,arousal,held\n0,1.0,0.25,-0.5,false\n1,1.5,0.3333333333333333,-0.5,true\n"
    )
    events = rows_of(directory / "events.csv")
    assert [(e["time_s"], e["state"], e["level"], e["detail"]) for e in events] == [
        ("0.000", "opening", "", ""),
        ("0.100", "running", "music", ""),
        ("0.250", "lost", "music", 'It is "gone", for now. \\ud800'),
    ]
    assert all(before.replace(microsecond=0) <= datetime.fromisoformat(e["time_of_day"]) for e in events)
    assert json.loads((directory / "recording.json").read_text())["segments"][1] == {
        "segment": 2,
        "rate_hz": 96_000,
        "channels": 8,
        "samples": 700,
    }
    recorded = read_recording(directory)
    assert recorded.settings == SETTINGS
    assert (recorded.source, recorded.checkpoint_sha256, recorded.realtime_mer_version) == (
        "some device",
        SHA256,
        __version__,
    )
    assert datetime.fromisoformat(recorded.started) >= before.replace(microsecond=0)
    assert [segment.n_samples for segment in recorded.segments] == [5_000, 700]


def test_a_recording_of_nothing_is_one_too(tmp_path: Path) -> None:
    recorded = record(tmp_path / "recording", [])
    assert (recorded.segments, recorded.updates, recorded.fault) == ((), (), "")
    assert replayed(recorded) == []


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "recording").mkdir()
    assert len(record(tmp_path / "recording", [capture(noise(10))]).segments) == 1


def test_a_recording_is_on_the_disk_before_its_end(tmp_path: Path) -> None:
    recorder = recorder_into(tmp_path / "recording")
    samples = noise(50_000)
    recorder.heard(capture(samples))
    recorder.update(update(0))
    wait_until(lambda: "0,1.0" in (tmp_path / "recording" / "predictions.csv").read_text())
    recorded = read_recording(tmp_path / "recording")
    assert recorded.fault == "The recording was cut off: realtime-mer did not come to its end."
    heard = sound_of(replayed(recorded))
    assert len(heard) >= len(samples) - 3 * 4_096
    np.testing.assert_array_equal(heard, samples[: len(heard)])
    recorder.close()


def wait_until(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < give_up_s, "it never came to that"
        time.sleep(0.01)


# ---- through the whole session ----------------------------------------------------------------------------------


def session_updates(captures: list[Capture], *sinks: Sink, recorder: Recorder | None = None) -> list[Update]:
    """What the live path makes of these, as realtime_mer.live does it."""
    session = Session(small_checkpoint(), SETTINGS.level)
    updates: list[Update] = []

    def send(new: list[Update]) -> None:
        updates.extend(new)
        for sink in sinks:
            for one in new:
                sink.update(one)

    for one in captures:
        if recorder is not None:
            recorder.heard(one)
        send(session.hear(one))
        send(session.wait(0.0))
    send(session.end_segment())
    return updates


def test_a_replay_gives_the_same_predictions(tmp_path: Path) -> None:
    """Segments of two rates, silence, a drop, ragged pieces."""
    captures = []
    for segment, rate_hz, n_channels in ((0, 44_100, 1), (1, 48_000, 2)):
        samples = np.concatenate(
            [music(1.8, rate_hz, n_channels), np.zeros((rate_hz * 3 // 2, n_channels)), music(1.0, rate_hz, n_channels)]
        )
        gridded, _ = on_grid(samples.reshape(-1, n_channels).astype(np.float32))
        position = 0
        for i in range(10_000):
            if position >= len(gridded):
                break
            n_samples = (1, 441, 1024, 4410, 7919)[i % 5]
            captures.append(
                capture(gridded[position : position + n_samples], segment, rate_hz, 4_410 if i == 12 else 0)
            )
            position += n_samples
    recorder = recorder_into(tmp_path / "recording")
    updates = session_updates(captures, recorder, recorder=recorder)
    recorder.close()
    recorded = read_recording(tmp_path / "recording")
    check = ReplayCheck(recorded)
    assert len(updates) > 10
    assert {one.held for one in updates} == {False, True}
    session_updates(replayed(recorded), check)
    assert check.identical, check.verdict()
    assert check.verdict() == f"All {len(updates)} predictions that were compared are identical to the recorded ones."
    other = ReplayCheck(recorded)
    session_updates([replace(one, samples=one.samples * np.float32(0.5)) for one in replayed(recorded)][1:], other)
    assert not other.identical, "other sound gives others"


# ---- what goes wrong while recording ----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a megabyte."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount a small disk")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_stops_the_recording_and_nothing_else(small_disk: Path) -> None:
    directory = small_disk / "recording"
    recorder = recorder_into(directory)
    samples = noise(30 * RATE_HZ, 2)
    for i in range(30):
        if i == 10:
            # Until here, there was room.
            wait_until(lambda: "9,5.5" in (directory / "predictions.csv").read_text())
            assert recorder.fault == ""
        recorder.heard(capture(samples[i * RATE_HZ : (i + 1) * RATE_HZ], 0, 2 * RATE_HZ))
        recorder.update(update(i))
    wait_until(lambda: recorder.fault != "")
    recorder.heard(capture(samples[:RATE_HZ], 0, 2 * RATE_HZ))
    recorder.update(update(30))
    recorder.close()
    stopped = re.fullmatch(
        r"The recording stopped after (\S+) s of sound: No space left on device\. "
        r"What it holds until then can be replayed\.",
        recorder.fault,
    )
    assert stopped is not None
    assert float(stopped[1]) + recorder.lost_s == pytest.approx(15.5, abs=0.06)
    recorded = read_recording(directory)
    assert recorded.fault != ""
    heard = sound_of(replayed(recorded))
    assert len(heard) >= 10 * RATE_HZ - 3 * 4_096
    np.testing.assert_array_equal(heard, samples[: len(heard)])
    assert len(recorded.updates) >= 10
    assert list(recorded.updates) == [replace(update(i), latency_s=None) for i in range(len(recorded.updates))]


def test_a_file_that_may_not_grow_stops_the_recording(tmp_path: Path) -> None:
    """As a quota does: in a process of its own, whose files may have 100 kB."""
    code = f"""
import resource, sys; sys.path.insert(0, "tests")
from test_recording import *
recorder = recorder_into(Path({str(tmp_path / "recording")!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
recorder.heard(capture(noise(80_000, 2)))
recorder.update(update(0))
recorder.close()
print(recorder.fault, recorder.lost_s)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("The recording stopped after 0.0 s of sound: File too large. ")
    assert run.stdout.endswith(" 10.0\n")
    recorded = read_recording(tmp_path / "recording")
    assert recorded.fault.startswith("The recording stopped")
    heard = sound_of(replayed(recorded))
    assert len(heard) > 4_096
    np.testing.assert_array_equal(heard, noise(80_000, 2)[: len(heard)])


@pytest.mark.parametrize("gone", ["audio-000.flac", "predictions.csv", "the folder"])
def test_a_recording_that_is_taken_away_says_so(tmp_path: Path, gone: str) -> None:
    """On Linux, writing into a file that was removed goes well."""
    directory = tmp_path / "recording"
    audio = directory / "audio-000.flac"
    recorder = recorder_into(directory)
    recorder.heard(capture(noise(20_000)))
    wait_until(lambda: audio.is_file() and audio.stat().st_size > 0)
    if gone == "the folder":
        shutil.rmtree(directory)
    else:
        (directory / gone).unlink()
    wait_until(lambda: recorder.fault != "")
    recorder.heard(capture(noise(RATE_HZ)))
    recorder.update(update(0))
    recorder.close()
    name = "audio-000.flac" if gone == "the folder" else gone
    assert f"of sound: {name} was removed. " in recorder.fault
    assert recorder.lost_s == 1.0


def test_a_disk_that_is_too_slow_makes_nobody_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken before is recorded; from the first loss on nothing is, or a replay would hear something else."""
    free, blocked = threading.Event(), threading.Event()
    write = recording._Folder.write

    def slow_write(folder: Any, entry: Any) -> None:
        blocked.set()
        assert free.wait(30.0)
        write(folder, entry)

    monkeypatch.setattr(recording._Folder, "write", slow_write)
    recorder = recorder_into(tmp_path / "recording")
    samples = noise(40 * RATE_HZ)
    for i in range(40):
        recorder.heard(capture(samples[i * RATE_HZ : (i + 1) * RATE_HZ]))
        recorder.update(update(i))
        if i == 19:
            assert recorder.fault == "", "20 s of sound may wait"
    assert blocked.wait(30.0)
    assert recorder.fault.startswith("The recording stopped after 20.0 s of sound: the disk is too slow. ")
    assert recorder.lost_s == 20.0
    free.set()
    recorder.close()
    recorded = read_recording(tmp_path / "recording")
    assert recorded.fault == recorder.fault
    np.testing.assert_array_equal(sound_of(replayed(recorded)), samples[: 20 * RATE_HZ])
    assert len(recorded.updates) == 20


def test_entries_without_sound_are_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(recording, "_QUEUE_ENTRIES", 100)
    monkeypatch.setattr(recording._Folder, "write", lambda *_: free.wait(30.0))
    recorder = recorder_into(tmp_path / "recording")
    for i in range(100):
        recorder.update(update(i))
    assert recorder.fault == ""
    recorder.status(Status("some device", SourceState.LOST))
    assert "the disk is too slow" in recorder.fault
    free.set()
    recorder.close()


def test_a_disk_that_hangs_keeps_nobody_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(recording, "_CLOSE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(recording._Folder, "write", lambda *_: free.wait(30.0))
    recorder = recorder_into(tmp_path / "recording")
    recorder.heard(capture(noise(10)))
    recorder.close()
    assert "the disk did not take its end" in recorder.fault
    free.set()


@pytest.mark.parametrize(
    ("unusable", "reason"),
    [
        (capture(noise(100), 0, 65_537), "Error : "),
        (capture(noise(100), 0, 768_000), ""),
        (capture(noise(100) * np.float32(1.0 / 3.0)), "a sample was not one of the 24-bit values"),
        (capture(np.ones((10, 1), dtype=np.float32)), "a sample was not one of the 24-bit values"),
        (capture(np.full((10, 1), np.nan, dtype=np.float32)), "a sample was not one of the 24-bit values"),
        (capture(noise(10, 9)), ""),
    ],
)
def test_sound_that_flac_cannot_hold_stops_the_recording(tmp_path: Path, unusable: Capture, reason: str) -> None:
    recorder = recorder_into(tmp_path / "recording")
    recorder.heard(unusable)
    recorder.close()
    assert recorder.fault.startswith(f"The recording stopped after 0.0 s of sound: {reason}")
    assert recorder.lost_s == pytest.approx(len(unusable.samples) / unusable.rate_hz)


def test_a_process_that_is_killed_leaves_what_it_wrote(tmp_path: Path) -> None:
    code = f"""
import sys, time; sys.path.insert(0, "tests")
from test_recording import *
recorder = recorder_into(Path({str(tmp_path / "recording")!r}))
recorder.heard(capture(noise(30_000, 2), 0))
recorder.heard(capture(noise(50_000, 3), 1, dropped_samples=99))
recorder.update(update(0))
wait_until(lambda: "0,1.0" in (recorder.directory / "predictions.csv").read_text())
print("written", flush=True)
time.sleep(60)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    recorded = read_recording(tmp_path / "recording")
    assert recorded.fault == "The recording was cut off: realtime-mer did not come to its end."
    assert [segment.n_samples for segment in recorded.segments] == [30_000, None]
    captures = replayed(recorded)
    second = [one for one in captures if one.segment == 1]
    np.testing.assert_array_equal(sound_of([one for one in captures if one.segment == 0]), noise(30_000, 2))
    np.testing.assert_array_equal(sound_of(second), noise(50_000, 3)[: len(sound_of(second))])
    assert len(sound_of(second)) >= 50_000 - 3 * 4_096
    assert second[0].dropped_samples == 99
    assert list(recorded.updates) == [replace(update(0), latency_s=None)]


# ---- folders that cannot be used --------------------------------------------------------------------------------


def test_a_folder_that_is_not_empty_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "recording").mkdir()
    (tmp_path / "recording" / "recording.json").write_text("precious")
    with pytest.raises(RecordingError, match="is not empty, and nothing in it is overwritten: name a new one"):
        recorder_into(tmp_path / "recording")
    assert [path.read_text() for path in (tmp_path / "recording").iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file", "is a file; a recording needs a folder of its own"),
        ("file/recording", "cannot be recorded into: Not a directory"),
        ("a" * 300, "cannot be recorded into: File name too long"),
    ],
)
def test_where_there_can_be_no_folder(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match=message) as raised:
        recorder_into(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))


# ---- recordings that cannot be used -----------------------------------------------------------------------------

Change = Callable[[Path], object]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    captures = [
        capture(noise(6_000, 2)),
        capture(noise(2_000, 2), 0, dropped_samples=480),
        capture(noise(100), 3, dropped_samples=1),
    ]
    return record(tmp_path / "recording", captures, [update(0), update(1), update(2, held=True)]).directory


def replaced(name: str, old: str, new: str) -> Change:
    def change(directory: Path) -> None:
        content = (directory / name).read_text(encoding="utf-8")
        assert old in content
        (directory / name).write_text(content.replace(old, new, 1), encoding="utf-8")

    return change


def facts(**entries: object) -> Change:
    def change(directory: Path) -> None:
        values = json.loads((directory / "recording.json").read_text())
        (directory / "recording.json").write_text(json.dumps(values | entries))

    return change


def segment_facts(i: int, **entries: object) -> Change:
    def change(directory: Path) -> None:
        values = json.loads((directory / "recording.json").read_text())
        values["segments"][i] |= entries
        (directory / "recording.json").write_text(json.dumps(values))

    return change


def removed(name: str) -> Change:
    return lambda directory: (directory / name).unlink()


def content(name: str, new: bytes) -> Change:
    return lambda directory: (directory / name).write_bytes(new)


def no_file(name: str) -> Change:
    def change(directory: Path) -> None:
        (directory / name).unlink()
        os.mkfifo(directory / name)

    return change


def other_flac(directory: Path) -> None:
    soundfile.write(directory / "audio-003.flac", noise(100), RATE_HZ, subtype="PCM_16")


DEFECTS: list[tuple[Change, str]] = [
    *((removed(name), f"{name} is missing") for name in ("settings.toml", "recording.json", "drops.csv")),
    *((no_file(name), f"{name} is missing") for name in ("settings.toml", "recording.json", "predictions.csv")),
    (removed("audio-003.flac"), "audio-003.flac is missing"),
    (no_file("audio-000.flac"), "audio-000.flac is missing"),
    (content("audio-000.flac", b"no sound"), "audio-000.flac cannot be read"),
    (content("audio-000.flac", b""), "audio-000.flac cannot be read"),
    (other_flac, "audio-003.flac is not the file that recording.json says"),
    (content("recording.json", b"{"), "recording.json is no usable JSON"),
    (content("recording.json", b"[" * 100_000), "recording.json is no usable JSON"),
    (content("recording.json", b'{"format_version": ' + b"9" * 5_000 + b"}"), "recording.json is no usable JSON"),
    (content("recording.json", b"[]"), "recording.json holds no object"),
    (content("recording.json", b"{}"), "recording.json has no format_version"),
    (content("recording.json", b"\xff"), "recording.json is no text in UTF-8"),
    (facts(format_version=2), f"it has the format version 2, but realtime-mer {__version__} reads 1"),
    (facts(format_version=True), "format_version is of the type bool, not int"),
    (facts(whole=1), "whole is of the type int, not bool"),
    (facts(fault="But why?"), "says that it is whole, and that it is not"),
    (facts(checkpoint_sha256="../../etc"), "checkpoint_sha256 is no SHA-256"),
    (facts(source=None), "source is of the type NoneType, not str"),
    (facts(segments={}), "segments is of the type dict, not list"),
    (facts(segments=[1]), "each of its segments has segment, rate_hz, channels, samples, and no more"),
    (segment_facts(0, path="/etc/passwd"), "each of its segments has"),
    (segment_facts(0, segment="../0"), "segment of a segment is a whole number from 0 to 1000000"),
    (segment_facts(0, segment=-1), "segment of a segment is a whole number"),
    (segment_facts(1, segment=10**300), "segment of a segment is a whole number"),
    (segment_facts(1, segment=0, channels=2, samples=8_000), "its segments are not in order"),
    (segment_facts(0, rate_hz=0), "rate_hz of a segment is a whole number from 1 to 655350"),
    (segment_facts(0, rate_hz=RATE_HZ + 1), "audio-000.flac is not the file"),
    (segment_facts(0, channels=9), "channels of a segment is a whole number from 1 to 8"),
    (segment_facts(0, channels=1), "audio-000.flac is not the file"),
    (segment_facts(0, samples=8_001), "audio-000.flac is not the file"),
    (segment_facts(0, samples=1.5), "samples of a segment is a whole number"),
    (segment_facts(0, samples=None), "can be cut off"),
    (segment_facts(1, samples=None), "can be cut off"),
    (segment_facts(0, samples=0), "the segment 0 ends before its last drop"),
    (content("settings.toml", b"[level]\nloud = 1.0\n"), "level.loud"),
    (replaced("predictions.csv", "index,", "number,"), "predictions.csv does not begin with index,time_s"),
    (content("predictions.csv", b""), "predictions.csv does not begin with"),
    (replaced("predictions.csv", "1,1.5,0.25,-0.5,false\n", ""), "line 3: its index is 2, where 1 is next"),
    (replaced("predictions.csv", "1,1.5,", "1;1.5,"), "line 3: it has 4 fields"),
    (replaced("predictions.csv", "1,1.5,", "1,0.5,"), "line 3: times rise"),
    (replaced("predictions.csv", "0.25", "1.25"), "line 2: times rise, valence and arousal lie in -1 to 1"),
    (replaced("predictions.csv", "-0.5", "-1.5"), "line 2: times rise, valence and arousal lie in -1 to 1"),
    (replaced("predictions.csv", "true", "yes"), "line 4: .* held is true or false"),
    *(
        (replaced("predictions.csv", "0.25", text), "line 2: .* is no number as a recording has them")
        for text in ("nan", "inf", "0.250", "0_1.0", " 0.25", "", "loud", "0x1p-2", "\x1b[2J")
    ),
    *(
        (replaced("predictions.csv", "\n0,1.0", f"\n{text},1.0"), "line 2: .* is no whole number")
        for text in ("", "00", "-0", "0.0", "٣", "9" * 10_000)
    ),
    (replaced("predictions.csv", "true\n", "true"), "predictions.csv breaks off in its last line"),
    (replaced("drops.csv", "0,6000,480", "1,6000,480"), "drops.csv, line 2: there is no segment 1"),
    (replaced("drops.csv", "0,6000,480", "0,9000,480"), "the segment 0 ends before its last drop"),
    (replaced("drops.csv", "0,6000,480", "0,6000,0"), "line 2: the drops are not in order, or empty"),
    (replaced("drops.csv", "\n3,", "\n0,5999,1\n3,"), "line 3: the drops are not in order, or empty"),
    (replaced("drops.csv", "480", "1000000000000001"), "line 2: .* is no whole number"),
]


@pytest.mark.parametrize(("change", "message"), DEFECTS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_defect_is_told(good: Path, change: Change, message: str) -> None:
    read_recording(good)
    change(good)
    with pytest.raises(RecordingError, match=message) as raised:
        read_recording(good)
    assert str(raised.value).startswith(f"The recording {good} cannot be used: ")
    assert str(raised.value).isprintable()


def test_what_is_too_large_is_not_read(good: Path) -> None:
    for name in ("predictions.csv", "recording.json"):
        with (good / name).open("r+b") as file:
            file.truncate(2**40)
        with pytest.raises(RecordingError, match=f"{name} is larger than"):
            read_recording(good)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be used: there is no such folder"):
        read_recording(tmp_path / "recording")
    with pytest.raises(RecordingError, match="cannot be used: File name too long"):
        read_recording(tmp_path / ("a" * 300))


def test_texts_from_a_recording_do_nothing_to_a_terminal(good: Path) -> None:
    facts(source="\x1b[2Jdevice\n", whole=False, fault="\x07why")(good)
    recorded = read_recording(good)
    assert (recorded.source, recorded.fault) == ("?[2Jdevice?", "?why")
    facts(source="long" * 10**5)(good)
    assert len(read_recording(good).source) == 200


@pytest.mark.parametrize("kept", [0, 3, 30, 60])
def test_a_table_that_a_full_disk_broke_off_is_read_as_far_as_it_goes(good: Path, kept: int) -> None:
    facts(whole=False)(good)
    path = good / "predictions.csv"
    path.write_bytes(path.read_bytes()[:kept])
    assert len(read_recording(good).updates) == (1 if kept == 60 else 0)


def test_drops_beyond_what_was_cut_off_are_left_out(good: Path) -> None:
    facts(whole=False)(good)
    segment_facts(1, samples=None)(good)
    with (good / "drops.csv").open("a") as file:
        file.write("3,5000,7\n4,0,7\n")
    (last,) = [one for one in replayed(read_recording(good)) if one.segment == 3]
    assert (len(last.samples), last.dropped_samples) == (100, 1)


def test_damaged_sound_is_told_when_it_is_played(good: Path) -> None:
    path = good / "audio-000.flac"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) * 3 // 4] ^= 0x55
    path.write_bytes(damaged)
    recorded = read_recording(good)
    source = RecordingSource(recorded, fast=True)
    source.start()
    with pytest.raises(SourceError, match=r"audio-000.flac is damaged after sample 4096: "):
        read_all(source)
    assert source.state == SourceState.ENDED
    cut = replace(recorded.segments[0], n_samples=None)
    assert sum(map(len, read_segment(cut))) == 4_096, "where less was promised, it is the end"


def test_another_file_with_other_sound_is_told_when_it_is_played(good: Path) -> None:
    recorded = read_recording(good)
    pcm = np.zeros((7_999, 2), dtype=np.int32)
    soundfile.write(good / "audio-000.flac", pcm, RATE_HZ, subtype="PCM_24")
    source = RecordingSource(recorded, fast=True)
    source.start()
    with pytest.raises(SourceError, match="holds 7999 samples, but should hold 8000"):
        read_all(source)


# ---- as a source ------------------------------------------------------------------------------------------------


def test_in_real_time_a_drop_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = install_clock(monkeypatch)
    captures = [
        capture(noise(2_000), 0, 8_000),
        capture(noise(2_000), 0, 8_000, dropped_samples=8_000),
        capture(noise(4_000), 1, 16_000, dropped_samples=8_000),
    ]
    source: Source = RecordingSource(record(tmp_path / "recording", captures), fast=False)
    assert (source.name, source.state) == ("recording", SourceState.OPENING)
    source.start()
    heard = []
    for _ in range(19):
        clock.now_s += 0.125
        given = read_all(source)
        heard.append((sum(len(one.samples) for one in given), sum(one.dropped_samples for one in given)))
    first, second = (1_000, 0), (1_000, 8_000)
    assert heard == [first, first, *[(0, 0)] * 8, second, first, *[(0, 0)] * 4, (2_000, 8_000), (2_000, 0), (0, 0)]
    assert source.state == SourceState.ENDED


def test_a_replay_pauses_and_plays_by_the_real_clock(tmp_path: Path) -> None:
    source = RecordingSource(record(tmp_path / "recording", [capture(noise(2_000))]), fast=False)
    source.start()
    source.pause()
    assert (source.state, source.read()) == (SourceState.PAUSED, None)
    source.resume()
    heard: list[Capture] = []

    def ended() -> bool:
        heard.extend(read_all(source))
        return source.state == SourceState.ENDED

    wait_until(ended)
    np.testing.assert_array_equal(sound_of(heard), noise(2_000))
    source.close()


# ---- comparing --------------------------------------------------------------------------------------------------


def checked(of: Recording, updates: list[Update]) -> ReplayCheck:
    check = ReplayCheck(of)
    sink: Sink = check
    for one in updates:
        sink.update(one)
    sink.status(Status("recording", SourceState.ENDED))
    sink.close()
    return check


def test_the_latency_does_not_count(good: Path) -> None:
    again = [update(0), update(1), replace(update(2, held=True), latency_s=None)]
    check = checked(read_recording(good), again)
    assert check.identical
    assert check.verdict() == "All 3 predictions that were compared are identical to the recorded ones."


@pytest.mark.parametrize(
    "other",
    [
        update(1, math.nextafter(0.25, 1.0)),
        update(1, arousal=math.nextafter(-0.5, 0.0)),
        update(1, held=True),
        replace(update(1), index=2),
        replace(update(1), time_s=math.nextafter(1.5, 2.0)),
    ],
)
def test_the_smallest_difference_is_told(good: Path, other: Update) -> None:
    check = checked(read_recording(good), [update(0), other, update(2, 0.5, held=True)])
    assert not check.identical
    held = ", held" if other.held else ""
    assert check.verdict() == (
        "2 of 3 predictions differ from the recorded ones, by 0.25 at most. The first: index 1 at 1.5 s: 0.25, -0.5 "
        f"then, index {other.index} at {other.time_s!r} s: {other.valence!r}, {other.arousal!r}{held} now."
    )


@pytest.mark.parametrize("n_updates", [2, 4])
def test_more_or_less_is_a_difference_unless_the_recording_is_not_whole(good: Path, n_updates: int) -> None:
    again = [update(0), update(1), update(2, held=True), update(3)][:n_updates]
    whole = read_recording(good)
    for recorded in (whole, replace(whole, fault="The recording was cut off.")):
        check = checked(recorded, again)
        assert check.identical == (recorded is not whole)
        assert check.verdict() == (
            f"All {min(n_updates, 3)} predictions that were compared are identical to the recorded ones. "
            f"3 were recorded, {n_updates} replayed."
        )
