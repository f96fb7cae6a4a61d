"""Faults of the sound and of the process, injected into the real thing: sound that is no music, a frame that fails, a
program that is stopped or starved, and a clock that is set back."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints import music, small_checkpoint
from live_runs import LiveRun, Received, oscdump, without_display
from osc_sockets import free_port
from sound_server import start_sound_server

from benchmarks.sound_server import SoundServer
from realtime_mer.config import LevelMeterSettings
from realtime_mer.live.recognition import Recognition
from realtime_mer.live.requests import Requests
from realtime_mer.live.session import Session
from realtime_mer.models.checkpoint import load_checkpoint, save_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.models.predictor import Predictor
from realtime_mer.recording.reader import read_recording
from realtime_mer.sources.pcm import PcmSource
from realtime_mer.types import FeatureFrame, FloatArray, Prediction, PredictionError
from realtime_mer.updates import InputLevel, LevelState, Status, Update

pytestmark = pytest.mark.slow
RATE_HZ = 44_100
LONG = pytest.mark.skipif(
    "REALTIME_MER_LONG_TESTS" not in os.environ, reason="takes half a minute; REALTIME_MER_LONG_TESTS=1 runs it"
)

# ---- sound that is no music -----------------------------------------------------------------------------------------


class Kept:
    """A sink that keeps everything, with the level of the session at each prediction."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.updates: list[Update] = []
        self.levels: list[InputLevel] = []
        self.last_status: Status | None = None

    def open_session(self) -> Session:
        self.session = Session(load_checkpoint(default_checkpoint_path()), LevelMeterSettings())
        return self.session

    def update(self, update: Update) -> None:
        self.updates.append(update)
        assert self.session is not None
        if self.session.level is not None:
            self.levels.append(self.session.level)

    def status(self, status: Status) -> None:
        self.last_status = status

    def close(self) -> None:
        pass

    def values(self) -> list[tuple[float, float]]:
        return [(update.prediction.valence, update.prediction.arousal) for update in self.updates]


def run_live(samples: FloatArray, n_replaced: int = 0) -> Kept:
    """The results of the live path for these samples, shape (n_samples, 2), as 32-bit floats from a pipe.

    n_replaced: how many of them must be replaced.
    """
    kept = Kept()
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(samples.astype("<f4").tobytes())

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as pipe, contextlib.closing(PcmSource(pipe, "f32le", RATE_HZ, 2)) as source:
        source.start()
        recognition = Recognition(
            source,
            kept.open_session,
            [kept],
            None,
            requests=Requests(),
            emit=lambda _event: None,
            ignored_packets=lambda: 0,
        )
        assert recognition.run(threading.Event()), "it must come to the end"
    writer.join()
    assert [update.index for update in kept.updates] == list(range(len(kept.updates)))
    values = np.array(kept.values())
    assert len(values) >= 4
    assert np.isfinite(values).all()
    assert np.abs(values).max() <= 1.0
    assert kept.last_status is not None
    assert (kept.last_status.replaced_samples, kept.last_status.dropped_s) == (n_replaced, 0.0)
    return kept


def tune() -> FloatArray:
    return music(5.0, n_channels=2)


def with_gaps(value: float) -> FloatArray:
    """Music with a moment of this in each second."""
    samples = tune()
    for first in range(0, len(samples), RATE_HZ):
        samples[first + 1_000 : first + 1_400] = value
    return samples


