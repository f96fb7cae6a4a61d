"""A recording as a source: damage is reported when it is played, and in real time a drop takes its time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_clock import install_clock, read_all
from recordings import RATE_HZ, capture, good_recording, noise, record

from realtime_mer.recording.reader import read_recording, read_segment
from realtime_mer.recording.source import RecordingSource
from realtime_mer.sources import Source, SourceError
from realtime_mer.updates import SourceState


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return good_recording(tmp_path / "recording")


def test_damaged_sound_is_reported_when_it_is_played(good: Path) -> None:
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
    assert sum(map(len, read_segment(cut))) == 4_096, "the end, if recording.json has no length"


def test_another_sound_file_is_reported_when_it_is_played(good: Path) -> None:
    recorded = read_recording(good)
    pcm = np.zeros((7_999, 2), dtype=np.int32)
    soundfile.write(good / "audio-000.flac", pcm, RATE_HZ, subtype="PCM_24")
    source = RecordingSource(recorded, fast=True)
    source.start()
    with pytest.raises(SourceError, match="holds 7999 samples, but should hold 8000"):
        read_all(source)


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
    given = []
    for _ in range(19):
        clock.now_s += 0.125
        new = read_all(source)
        given.append((sum(len(one.samples) for one in new), sum(one.dropped_samples for one in new)))
    first, second = (1_000, 0), (1_000, 8_000)
    assert given == [first, first, *[(0, 0)] * 8, second, first, *[(0, 0)] * 4, (2_000, 8_000), (2_000, 0), (0, 0)]
    assert source.state == SourceState.ENDED
