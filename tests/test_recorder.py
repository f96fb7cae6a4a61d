"""The recorder: the files that it writes; a fault is reported and stops nothing else."""

from __future__ import annotations

import csv
import json
import shutil
import threading
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_clock import sound_of
from predictions import with_prediction
from recordings import RATE_HZ, SETTINGS, SHA256, capture, noise, recorder_into, replayed, update, wait_until

from realtime_mer import __version__
from realtime_mer.recording import Beginning, RecordingError
from realtime_mer.recording import recorder as recorder_module
from realtime_mer.recording.folder import Folder
from realtime_mer.recording.reader import read_recording
from realtime_mer.recording.recorder import Recorder
from realtime_mer.sources import Capture
from realtime_mer.updates import InputLevel, LevelState, Sink, SourceState, Status

ROOT = Path(__file__).resolve().parents[1]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---- what is in the folder ------------------------------------------------------------------------------------------


def test_the_files_of_a_recording(tmp_path: Path) -> None:
    """As other programs read them."""
    before = datetime.now().astimezone().replace(microsecond=0)
    directory = tmp_path / "new" / "recording"
    recorder: Sink = recorder_into(directory)
    assert isinstance(recorder, Recorder)
    stereo, eight = noise(5_000, 2), noise(700, 8)
    status = Status("some device", SourceState.OPENING)
    running = replace(status, state=SourceState.RUNNING, level=InputLevel(-3.0, -20.0, LevelState.MUSIC))
    recorder.status(status)
    recorder.capture(capture(stereo[:1_000], 0, 44_100))
    recorder.capture(capture(stereo[1_000:], 0, 44_100, 480))
    for time_s in (0.1, 0.2):
        recorder.status(replace(running, time_s=time_s))
    recorder.update(update(0))
    detail = 'It is "gone",\nfor now. \ud800'
    recorder.status(replace(running, state=SourceState.LOST, time_s=0.25, detail=detail))
    recorder.capture(capture(eight, 2, 96_000))
    recorder.update(update(1, 1 / 3, held=True))
    recorder.mark(1, 0.125, "")
    recorder.mark(2, 0.25, hostile := '=1+1,"\n\x1b[2J\0\u202e\ud800' + "é" * 10**6)
    recorder.close()
    recorder.close()
    tables = ["details.csv", "drops.csv", "events.csv", "marks.csv", "predictions.csv"]
    sounds = {"audio-000.flac": (stereo, 44_100), "audio-002.flac": (eight, 96_000)}
    assert {path.name for path in directory.iterdir()} == {*tables, *sounds, "recording.json", "settings.toml"}
    for name, (samples, rate_hz) in sounds.items():
        info = soundfile.info(directory / name)
        assert (info.format, info.subtype, info.samplerate) == ("FLAC", "PCM_24", rate_hz)
        pcm, _ = soundfile.read(directory / name, dtype="int32", always_2d=True)
        np.testing.assert_array_equal(pcm / 2**31, samples)
    assert rows_of(directory / "drops.csv") == [{"segment": "0", "at_sample": "1000", "dropped_samples": "480"}]
    assert (directory / "predictions.csv").read_text() == (
        "index,time_s,valence,arousal,held\n0,1.0,0.25,-0.5,false\n1,1.5,0.3333333333333333,-0.5,true\n"
    )
    assert (directory / "details.csv").read_text() == (
        "index,valence_sd,arousal_sd,confidence,gain_db,attention\n0,,,,0.0000,\n1,,,,0.0000,\n"
    )
    events, marks = rows_of(directory / "events.csv"), rows_of(directory / "marks.csv")
    assert [(e["time_s"], e["state"], e["level"], e["detail"]) for e in events] == [
        ("0.000", "opening", "", ""),
        ("0.100", "running", "music", ""),
        ("0.250", "lost", "music", 'It is "gone", for now. \\ud800'),
    ]
    assert [(m["time_s"], m["number"], m["text"]) for m in marks] == [
        ("0.125", "1", ""),
        ("0.250", "2", '=1+1," \\x1b[2J\\x00\\u202e\\ud800' + "é" * (200 - len(hostile.rstrip("é")))),
    ]
    assert all(before <= datetime.fromisoformat(row["time_of_day"]) for row in events + marks)
    second = json.loads((directory / "recording.json").read_text())["segments"][1]
    assert second == {"segment": 2, "rate_hz": 96_000, "channels": 8, "samples": 700}
    recorded = read_recording(directory)
    assert (recorded.settings, recorded.source) == (SETTINGS, "some device")
    assert (recorded.checkpoint_sha256, recorded.realtime_mer_version) == (SHA256, __version__)
    assert datetime.fromisoformat(recorded.started) >= before
    assert [segment.n_samples for segment in recorded.segments] == [5_000, 700]


