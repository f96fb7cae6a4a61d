"""The disk fails in a live run: predictions go on, the fault is reported, and what was recorded opens and replays.

Real processes, a real full disk, a real kill. Tests of the recorder alone: test_recorder.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from checkpoints import music
from live_runs import LiveRun, oscdump, without_display
from osc_sockets import free_port

from realtime_mer.cli import main
from realtime_mer.recording.reader import Recording, read_recording

pytestmark = pytest.mark.slow
# Only against hanging.
GENEROUS_S = 60.0
RATE_HZ = 44_100
CUT_OFF = "The recording was cut off: realtime-mer did not come to its end."


class Feed(LiveRun):
    """A live run that reads music from standard input and records into a folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._port = free_port()
        arguments = ("--input", "-", "--no-plot", "--record", str(directory), "--osc", f"127.0.0.1:{self._port}")
        super().__init__(*arguments, environment=without_display(os.environ), stdin=subprocess.PIPE)
        self._song = (music(20.0, RATE_HZ, 2) * 32_767).clip(-32_768, 32_767).astype("<i2")
        self._fed_s = 0

    def feed(self, seconds: int) -> None:
        """Faster than in real time, but no faster than it is processed."""
        assert self.process.stdin is not None
        for _ in range(seconds):
            places = np.arange(self._fed_s * RATE_HZ, (self._fed_s + 1) * RATE_HZ) % len(self._song)
            self._fed_s += 1
            self.process.stdin.buffer.write(self._song[places].tobytes())  # type: ignore[attr-defined]
            self.process.stdin.flush()
            self.wait_until(lambda: self.last_s() >= self._fed_s - 3.0, "predictions of what was fed")

    def last_s(self) -> float:
        """The time of the last prediction that was sent."""
        return max(self.received.numbers("/mer/time"), default=0.0)

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        give_up_s = time.monotonic() + GENEROUS_S
        while not condition():
            assert time.monotonic() < give_up_s, f"never: {what}"
            assert self.process.poll() is None, f"ended before: {what}"
            time.sleep(0.02)

    def wait_for_the_disk(self) -> float:
        """Until all predictions so far are in the recording, at most a second later. Returns the last one's time."""
        last_s = self.last_s()

        def recorded_s() -> float:
            last = (self.directory / "predictions.csv").read_text().splitlines()[-1].split(",")[1]
            return float(last) if last[0].isdigit() else 0.0

        self.wait_until(lambda: recorded_s() >= last_s, "predictions on the disk")
        return last_s

    def recording_states(self) -> list[float]:
        return [value for value, _ in groupby(self.received.numbers("/mer/status/recording"))]

    def __enter__(self) -> Feed:
        self._dump = oscdump(self._port)
        self.received = self._dump.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._dump.__exit__(None, None, None)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Feed]:
    with Feed(tmp_path / "recording") as made:
        yield made


def replay(directory: Path, capsys: pytest.CaptureFixture[str]) -> Recording:
    recorded = read_recording(directory)
    assert len(recorded.updates) > 3
    assert main(["replay", str(directory), "--fast", "--no-osc", "--no-plot", "--no-terminal"]) == 0
    assert "that were compared are identical to the recorded ones." in capsys.readouterr().err
    return recorded


def feed_through_the_fault(run: Feed, reason: str, cause: Callable[[], object] = lambda: None) -> None:
    """The recording ends for this reason; everything else goes on, to exit code 0."""
    run.feed(4)
    run.wait_for_the_disk()
    cause()
    run.feed(9)
    run.wait_until(lambda: run.recording_states() == [1.0, 0.0], "the fault")
    before_s = run.last_s()
    run.feed(5)
    run.wait_until(lambda: run.last_s() > before_s + 3.0, "predictions after the fault")
    code, lines, errors = run.wait()
    assert code == 0, errors
    (fault,) = (line for line in lines.splitlines() if "recording incomplete" in line)
    assert reason in fault
    assert run.recording_states() == [1.0, 0.0]


def test_a_full_disk(small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (small_disk / "recording").mkdir()
    (tmp_path / "recording").symlink_to(small_disk / "recording")
    with Feed(tmp_path / "recording") as run:
        feed_through_the_fault(run, "No space left on device")
        recorded = replay(run.directory, capsys)
    # The full disk has no room for the reason.
    assert recorded.fault == CUT_OFF
    assert 1.0 < recorded.updates[-1].time_s < 13.0


def test_a_file_that_may_not_grow(run: Feed, capsys: pytest.CaptureFixture[str]) -> None:
    """As when a quota is used up; needs no rights."""
    resource = pytest.importorskip("resource", reason="no such limits on Windows")
    if not hasattr(resource, "prlimit"):
        pytest.skip("only Linux sets the limits of another process")
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (700_000, 700_000))
    feed_through_the_fault(run, "File too large")
    assert "The recording stopped after " in replay(run.directory, capsys).fault


def test_the_directory_is_removed(run: Feed) -> None:
    feed_through_the_fault(run, " was removed.", lambda: shutil.rmtree(run.directory))
    assert not run.directory.exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
def test_killed_while_recording(run: Feed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.feed(8)
    run.wait_until(lambda: run.last_s() >= 7.0, "predictions")
    sent_s = run.wait_for_the_disk()
    assert run.end(signal.SIGKILL)[0] == -signal.SIGKILL
    recorded = replay(run.directory, capsys)
    assert recorded.fault == CUT_OFF
    assert recorded.updates[-1].time_s >= sent_s
    picture = tmp_path / "plane.png"
    view = LiveRun.command("view", str(run.directory), "--export", str(picture), "--size", "320x240")
    subprocess.run(view, check=True, timeout=GENEROUS_S)
    assert picture.stat().st_size > 1000
