"""Faults of the sound and of the process, injected into the real thing: what is no music, a program that is stopped,
starved or killed, and a clock that is set back."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from checkpoints import music, small_checkpoint
from live_runs import LiveRun, Received, oscdump
from osc_sockets import eventually, free_port
from sound_server import start_sound_server

from benchmarks.sound_server import SoundServer
from realtime_mer.config import LevelMeterSettings
from realtime_mer.live.recognition import Recognition
from realtime_mer.live.requests import Requests
from realtime_mer.live.session import Session
from realtime_mer.models.checkpoint import load_checkpoint, save_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.recording.reader import Drop, read_recording
from realtime_mer.sources.pcm import PcmSource
from realtime_mer.types import FloatArray
from realtime_mer.updates import InputLevel, LevelState, Status, Update

Int32Array = npt.NDArray[np.int32]
pytestmark = pytest.mark.slow
RATE_HZ = 44_100
LONG = pytest.mark.skipif(
    "REALTIME_MER_LONG_TESTS" not in os.environ, reason="takes half a minute; REALTIME_MER_LONG_TESTS=1 runs it"
)

# ---- sound that is no music -----------------------------------------------------------------------------------------


class Heard:
    """A sink that keeps everything, and the level that the session knows at each prediction."""

    session: Session

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self.statuses: list[Status] = []
        self.levels: list[InputLevel] = []

    def open_session(self) -> Session:
        self.session = Session(load_checkpoint(default_checkpoint_path()), LevelMeterSettings())
        return self.session

    def update(self, update: Update) -> None:
        self.updates.append(update)
        if self.session.level is not None:
            self.levels.append(self.session.level)

    def status(self, status: Status) -> None:
        self.statuses.append(status)

    def close(self) -> None:
        pass

    def values(self) -> list[tuple[float, float]]:
        return [(update.prediction.valence, update.prediction.arousal) for update in self.updates]


def hear(samples: FloatArray) -> Heard:
    """Everything that the live path makes of these, piped into it as 32-bit floats. Shape (n_samples, 2)."""
    heard = Heard()
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(samples.astype("<f4").tobytes())

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as pipe:
        source = PcmSource(pipe, "f32le", RATE_HZ, 2)
        recognition = Recognition(
            source,
            heard.open_session,
            [heard],
            None,
            requests=Requests(),
            emit=lambda _event: None,
            ignored_packets=lambda: 0,
        )
        source.start()
        with contextlib.closing(source):
            assert recognition.run(threading.Event()), "it must come to the end"
        writer.join()
    assert [update.index for update in heard.updates] == list(range(len(heard.updates)))
    values = np.array(heard.values())
    assert len(values) >= 4
    assert np.isfinite(values).all()
    assert np.abs(values).max() <= 1.0
    return heard


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
        (np.nan, 10 * RATE_HZ),
        (np.inf, 10 * RATE_HZ),
        (-np.inf, 10 * RATE_HZ),
        (3e38, 10 * RATE_HZ),
        # The smallest denormal, and the largest: no stage behind the source ever computes with one.
        (1e-45, 0),
        (1.17e-38, 0),
        (0.0, 0),
    ],
)
def test_what_is_no_sound_is_silence(value: float, n_replaced: int) -> None:
    heard = hear(np.full((5 * RATE_HZ, 2), value, dtype=np.float32))
    assert all(update.held for update in heard.updates)
    assert set(heard.values()) == {(0.0, 0.0)}
    last = heard.statuses[-1]
    assert (last.replaced_samples, last.dropped_s) == (n_replaced, 0.0)
    assert {(level.state, level.rms_db, level.peak_db) for level in heard.levels} == {
        (LevelState.SILENCE, -120.0, -120.0)
    }


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_moment_in_the_music_stays_one_moment(value: float) -> None:
    heard, expected = hear(with_gaps(value)), hear(with_gaps(0.0))
    assert heard.values() == expected.values()
    assert not any(update.held for update in heard.updates)
    assert heard.statuses[-1].replaced_samples == 5 * 400 * 2


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (square, LevelState.CLIPPING),
        # A driver that forgot to scale its integers.
        (lambda: square() * np.float32(2**15), LevelState.CLIPPING),
        (lambda: square() * np.float32(0.002), LevelState.QUIET),
        # Louder than silence, and that is all that the level can tell.
        (lambda: np.full((5 * RATE_HZ, 2), 0.5, dtype=np.float32), LevelState.MUSIC),
    ],
)
def test_bad_sound_is_predicted_all_the_same_and_the_state_says_what_it_is(
    make: Callable[[], FloatArray], state: LevelState
) -> None:
    heard = hear(make())
    assert not any(update.held for update in heard.updates)
    assert {level.state for level in heard.levels} == {state}
    assert heard.statuses[-1].replaced_samples == 0


def test_with_a_dead_channel_the_other_one_is_heard() -> None:
    """Half as loud, which changes nothing behind the level stage."""
    both, left = tune(), tune()
    both[:, 1] = both[:, 0]
    left[:, 1] = 0.0
    heard = hear(left)
    assert not any(update.held for update in heard.updates)
    np.testing.assert_allclose(heard.values(), hear(both).values(), atol=1e-4)


# ---- the process ----------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[SoundServer]:
    server = start_sound_server()
    yield server
    server.close()


def predicts(received: Received, n: int) -> None:
    """Waits for so many more predictions."""
    wanted = len(received.numbers("/mer/frame")) + n
    received.wait_for(lambda heard: len(heard.numbers("/mer/frame")) >= wanted, f"{n} more predictions")


def check_order(received: Received) -> None:
    frames, times_s = received.numbers("/mer/frame"), received.numbers("/mer/time")
    assert frames == list(range(len(frames)))
    assert np.all(np.diff(times_s) > 0.0)


@pytest.mark.parametrize("stopped_s", [6.0, pytest.param(30.0, marks=LONG)])
def test_a_suspended_program_goes_on_by_itself(stopped_s: float, server: SoundServer, tmp_path: Path) -> None:
    """For longer than sound may wait: what is stale is dropped and counted, not predicted."""
    soundfile.write(tmp_path / "tune.wav", music(90.0, n_channels=2), RATE_HZ)
    port = free_port()
    with (
        oscdump(port) as received,
        LiveRun("--no-plot", "--osc", f"127.0.0.1:{port}", environment=server.environment) as run,
    ):
        server.play(tmp_path / "tune.wav")
        predicts(received, 4)
        began_s, began_at_s = received.numbers("/mer/time")[-1], time.monotonic()
        n_before = len(received.order)
        run.process.send_signal(signal.SIGSTOP)
        time.sleep(stopped_s)
        n_stopped = len(received.numbers("/mer/frame"))
        run.process.send_signal(signal.SIGCONT)
        received.wait_for(lambda heard: heard.numbers("/mer/status/drops")[-1] > 0.0, "the drop")
        predicts(received, 4)
        ended_s, ended_at_s = received.numbers("/mer/time")[-1], time.monotonic()
        n_frames = len(received.numbers("/mer/frame")) - n_stopped
        n_smooth = sum(address == "/mer/smooth/va" for address, _ in received.order[n_before:])
        code, _, errors = run.end()
    assert code == 0, errors
    check_order(received)
    # One for each half second that it ran. Of the time that it was stopped, at most what was already on its way when it
    # stopped: half a second that may wait, the packets between the processes, and what openSMILE holds.
    ran_s = ended_at_s - began_at_s - stopped_s
    assert n_frames <= 2 * (ran_s + 2.0) + 1
    assert n_smooth <= 30 * (ran_s + 1.0), "what was missed is not sent afterwards"
    assert ended_s - began_s == pytest.approx(ended_at_s - began_at_s, abs=1.5), "its time goes on meanwhile"
    assert set(received.numbers("/mer/status/losses")) == {0.0}


def test_with_a_busy_neighbour_on_every_core_nothing_is_lost_silently(server: SoundServer, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    noise = rng.integers(1, 8_000, size=(8 * RATE_HZ, 2)) * rng.choice([-1, 1], size=(8 * RATE_HZ, 2))
    soundfile.write(tmp_path / "noise.wav", noise.astype(np.int16), RATE_HZ, subtype="PCM_16")
    port = free_port()
    neighbours = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(len(os.sched_getaffinity(0)))
    ]
    try:
        with (
            oscdump(port) as received,
            LiveRun(
                *("--no-plot", "--osc", f"127.0.0.1:{port}", "--record", str(tmp_path / "recording")),
                environment=server.environment,
            ) as run,
        ):
            received.wait_for(lambda heard: "silence" in heard.texts("/mer/status/input"), "silence")
            assert server.play(tmp_path / "noise.wav").wait(timeout=60) == 0
            received.wait_for(lambda heard: heard.numbers("/mer/held")[-1:] == [1.0], "silence after the noise")
            code, lines, errors = run.end()
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    assert code == 0, errors
    check_order(received)
    (segment,) = read_recording(tmp_path / "recording").segments
    recorded, _ = soundfile.read(segment.path, dtype="int32")
    parts = np.split(recorded >> 16, [drop.at_sample for drop in segment.drops])
    with_drops = [part for drop, before in zip(segment.drops, parts, strict=False) for part in (before, gap(drop))]
    heard = np.concatenate([*with_drops, parts[-1]])
    # The server swallows the first moment of what it plays.
    first = np.flatnonzero(heard.all(axis=1))[0]
    swallowed = np.flatnonzero((noise == heard[first]).all(axis=1))[0]
    assert swallowed < RATE_HZ // 2
    expected = noise[swallowed:]
    music_heard = heard[first : first + len(expected)]
    lost = np.flatnonzero((music_heard != expected).any(axis=1))
    # How much a sound card's own buffer lost, no driver tells: only how often.
    if "overflows" not in lines + errors:
        assert len(lost) <= sum(drop.n_samples for drop in segment.drops)
        assert not music_heard[lost].any(), "what was dropped, and nothing else"


def gap(drop: Drop) -> Int32Array:
    return np.zeros((drop.n_samples, 2), dtype=np.int32)


def test_a_killed_program_leaves_no_process_behind(server: SoundServer) -> None:
    port = free_port()
    with (
        oscdump(port) as received,
        LiveRun("--no-plot", "--osc", f"127.0.0.1:{port}", environment=server.environment) as run,
    ):
        received.wait_for(lambda heard: "running" in heard.texts("/mer/status/source"), "sound")
        listed = subprocess.run(["pgrep", "-P", str(run.process.pid)], capture_output=True, text=True, check=True)
        (capturing,) = map(int, listed.stdout.split())
        assert Path(f"/proc/{capturing}").exists()
        # From now on it has nothing to write, and no other way to find out that nobody listens.
        server.pactl("suspend-sink", "music", "1")
        time.sleep(0.3)
        run.process.kill()
        eventually(lambda: not is_alive(capturing))


def is_alive(pid: int) -> bool:
    """A zombie whose parent is no more is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# ---- the clock ------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_an_hour_changes_nothing(tmp_path: Path) -> None:
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not libraries:
        pytest.skip("no libfaketime on this machine (Debian's faketime)")
    soundfile.write(tmp_path / "song.wav", music(4.0, n_channels=2), RATE_HZ, subtype="PCM_16")
    save_checkpoint(tmp_path / "model.safetensors", small_checkpoint())
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment |= {
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
        predicts(received, 2)
        clock.write_text("-3600")
        began_s, began_at_s = received.numbers("/mer/time")[-1], time.monotonic()
        n_smooth = len(received.messages["/mer/smooth/va"])
        predicts(received, 4)
        ended_s, ended_at_s = received.numbers("/mer/time")[-1], time.monotonic()
        assert len(received.messages["/mer/smooth/va"]) > n_smooth + 10, "the lights move on"
        code, _, errors = run.end()
    assert code == 0, errors
    check_order(received)
    assert ended_s - began_s == pytest.approx(ended_at_s - began_at_s, abs=1.5)
    with (tmp_path / "night" / "events.csv").open(encoding="utf-8") as file:
        times = [datetime.fromisoformat(row[1]) for row in list(csv.reader(file))[1:]]
    assert (times[0] - times[-1]).total_seconds() > 3_000, "it was really set back"