def square() -> FloatArray:
    cycle = np.repeat(np.array([1.0, -1.0], dtype=np.float32), 50)
    return np.tile(cycle[:, np.newaxis], (5 * RATE_HZ // len(cycle), 2))


@pytest.mark.parametrize(
    ("value", "n_replaced"),
    [
        *((value, 10 * RATE_HZ) for value in (np.nan, np.inf, 3e38)),
        # The smallest denormal, and the largest: nothing after the source computes with one.
        *((value, 0) for value in (1e-45, 1.17e-38, 0.0)),
    ],
)
def test_samples_that_are_no_sound_are_silence(value: float, n_replaced: int) -> None:
    kept = run_live(np.full((5 * RATE_HZ, 2), value, dtype=np.float32), n_replaced)
    assert all(update.held for update in kept.updates)
    assert set(kept.values()) == {(0.0, 0.0)}
    assert set(kept.levels) == {InputLevel(-120.0, -120.0, LevelState.SILENCE)}


def test_one_bad_moment_in_the_music_has_no_other_effect() -> None:
    expected = run_live(with_gaps(0.0))
    assert not any(update.held for update in expected.updates)
    for value in (np.nan, -np.inf):
        assert run_live(with_gaps(value), 5 * 400 * 2).values() == expected.values()


@pytest.mark.parametrize(
    ("samples", "state"),
    [
        (square(), LevelState.CLIPPING),
        # A driver that does not scale its integers.
        (square() * np.float32(2**15), LevelState.CLIPPING),
        (square() * np.float32(0.002), LevelState.QUIET),
        # A DC offset: only the level is checked.
        (np.full((5 * RATE_HZ, 2), 0.5, dtype=np.float32), LevelState.MUSIC),
    ],
    ids=["square", "unscaled", "quiet", "offset"],
)
def test_bad_sound_is_predicted_and_its_state_is_shown(samples: FloatArray, state: LevelState) -> None:
    kept = run_live(samples)
    assert not any(update.held for update in kept.updates)
    assert {level.state for level in kept.levels} == {state}


def test_with_a_dead_channel_the_other_one_is_used() -> None:
    """Half as loud, which has no effect after the gain stage."""
    both, left = tune(), tune()
    both[:, 1] = both[:, 0]
    left[:, 1] = 0.0
    kept = run_live(left)
    assert not any(update.held for update in kept.updates)
    np.testing.assert_allclose(kept.values(), run_live(both).values(), atol=1e-4)


@pytest.mark.parametrize("error", [PredictionError("It is no number."), ValueError("The feature f is nan.")])
def test_a_frame_that_fails_does_not_end_the_run(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    step, n_steps = Predictor.step, 0

    def fail_once(predictor: Predictor, frame: FeatureFrame) -> Prediction:
        nonlocal n_steps
        n_steps += 1
        if n_steps == 3:
            raise error
        return step(predictor, frame)

    monkeypatch.setattr(Predictor, "step", fail_once)
    kept = run_live(music(8.0, n_channels=2))
    assert n_steps > 3
    assert kept.updates[-1].time_s > 6.0
    assert kept.last_status is not None
    assert kept.last_status.detail == f"The engine had to be restarted: {error}"


# ---- the process ----------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[SoundServer]:
    server = start_sound_server()
    yield server
    server.close()


def wait_for_predictions(received: Received, n: int) -> tuple[float, float]:
    """Waits for so many more. Returns the stream time of the last one, and the time now."""
    wanted = len(received.numbers("/mer/frame")) + n
    received.wait_for(lambda got: len(got.numbers("/mer/time")) >= wanted, f"{n} more predictions")
    return received.numbers("/mer/time")[-1], time.monotonic()


def check_order(received: Received) -> None:
    frames, times_s = received.numbers("/mer/frame"), received.numbers("/mer/time")
    assert frames == list(range(len(frames)))
    assert np.all(np.diff(times_s) > 0.0)


@pytest.mark.parametrize("stopped_s", [4.0, pytest.param(30.0, marks=LONG)])
def test_a_suspended_program_resumes(stopped_s: float, server: SoundServer, tmp_path: Path) -> None:
    """For longer than sound may wait: stale sound is dropped and counted, not predicted."""
    soundfile.write(tmp_path / "tune.wav", music(90.0, n_channels=2), RATE_HZ)
    (tmp_path / "short.toml").write_text("[audio]\nbuffer_s = 1\n")
    port = free_port()
    arguments = ("--config", str(tmp_path / "short.toml"), "--no-plot", "--osc", f"127.0.0.1:{port}")
    with oscdump(port) as received, LiveRun(*arguments, environment=server.environment) as run:
        server.play(tmp_path / "tune.wav")
        began_s, began_at_s = wait_for_predictions(received, 2)
        n_before, drops_before = len(received.order), received.numbers("/mer/status/drops")[-1]
        run.process.send_signal(signal.SIGSTOP)
        time.sleep(stopped_s)
        n_stopped = len(received.numbers("/mer/frame"))
        run.process.send_signal(signal.SIGCONT)
        received.wait_for(lambda got: got.numbers("/mer/status/drops")[-1] > drops_before, "the drop")
        ended_s, ended_at_s = wait_for_predictions(received, 2)
        n_frames = len(received.numbers("/mer/frame")) - n_stopped
        n_smooth = sum(address == "/mer/smooth/va" for address, _ in received.order[n_before:])
        code, _, errors = run.end()
    assert code == 0, errors
    check_order(received)
    # One for each half second that it ran. Of the time that it was stopped, at most what was already on its way when it
    # stopped: half a second that may wait, the packets between the processes, and what openSMILE holds.
    ran_s = ended_at_s - began_at_s - stopped_s
    assert n_frames <= 2 * (ran_s + 2.0) + 1
    assert n_smooth <= 30 * (ran_s + 1.0), "the missed values are not sent afterwards"
    assert ended_s - began_s == pytest.approx(ended_at_s - began_at_s, abs=1.5), "stream time includes the stop"
    assert set(received.numbers("/mer/status/losses")) == {0.0}


def test_with_a_busy_process_on_every_core_every_loss_is_counted(server: SoundServer, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    noise = rng.integers(1, 8_000, size=(5 * RATE_HZ, 2)) * rng.choice([-1, 1], size=(5 * RATE_HZ, 2))
    soundfile.write(tmp_path / "noise.wav", noise.astype(np.int16), RATE_HZ, subtype="PCM_16")
    port = free_port()
    arguments = ("--no-plot", "--osc", f"127.0.0.1:{port}", "--record", str(tmp_path / "recording"))
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        with oscdump(port) as received, LiveRun(*arguments, environment=server.environment) as run:
            received.wait_for(lambda got: "silence" in got.texts("/mer/status/input"), "silence")
            assert server.play(tmp_path / "noise.wav").wait(timeout=60) == 0
            received.wait_for(lambda got: got.numbers("/mer/held")[-1:] == [1.0], "silence after the noise")
            code, lines, errors = run.end()
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert code == 0, errors
    check_order(received)
    (segment,) = read_recording(tmp_path / "recording").segments
    recorded, _ = soundfile.read(segment.path, dtype="int32")
    # With zeros for the drops.
    at = [drop.at_sample for drop in segment.drops for _ in range(drop.n_samples)]
    sound = np.insert(recorded >> 16, at, 0, axis=0)
    # The server swallows the first moment of what it plays.
    first = np.flatnonzero(sound.all(axis=1))[0]
    swallowed = np.flatnonzero((noise == sound[first]).all(axis=1))[0]
    assert swallowed < RATE_HZ // 2
    expected = noise[swallowed:]
    played = sound[first : first + len(expected)]
    lost = np.flatnonzero((played != expected).any(axis=1))
    # Drivers report how often a sound card's own buffer overflows, but not how much is lost.
    if "overflows" not in lines + errors:
        assert len(lost) <= len(at)
        assert not played[lost].any(), "the drops, and nothing else"


# ---- the clock ------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_an_hour_has_no_effect(tmp_path: Path) -> None:
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not libraries:
        pytest.skip("no libfaketime on this machine (Debian's faketime)")
    soundfile.write(tmp_path / "song.wav", music(4.0, n_channels=2), RATE_HZ, subtype="PCM_16")
    save_checkpoint(tmp_path / "model.safetensors", small_checkpoint())
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = without_display(os.environ) | {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    port = free_port()
    arguments = ("--input", "song.wav", "--loop", "--no-plot", "--checkpoint", "model.safetensors", "--record", "night")
    with (
        oscdump(port) as received,
        LiveRun(*arguments, "--osc", f"127.0.0.1:{port}", environment=environment, folder=tmp_path) as run,
    ):
        began_s, began_at_s = wait_for_predictions(received, 2)
        clock.write_text("-3600")
        n_smooth = len(received.messages["/mer/smooth/va"])
        ended_s, ended_at_s = wait_for_predictions(received, 4)
        assert len(received.messages["/mer/smooth/va"]) > n_smooth + 10, "the lights move on"
        code, _, errors = run.end()
    assert code == 0, errors
    check_order(received)
    assert ended_s - began_s == pytest.approx(ended_at_s - began_at_s, abs=1.5)
    with (tmp_path / "night" / "events.csv").open(encoding="utf-8") as file:
        times = [datetime.fromisoformat(row[1]) for row in list(csv.reader(file))[1:]]
    assert (times[0] - times[-1]).total_seconds() > 3_000, "the clock was really set back"
