"""Shared by the benchmarks: a sound server with music, the command as a process, an OSC receiver, and tables."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import soundfile
from pythonosc.osc_bundle import OscBundle

from benchmarks.sound_server import SoundServer
from realtime_mer import __version__
from realtime_mer.features.conditioning import MonoMix, Resampler
from realtime_mer.features.engine import ENGINE_RATE_HZ, FRAME_S, HOP_S
from realtime_mer.sources.reading import AUDIO_SUFFIXES, FILE_BLOCK_S, AudioFileError, read_blocks
from realtime_mer.types import FloatArray

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_MUSIC = ROOT.parent / "shared" / "deam" / "audio_long"
# Loading the model, and a session's first seconds, belong to start-up.
WARM_UP_S = 10.0
WARM_UP_FRAMES = round(WARM_UP_S / HOP_S)

_SINK = "benchmark"
_CHANNELS = 2
_PIECE_S = 20.0
_LIBRARIES = ("numpy", "scipy", "opensmile", "soxr", "sounddevice", "python-osc", "rich", "PyQt5", "pyqtgraph")
_EXIT_TIMEOUT_S = 10.0
_WIDTH = 120

Float64Array = npt.NDArray[np.float64]


class BenchmarkError(RuntimeError):
    """Something that a measurement needs is missing, or failed."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One prediction's packet. index: its `/mer/frame`; arrived_s: time.monotonic() at its arrival; time_s: its stream
    time; latency_s: its latency, None if it has none."""

    index: int
    arrived_s: float
    time_s: float = 0.0
    latency_s: float | None = None


class UdpReceiver:
    """Receives OSC bundles on a free port of 127.0.0.1, in a thread, and passes each to `_take`.

    buffer_bytes: of the socket; None for the system's default.
    """

    def __init__(self, buffer_bytes: int | None = None) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if buffer_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self._socket.bind(("127.0.0.1", 0))
        self._closing = False
        self._thread = threading.Thread(target=self._receive, name="OSC receiver", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def close(self) -> None:
        """Processes everything that has arrived, then closes the socket."""
        self._closing = True
        # Wakes the thread up.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while True:
            packet = self._socket.recv(65_536)
            arrived_s = time.monotonic()
            if not packet and self._closing:
                return
            self._take({message.address: message.params for message in OscBundle(packet)}, arrived_s)

    def _take(self, values: dict[str, Any], arrived_s: float) -> None:
        """values: the arguments by address; arrived_s: time.monotonic() at the arrival."""
        raise NotImplementedError


class OscReceiver(UdpReceiver):
    """Receives the command's OSC in this process, and records when each packet arrives."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.arrivals: list[Arrival] = []
        self.drops = 0
        self.losses = 0
        super().__init__()

    @property
    def target(self) -> str:
        """The argument of `--osc`."""
        return f"127.0.0.1:{self.port}"

    def wait_for(self, n_predictions: int, timeout_s: float) -> None:
        """Waits for so many predictions. Raises BenchmarkError after the timeout."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.arrivals) >= n_predictions, timeout_s):
                raise BenchmarkError(
                    f"Expected {n_predictions} predictions within {timeout_s:.0f} s, got {len(self.arrivals)}."
                )

    def check_complete(self) -> None:
        """Raises BenchmarkError if a prediction is missing, sound was dropped, or the device was lost."""
        complete = [arrival.index for arrival in self.arrivals] == list(range(len(self.arrivals)))
        if not complete or self.drops or self.losses:
            raise BenchmarkError(
                f"This machine did not keep up: {self.drops} blocks of sound dropped, the device lost {self.losses} "
                f"times, {'no' if complete else 'some'} predictions missing."
            )

    def _take(self, values: dict[str, Any], arrived_s: float) -> None:
        with self._changed:
            if "/mer/frame" in values:
                latency_s = values["/mer/latency"][0] / 1000.0 if "/mer/latency" in values else None
                index, time_s = values["/mer/frame"][0], values["/mer/time"][0]
                self.arrivals.append(Arrival(index, arrived_s, time_s, latency_s))
            if "/mer/status/drops" in values:
                self.drops = values["/mer/status/drops"][0]
                self.losses = values["/mer/status/losses"][0]
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this Python, started by `running`. started_s: time.monotonic() just before."""

    popen: subprocess.Popen[bytes]
    standard_error: IO[bytes]
    started_s: float

    def wait(self, timeout_s: float) -> None:
        """Waits until it has ended by itself. Raises BenchmarkError after the timeout."""
        try:
            self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"It has not ended within {timeout_s:.0f} s.") from error

    def errors(self) -> str:
        """Its standard error so far."""
        return os.pread(self.standard_error.fileno(), 65_536, 0).decode(errors="replace").strip()

    def cpu_s(self) -> float:
        """User and system time so far, including its child processes, such as the capturing one."""
        return self._sum_of(cpu_time_s)

    def resident_mib(self) -> float:
        """Its resident memory now, including its child processes."""
        return self._sum_of(resident_mib)

    def _sum_of(self, value_of: Callable[[int], float]) -> float:
        total = value_of(self.popen.pid)
        for children in Path(f"/proc/{self.popen.pid}/task").glob("*/children"):
            for pid in children.read_text().split():
                # It may have ended by now.
                with contextlib.suppress(FileNotFoundError, StopIteration):
                    total += value_of(int(pid))
        return total


