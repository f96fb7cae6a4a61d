"""The disk fails a live run: predictions go on, it is told, and what was recorded until then opens and replays.

Real processes, a real full disk, a real kill. Of the recorder alone: test_recorder.py.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import music
from osc_sockets import HERE, udp_socket

from realtime_mer.osc.messages import read_packet
from realtime_mer.recording.reader import Recording, read_recording

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
# Only against hanging.
GENEROUS_S = 60.0
RATE_HZ = 44_100


class Run:
    """`realtime-mer` hears what it is fed through a pipe, and records into a folder."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.lines: list[str] = []
        self._errors = directory.with_suffix(".errors")
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "realtime_mer", "--input", "-", "--no-plot", "--record", directory, *arguments],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._fed_s = 0
        self._song = (music(20.0, RATE_HZ, 2) * 32_767).clip(-32_768, 32_767).astype("<i2")

    def feed(self, seconds: int) -> None:
        """Faster than in real time, but no faster than it is recognised."""
        assert self.process.stdin is not None
        for _ in range(seconds):
            places = np.arange(self._fed_s * RATE_HZ, (self._fed_s + 1) * RATE_HZ) % len(self._song)
            self._fed_s += 1
            self.process.stdin.write(self._song[places].tobytes())
            self.process.stdin.flush()
            self.wait(lambda: self.last_s() >= self._fed_s - 3.0, "predictions of what was fed")

    def last_s(self) -> float:
        """The time of the last prediction that was told."""
        times = [float(line.split()[0]) for line in self.lines if re.match(r"[0-9.]+ s +valence", line)]
        return times[-1] if times else 0.0

    def wait(self, condition: Callable[[], object], what: str) -> None:
        give_up_s = time.monotonic() + GENEROUS_S
        while not condition():
            assert time.monotonic() < give_up_s, f"never: {what}\n{self.lines[-3:]}\n{self._errors.read_text()}"
            assert self.process.poll() is None, f"ended before: {what}\n{self._errors.read_text()}"
            time.sleep(0.02)

    def wait_for_the_disk(self) -> None:
        """What was told so far is in the recording: at most a second later."""
        told_s, table = self.last_s(), self.directory / "predictions.csv"
        self.wait(lambda: _last_s(table) >= told_s, "predictions on the disk")

    def told(self, words: str) -> str | None:
        return next((line for line in list(self.lines) if words in line), None)

    def end(self) -> int:
        """The sound is over; the exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(GENEROUS_S)
        self._reader.join()
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())


def _last_s(table: Path) -> float:
    last = table.read_text().splitlines()[-1].split(",")[1]
    return float(last) if last[0].isdigit() else 0.0


class Desk:
    """Hears what it is told of the recording, without repetitions."""

    def __init__(self) -> None:
        self.recording: list[object] = []
        self._socket = udp_socket()
        self.target = f"{HERE}:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def close(self) -> None:
        with udp_socket() as sender:
            sender.sendto(b"end", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        with contextlib.suppress(TimeoutError):
            while (datagram := self._socket.recv(65_536)) != b"end":
                for message in read_packet(datagram):
                    if message.address == "/mer/status/recording" and message.values[0] not in self.recording[-1:]:
                        self.recording.append(message.values[0])


@pytest.fixture
def desk() -> Iterator[Desk]:
    with contextlib.closing(Desk()) as made:
        yield made


def realtime_mer(*arguments: str | Path) -> str:
    """Runs it to its end; its standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "realtime_mer", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=GENEROUS_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def replays(directory: Path) -> Recording:
    recorded = read_recording(directory)
    assert len(recorded.updates) > 3
    verdict = realtime_mer("replay", directory, "--fast", "--no-osc", "--no-plot", "--no-terminal")
    assert "that were compared are identical to the recorded ones." in verdict
    return recorded


def fill_up(run: Run, reason: str) -> None:
    """Feeds it until no more can be recorded for this reason, and beyond: everything else goes on, to a good end."""
    run.feed(4)
    run.wait_for_the_disk()
    run.feed(9)
    run.wait(lambda: run.told("recording incomplete"), "the fault")
    assert reason in str(run.told("recording incomplete"))
    before_s = run.last_s()
    run.feed(5)
    run.wait(lambda: run.last_s() > before_s + 3.0, "predictions after the fault")
    assert run.end() == 0


def test_a_full_disk(small_disk: Path, desk: Desk, tmp_path: Path) -> None:
    (small_disk / "recording").mkdir()
    (tmp_path / "recording").symlink_to(small_disk / "recording")
    with contextlib.closing(Run(tmp_path / "recording", "--osc", desk.target)) as run:
        fill_up(run, "No space left on device")
        assert desk.recording == [1, 0]
        recorded = replays(run.directory)
        # Why it stopped fits into the full disk no more.
        assert recorded.fault == "The recording was cut off: realtime-mer did not come to its end."
        assert 1.0 < recorded.updates[-1].time_s < 13.0


def test_a_file_that_may_not_grow(desk: Desk, tmp_path: Path) -> None:
    """As where a quota is used up; needs no rights."""
    resource = pytest.importorskip("resource", reason="no such limits on Windows")
    if not hasattr(resource, "prlimit"):
        pytest.skip("only Linux sets the limits of another process")
    with contextlib.closing(Run(tmp_path / "recording", "--osc", desk.target)) as run:
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (700_000, 700_000))
        fill_up(run, "File too large")
        assert desk.recording == [1, 0]
        assert "The recording stopped after " in replays(run.directory).fault


def test_the_directory_is_removed(desk: Desk, tmp_path: Path) -> None:
    with contextlib.closing(Run(tmp_path / "recording", "--osc", desk.target)) as run:
        run.feed(5)
        run.wait_for_the_disk()
        shutil.rmtree(run.directory)
        run.feed(4)
        run.wait(lambda: run.told("recording incomplete"), "the fault")
        assert " was removed." in str(run.told("recording incomplete"))
        before_s = run.last_s()
        run.feed(5)
        run.wait(lambda: run.last_s() > before_s + 3.0, "predictions after the fault")
        assert run.end() == 0
        assert desk.recording == [1, 0]
        assert not run.directory.exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
def test_killed_while_recording(tmp_path: Path) -> None:
    with contextlib.closing(Run(tmp_path / "recording", "--no-osc")) as run:
        run.feed(8)
        run.wait(lambda: run.last_s() >= 7.0, "predictions")
        told_s = run.last_s()
        run.wait_for_the_disk()
        run.process.send_signal(signal.SIGKILL)
        assert run.process.wait(GENEROUS_S) == -signal.SIGKILL
        recorded = replays(run.directory)
        assert recorded.fault == "The recording was cut off: realtime-mer did not come to its end."
        assert recorded.updates[-1].time_s >= told_s
        picture = tmp_path / "plane.png"
        realtime_mer("view", run.directory, "--export", picture, "--size", "320x240")
        assert picture.stat().st_size > 1000
