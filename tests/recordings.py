"""Recordings for tests: their parts, how they are made and played, and a good one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fake_clock import read_all

from realtime_mer.config import LevelMeterSettings, LiveSettings
from realtime_mer.recording.reader import Recording, read_recording
from realtime_mer.recording.recorder import Recorder
from realtime_mer.recording.source import RecordingSource
from realtime_mer.sources import Capture
from realtime_mer.types import FloatArray, Prediction
from realtime_mer.updates import SourceState, Update

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
    return Update(index, Prediction(1.0 + 0.5 * index, valence, arousal), held, 0.1)


def recorder_into(directory: Path) -> Recorder:
    return Recorder(directory, SETTINGS, "some device", SHA256)


def record(directory: Path, captures: list[Capture], updates: list[Update] | None = None) -> Recording:
    """A whole recording of these."""
    recorder = recorder_into(directory)
    for one in captures:
        recorder.capture(one)
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


def good_recording(directory: Path) -> Path:
    """A whole recording of two segments, two drops and three updates; returns its folder."""
    captures = [
        capture(noise(6_000, 2)),
        capture(noise(2_000, 2), 0, dropped_samples=480),
        capture(noise(100), 3, dropped_samples=1),
    ]
    return record(directory, captures, [update(0), update(1), update(2, held=True)]).directory


def wait_until(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < give_up_s, "it did not happen"
        time.sleep(0.01)