@contextlib.contextmanager
def running(arguments: Sequence[str], environment: dict[str, str], terminal: int | None = None) -> Iterator[Process]:
    """Runs `python ARGUMENTS` until the end of the block, then ends it by SIGTERM.

    terminal: a pseudo-terminal's end, as its standard input and output.
    Raises BenchmarkError, with its standard error, if its exit code is not 0 or the block raised BenchmarkError.
    """
    inout = subprocess.DEVNULL if terminal is None else terminal
    with tempfile.TemporaryFile() as standard_error:
        started_s = time.monotonic()
        popen = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            cwd=ROOT,
            stdin=inout,
            stdout=inout,
            stderr=standard_error,
            start_new_session=True,
        )
        process = Process(popen, standard_error, started_s)
        problem = ""
        try:
            yield process
        except BenchmarkError as error:
            problem = str(error)
        finally:
            popen.terminate()
            try:
                popen.wait(_EXIT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                problem += " It did not end on SIGTERM."
                popen.kill()
                popen.wait()
        if problem or popen.returncode != 0:
            ended = f"python {' '.join(arguments)} ended with {popen.returncode}. {problem}"
            raise BenchmarkError(f"{ended}\n{process.errors()}".strip())


def resident_mib(pid: int) -> float:
    """A process's resident memory now (VmRSS), including shared memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def cpu_time_s(pid: int) -> float:
    """User and system time of a process and of its children that have ended, from /proc/PID/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(int(ticks) for ticks in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def sound(tape: Path, rate_hz: int = ENGINE_RATE_HZ, *, awake: bool = False) -> Iterator[dict[str, str]]:
    """A sound server that plays the tape to its default input; yields the environment variables for using it.

    rate_hz: of the virtual sound card. awake: whether sound starts at once; an idle virtual card takes two seconds.
    """
    missing = [command for command in ("pulseaudio", "pactl", "paplay", "parec") if shutil.which(command) is None]
    if missing:
        raise BenchmarkError(
            f"{', '.join(missing)} not found. Install PulseAudio; on Debian and Ubuntu: "
            "apt-get install pulseaudio pulseaudio-utils libasound2-plugins libportaudio2"
        )
    with contextlib.closing(SoundServer()) as server:
        server.load_sink(_SINK, rate=rate_hz, channels=_CHANNELS)
        server.pactl("set-default-source", f"{_SINK}.monitor")
        if awake:
            server.keep_awake(_SINK)
        server.play(tape, _SINK)
        yield server.environment


@contextlib.contextmanager
def music_tape(folder: Path, seconds: float) -> Iterator[Path]:
    """A temporary wav file: up to 20 s of each file in the folder, repeatedly, 16 bits, 44.1 kHz.

    It has two equal channels, since the virtual sound card has two and does not mix.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not paths:
        raise BenchmarkError(f"Expected audio files in {folder}, found none. Give a folder of music with --music.")
    with tempfile.TemporaryDirectory(prefix="benchmark") as temporary:
        tape = Path(temporary) / "music.wav"
        with soundfile.SoundFile(tape, "w", ENGINE_RATE_HZ, _CHANNELS, "PCM_16") as file:
            while file.frames < seconds * ENGINE_RATE_HZ:
                for path in paths:
                    file.write(np.stack([_piece(path)] * _CHANNELS, axis=1))
                    if file.frames >= seconds * ENGINE_RATE_HZ:
                        break
        yield tape


def _piece(path: Path) -> FloatArray:
    blocks = list(itertools.islice(read_blocks(path), round(_PIECE_S / FILE_BLOCK_S)))
    if not blocks:
        raise BenchmarkError(f"{path} has no sound.")
    mono = MonoMix(blocks[0].rate_hz).step(np.concatenate([block.samples for block in blocks]))
    resampler = Resampler(blocks[0].rate_hz)
    return np.concatenate([resampler.step(mono), resampler.flush()])


def capture_times(captures: Float64Array, ends: Sequence[int]) -> Float64Array:
    """The capture times of samples: the times of the callbacks that delivered them.

    captures: as saved by traced.py, shape (n_blocks, 2): number of samples up to the end of a block, and its time.
    ends: for each sample, the number of samples up to and including it.
    Returns shape (n,). Raises BenchmarkError for a sample that was never captured.
    """
    blocks = np.searchsorted(captures[:, 0], ends, side="left")
    if np.any(blocks == len(captures)):
        raise BenchmarkError("A prediction covers sound that was never captured.")
    return np.asarray(captures[blocks, 1])


def frame_ends(indices: Sequence[int], rate_hz: int, predictions_hz: float = 1.0 / HOP_S) -> list[int]:
    """The number of samples up to the end of each of these frames, in a stream without a gap."""
    return [math.ceil(round((index / predictions_hz + FRAME_S) * rate_hz, 6)) for index in indices]


def check_rate(captures: Float64Array, rate_hz: int) -> None:
    """Raises BenchmarkError if the device did not run at this rate, since frame ends would be wrong."""
    n_samples, elapsed_s = captures[-1] - captures[0]
    if abs(n_samples / elapsed_s / rate_hz - 1.0) > 0.02:
        raise BenchmarkError(f"Expected {rate_hz} samples per second of the device, got {n_samples / elapsed_s:.0f}.")


def in_ms(seconds: Float64Array) -> list[str]:
    """Median, 95th and 99th percentile, and maximum, in ms."""
    return [f"{1000 * value:.0f}" for value in (*np.percentile(seconds, (50, 95, 99)), seconds.max())]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for row in (header, rule, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    """The machine and the libraries, in one paragraph."""
    models = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    server = subprocess.run(["pulseaudio", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return f"""{" and ".join(sorted(models)) or platform.machine()}, {len(os.sched_getaffinity(0))} cores,
        {memory_gib:.0f} GiB; {system}, Linux {platform.release()}; Python {platform.python_version()};
        realtime-mer {__version__}, {libraries}; {server}.
        Load average over the minute before: {os.getloadavg()[0]:.2f}."""


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option shared by all benchmarks."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--music", type=Path, default=DEFAULT_MUSIC, metavar="DIR", help="a folder of music")
    return parser


def at_least(lowest: float) -> Callable[[str], float]:
    """The type of an option: a number of at least `lowest`."""

    def number(text: str) -> float:
        value = float(text)
        if not lowest <= value < math.inf:
            raise argparse.ArgumentTypeError(f"expected a number of at least {lowest:g}, got {text}")
        return value

    return number


def page(*parts: str) -> str:
    """Headings, paragraphs (wrapped) and tables as Markdown."""
    return "\n\n".join(
        part
        if part.startswith(("#", "|"))
        else textwrap.fill(" ".join(part.split()), _WIDTH, break_long_words=False, break_on_hyphens=False)
        for part in parts
    )


def report(measure: Callable[[], str]) -> int:
    """Prints the machine and what `measure` returns; returns the exit code."""
    try:
        print(page(machine()), end="\n\n", flush=True)
        print(measure())
    except (AudioFileError, BenchmarkError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def progress(text: str) -> None:
    """Prints the progress to standard error."""
    print(f"… {text}", file=sys.stderr, flush=True)
