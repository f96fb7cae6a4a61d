"""Takes of recordings, whole and not, and of audio files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from predictions import with_prediction
from recordings import (
    RATE_HZ,
    SETTINGS,
    capture,
    good_recording,
    noise,
    record,
    recorder_into,
    update,
    wait_until,
)

from realtime_mer.config import ModelSettings
from realtime_mer.live.session import predict_file
from realtime_mer.models.checkpoint import load_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.recording import DETAILS_FILE, EVENTS_FILE, MARKS_FILE
from realtime_mer.recording.reader import read_recording
from realtime_mer.sources.reading import AudioFileError
from realtime_mer.updates import Marked, SourceState, Status
from realtime_mer.viewer.loading import take_of_file, take_of_recording
from realtime_mer.viewer.moments import Loss, Moments
from realtime_mer.viewer.sound import stereo_blocks


def test_marks_and_losses_are_loaded(tmp_path: Path) -> None:
    recorder = recorder_into(tmp_path / "r")
    recorder.capture(capture(noise(4_000)))
    recorder.mark(1, 0.25, 'a "chorus"')
    recorder.status(Status("a device", SourceState.RUNNING))
    recorder.status(Status("a device", SourceState.LOST, time_s=0.5))
    recorder.status(Status("a device", SourceState.LOST, "It is still gone.", time_s=0.5))
    recorder.status(Status("a device", SourceState.RUNNING, time_s=0.5))
    recorder.capture(capture(noise(4_000), 1))
    recorder.mark(2, 0.75, "")
    recorder.close()
    take = take_of_recording(read_recording(tmp_path / "r"))
    assert take.marks == (Marked(0.25, 1, 'a "chorus"'), Marked(0.75, 2, ""))
    (loss,) = take.losses
    assert loss.time_s == 0.5
    assert loss.duration_s >= 0.0
    assert take.breaks == (0.5,)
    assert (take.end_s, take.name, take.fault) == (1.0, "some device", "")
    assert (take.meter, take.trail_s) == (SETTINGS.level, SETTINGS.display.trail_s)


def test_the_duration_of_a_loss_is_that_of_its_times_of_day(tmp_path: Path) -> None:
    folder = good_recording(tmp_path / "r")
    (folder / EVENTS_FILE).write_text(
        "time_s,time_of_day,state,level,detail\n"
        '0.500,"2025-05-01T20:00:00.000+02:00","lost","",""\n'
        '0.500,"2025-05-01T20:00:12.500+02:00","running","",""\n'
        '0.800,"2025-05-01T20:01:00.000+02:00","lost","",""\n',
        encoding="utf-8",
    )
    assert take_of_recording(read_recording(folder)).losses == (Loss(0.5, 12.5), Loss(0.8, 0.0))


def test_the_details_of_predictions_are_loaded(tmp_path: Path) -> None:
    recorder = recorder_into(tmp_path / "r")
    recorder.capture(capture(noise(24_000)))
    recorder.update(update(0))
    recorder.status(Status("a device", SourceState.RUNNING, gain_db=-3.25))
    weights = (0.125, 0.5, 0.375)
    recorder.update(with_prediction(update(1), valence_sd=0.18, arousal_sd=0.19, confidence=0.5, attention=weights))
    recorder.close()
    take = take_of_recording(read_recording(tmp_path / "r"))
    before, after = take.updates
    assert replace(before, quadrant=0) == replace(update(0), latency_s=None)
    known = (after.prediction.valence_sd, after.prediction.arousal_sd, after.prediction.confidence)
    assert (*known, after.prediction.attention) == (0.18, 0.19, 0.5, weights)
    assert take.gains_db == (None, -3.25)
    moments = Moments(take)
    assert math.isnan(moments.status(1.2, None).gain_db)
    assert moments.status(1.6, None).gain_db == -3.25


@pytest.mark.parametrize(
    "table",
    [
        None,
        "",
        "index,valence_sd,arousal_sd,confidence,gain_db,attention\n0,nan,0.1,0.5,1.0,\n1,0.1,0.1,1.5,1.0,\n2,0.1,,0.5,,\n",
        "index,valence_sd,arousal_sd,confidence,gain_db,attention\n0,,,,inf,\n1,,,,,0.5 loud\n0x2,,,,1.0,\n2,,,\n",
    ],
)
def test_a_recording_without_valid_details_has_none(tmp_path: Path, table: str | None) -> None:
    folder = good_recording(tmp_path / "r")
    (folder / DETAILS_FILE).unlink()
    if table is not None:
        (folder / DETAILS_FILE).write_text(table, encoding="utf-8")
    take = take_of_recording(read_recording(folder))
    assert len(take.updates) == 3
    assert {
        (u.prediction.valence_sd, u.prediction.arousal_sd, u.prediction.confidence, u.prediction.attention)
        for u in take.updates
    } == {4 * (None,)}
    assert math.isnan(Moments(take).status(2.0, None).gain_db)


@pytest.mark.parametrize(
    "text",
    [
        None,
        'nonsense\n\x00\n"',
        "time_s,time_of_day,number,text\nnan,x,1,a\n-1,x,1,a\n1.0,x,one,a\n1.0,x\n1e999,x,1,a\n",
        'time_s,time_of_day,number,text\n"' + "x" * 200_000,
    ],
)
def test_invalid_tables_are_ignored(tmp_path: Path, text: str | None) -> None:
    folder = good_recording(tmp_path / "r")
    for name in (MARKS_FILE, EVENTS_FILE):
        (folder / name).unlink()
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8")
    take = take_of_recording(read_recording(folder))
    assert (take.marks, take.losses) == ((), ())


def test_a_recording_that_was_cut_off_ends_with_its_predictions(tmp_path: Path) -> None:
    recorder = recorder_into(tmp_path / "r")
    recorder.capture(capture(noise(24_000), 0))
    recorder.capture(capture(noise(24_000), 1))
    for index in range(9):
        recorder.update(update(index))
    table = tmp_path / "r" / "predictions.csv"
    wait_until(lambda: table.stat().st_size > 200)
    take = take_of_recording(read_recording(tmp_path / "r"))
    recorder.close()
    assert [piece.n_samples for piece in take.pieces] == [24_000, 16_000]
    assert (take.start_s, take.end_s) == (0.0, 5.0)
    assert "cut off" in take.fault


def test_a_recording_of_nothing_is_a_take_of_nothing(tmp_path: Path) -> None:
    take = take_of_recording(record(tmp_path / "r", []))
    assert (take.start_s, take.end_s, take.updates, take.pieces) == (0.0, 0.0, (), ())
    assert Moments(take).runs() == []


def test_an_audio_file_gets_the_predictions_of_predict(tmp_path: Path, deam_root: Path) -> None:
    song, rate_hz = soundfile.read(sorted((deam_root / "audio").iterdir())[0], dtype="float32", frames=5 * 44_100)
    path = tmp_path / "song\x07.wav"
    soundfile.write(path, np.concatenate([song, np.zeros_like(song[: 3 * rate_hz])]), rate_hz)
    shares: list[float] = []
    take = take_of_file(path, ModelSettings(), shares.append, tmp_path)
    expected = predict_file(path, load_checkpoint(default_checkpoint_path()))
    assert [(u.time_s, u.prediction.valence, u.prediction.arousal, u.prediction.valence_sd) for u in take.updates] == [
        (p.time_s, p.valence, p.arousal, p.valence_sd) for p in expected
    ]
    assert take.updates[-1].held
    assert len(take.gains_db) == len(take.updates)
    assert take.gains_db[0] not in (None, 0.0)
    assert take.updates[-1].quadrant in (1, 2, 3, 4)
    assert (shares[-1], shares) == (1.0, sorted(shares))
    assert (take.name, take.end_s) == ("song?.wav", (len(song) + 3 * rate_hz) / rate_hz)
    assert take.pieces[0].path == path


def test_the_sound_of_a_file_that_libsndfile_does_not_read_whole(tmp_path: Path) -> None:
    """Two MP3s joined: libsndfile stops after the first."""
    soundfile.write(tmp_path / "one.mp3", noise(2 * RATE_HZ), RATE_HZ)
    (tmp_path / "both.mp3").write_bytes(2 * (tmp_path / "one.mp3").read_bytes())
    (tmp_path / "folder").mkdir()
    take = take_of_file(tmp_path / "both.mp3", ModelSettings(), lambda _: None, tmp_path / "folder")
    # With an encoder's delay in each.
    assert 4.0 <= take.end_s < 4.5
    heard = np.concatenate(list(stereo_blocks(take, 3.0, RATE_HZ)))
    assert len(heard) / RATE_HZ == pytest.approx(take.end_s - 3.0, abs=0.01)
    assert np.std(heard[: RATE_HZ // 2]) > 0.01


def test_a_file_that_is_not_audio_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"nothing")
    with pytest.raises(AudioFileError, match="cannot be read as audio"):
        take_of_file(tmp_path / "a.wav", ModelSettings(), print, tmp_path)
    with pytest.raises(AudioFileError, match="no such file"):
        take_of_file(tmp_path / "b.wav", ModelSettings(), print, tmp_path)
    soundfile.write(tmp_path / "c.wav", noise(100), RATE_HZ)
    with pytest.raises(AudioFileError, match="too short"):
        take_of_file(tmp_path / "c.wav", ModelSettings(), print, tmp_path)