# ---- faults while recording -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["audio-000.flac", "predictions.csv", ""])
def test_a_removed_recording_is_reported(tmp_path: Path, gone: str) -> None:
    """On Linux, writing into a removed file succeeds. gone: the removed file; none: the folder."""
    directory = tmp_path / "recording"
    audio = directory / "audio-000.flac"
    recorder = recorder_into(directory)
    recorder.capture(capture(noise(20_000)))
    wait_until(lambda: audio.is_file() and audio.stat().st_size > 0)
    if gone:
        (directory / gone).unlink()
    else:
        shutil.rmtree(directory)
    wait_until(lambda: recorder.fault != "")
    recorder.capture(capture(noise(RATE_HZ)))
    recorder.update(update(0))
    recorder.close()
    assert f"of sound: {gone or 'audio-000.flac'} was removed. " in recorder.fault
    assert recorder.lost_s == 1.0


class BlockedDisk:
    """A disk that takes nothing until `free` is set."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.free, self.blocked = threading.Event(), threading.Event()
        write = Folder.write

        def wait_and_write(folder: Folder, entry: Any) -> None:
            self.blocked.set()
            assert self.free.wait(30.0)
            write(folder, entry)

        patch.setattr(Folder, "write", wait_and_write)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> BlockedDisk:
    return BlockedDisk(monkeypatch)


def test_no_caller_waits_for_a_slow_disk(tmp_path: Path, disk: BlockedDisk) -> None:
    """Sound from before is recorded; after the first loss nothing is, or a replay would differ."""
    recorder = recorder_into(tmp_path / "recording")
    samples = noise(40 * RATE_HZ)
    for i in range(40):
        recorder.capture(capture(samples[i * RATE_HZ : (i + 1) * RATE_HZ]))
        recorder.update(update(i))
        if i == 19:
            assert recorder.fault == "", "20 s of sound may wait"
    assert disk.blocked.wait(30.0)
    assert recorder.fault.startswith("The recording stopped after 20.0 s of sound: the disk is too slow. ")
    assert recorder.lost_s == 20.0
    disk.free.set()
    recorder.close()
    recorded = read_recording(tmp_path / "recording")
    assert recorded.fault == recorder.fault
    np.testing.assert_array_equal(sound_of(replayed(recorded)), samples[: 20 * RATE_HZ])
    assert len(recorded.updates) == 20


def test_entries_without_sound_are_bounded_too(
    tmp_path: Path, disk: BlockedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_QUEUE_ENTRIES", 100)
    recorder = recorder_into(tmp_path / "recording")
    for i in range(100):
        recorder.update(update(i))
    assert recorder.fault == ""
    recorder.status(Status("some device", SourceState.LOST))
    assert "the disk is too slow" in recorder.fault
    disk.free.set()
    recorder.close()


def test_the_end_waits_for_a_hanging_disk_only_for_a_while(
    tmp_path: Path, disk: BlockedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_CLOSE_TIMEOUT_S", 0.1)
    recorder = recorder_into(tmp_path / "recording")
    recorder.capture(capture(noise(10)))
    recorder.close()
    assert "the disk did not take its end" in recorder.fault
    disk.free.set()


@pytest.mark.parametrize(
    ("unusable", "reason"),
    [
        (capture(noise(100), 0, 65_537), "Error : "),
        (capture(noise(100), 0, 768_000), ""),
        *(
            (capture(np.full((10, 1), value, dtype=np.float32)), "a sample was not one of the 24-bit values")
            for value in (1.0 / 3.0, 1.0, np.nan)
        ),
        (capture(noise(10, 9)), ""),
    ],
)
def test_sound_that_flac_cannot_hold_stops_the_recording(tmp_path: Path, unusable: Capture, reason: str) -> None:
    recorder = recorder_into(tmp_path / "recording")
    recorder.capture(unusable)
    recorder.finish(open_end=False)
    recorder.close()
    assert recorder.fault.startswith(f"The recording stopped after 0.0 s of sound: {reason}")
    assert read_recording(tmp_path / "recording").fault == recorder.fault
    assert recorder.lost_s == pytest.approx(len(unusable.samples) / unusable.rate_hz)


def test_a_recording_can_be_read_before_its_end(tmp_path: Path) -> None:
    """As after SIGKILL: what the recorder wrote so far."""
    (tmp_path / "recording").mkdir()
    recorder = recorder_into(tmp_path / "recording")
    recorder.capture(capture(noise(30_000, 2), 0))
    recorder.capture(capture(noise(50_000, 3), 1, dropped_samples=99))
    recorder.update(update(0))
    wait_until(lambda: "0,1.0" in (recorder.directory / "predictions.csv").read_text())
    recorded = read_recording(tmp_path / "recording")
    assert recorded.fault == "The recording was cut off: realtime-mer did not come to its end."
    assert [segment.n_samples for segment in recorded.segments] == [30_000, None]
    captures = replayed(recorded)
    np.testing.assert_array_equal(sound_of([one for one in captures if one.segment == 0]), noise(30_000, 2))
    second = [one for one in captures if one.segment == 1]
    sound = sound_of(second)
    assert len(sound) >= 50_000 - 3 * 4_096
    np.testing.assert_array_equal(sound, noise(50_000, 3)[: len(sound)])
    assert second[0].dropped_samples == 99
    assert list(recorded.updates) == [replace(update(0), latency_s=None)]
    recorder.close()


@pytest.mark.parametrize("late", ["sound", "an update"])
def test_sound_or_an_update_after_the_end_is_a_fault(tmp_path: Path, late: str) -> None:
    recorder = recorder_into(tmp_path / "recording")
    recorder.capture(capture(noise(RATE_HZ)))
    recorder.update(update(0))
    recorder.close()
    recorder.status(Status("some device", SourceState.ENDED))
    recorder.mark(1, 1.0, "late")
    assert recorder.fault == read_recording(tmp_path / "recording").fault == "", "events are for people only"
    for _ in range(2):
        if late == "sound":
            recorder.capture(capture(noise(RATE_HZ)))
        else:
            recorder.update(update(1))
    recorder.close()
    assert recorder.fault.startswith("The recording stopped after 1.0 s of sound: it was closed before the ")
    assert recorder.lost_s == (2.0 if late == "sound" else 0.0)
    recorded = read_recording(tmp_path / "recording")
    assert recorded.fault == recorder.fault
    np.testing.assert_array_equal(sound_of(replayed(recorded)), noise(RATE_HZ))
    assert list(recorded.updates) == [replace(update(0), latency_s=None)]


def test_an_update_while_the_end_is_being_written_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ending, late = threading.Event(), threading.Event()
    finish = Folder.finish

    def slow_finish(folder: Folder, fault: str, lost_s: float, *, open_end: bool) -> None:
        ending.set()
        assert late.wait(30.0)
        finish(folder, fault, lost_s, open_end=open_end)

    monkeypatch.setattr(Folder, "finish", slow_finish)
    recorder = recorder_into(tmp_path / "recording")
    closing = threading.Thread(target=recorder.close)
    closing.start()
    assert ending.wait(30.0)
    giving = threading.Thread(target=recorder.update, args=[update(0)])
    giving.start()
    wait_until(lambda: recorder.fault != "")
    late.set()
    for thread in (closing, giving):
        thread.join(30.0)
    recorded = read_recording(tmp_path / "recording")
    assert recorded.fault == recorder.fault
    assert recorded.updates == ()


# ---- a part of a run ------------------------------------------------------------------------------------------------


def test_an_end_in_the_middle_of_a_run_does_not_wait_for_the_disk(tmp_path: Path, disk: BlockedDisk) -> None:
    """The next recording begins at once; none of its entries get into this one."""
    first, second = recorder_into(tmp_path / "first"), recorder_into(tmp_path / "second")
    sound = noise(2 * RATE_HZ)
    first.capture(capture(sound[:RATE_HZ]))
    first.update(update(0))
    first.finish(open_end=True)
    assert not first.is_ended
    for recorder in (first, second):
        recorder.capture(capture(sound[RATE_HZ:], 1))
        recorder.update(update(0))
    first.mark(1, 1.0, "late")
    first.status(Status("some device", SourceState.LOST))
    disk.free.set()
    first.close()
    first.finish(open_end=False)
    assert (first.fault, first.lost_s, first.is_ended) == ("", 0.0, True)
    assert rows_of(tmp_path / "first" / "marks.csv") == rows_of(tmp_path / "first" / "events.csv") == []
    second.finish(open_end=False)
    second.close()
    for name, open_end, expected in (("first", True, sound[:RATE_HZ]), ("second", False, sound[RATE_HZ:])):
        recorded = read_recording(tmp_path / name)
        assert (recorded.fault, recorded.open_end, len(recorded.updates)) == ("", open_end, 1)
        np.testing.assert_array_equal(sound_of(replayed(recorded)), expected)


def test_a_table_that_is_removed_during_the_end_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the last one: the others are closed already."""
    recorder = recorder_into(tmp_path / "recording")
    recorder.capture(capture(noise(RATE_HZ)))
    wait_until(lambda: (recorder.directory / "audio-000.flac").exists())
    finish = Folder.finish

    def remove_and_finish(folder: Folder, fault: str, lost_s: float, *, open_end: bool) -> None:
        (recorder.directory / "marks.csv").unlink()
        finish(folder, fault, lost_s, open_end=open_end)

    monkeypatch.setattr(Folder, "finish", remove_and_finish)
    recorder.close()
    assert "marks.csv was removed" in recorder.fault
    facts = json.loads((recorder.directory / "recording.json").read_text())
    assert (facts["whole"], facts["fault"]) == (False, recorder.fault)


def test_the_beginning_is_on_the_disk_before_the_predictions(tmp_path: Path) -> None:
    recorder = recorder_into(tmp_path / "recording")
    beginning = Beginning(7, 4.1, (1 / 3, -0.0))
    recorder.begin(beginning)
    recorder.capture(capture(noise(RATE_HZ), 5))
    recorder.update(with_prediction(update(7), time_s=4.6))
    wait_until(lambda: "7,4.6" in (tmp_path / "recording" / "predictions.csv").read_text())
    for fault in ("The recording was cut off: realtime-mer did not come to its end.", ""):
        recorded = read_recording(tmp_path / "recording")
        assert (recorded.fault, recorded.began) == (fault, beginning)
        assert [(one.index, one.time_s) for one in recorded.updates] == [(7, 4.6)]
        recorder.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is not empty"),
        ("file", "is a file; a recording needs a folder of its own"),
        ("file/recording", "cannot be recorded into: Not a directory"),
        ("a" * 300, "cannot be recorded into: File name too long"),
    ],
)
def test_a_folder_that_cannot_be_used_stays_as_it_is(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(RecordingError, match=message) as raised:
        recorder_into(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]
