"""How often the window draws beside the live pipeline, what that costs, and whether hours of it need more memory."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import os
import re
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from benchmarks.common import (
    DEFAULT_MUSIC,
    ROOT,
    WARM_UP_FRAMES,
    WARM_UP_S,
    BenchmarkError,
    OscReceiver,
    Process,
    at_least,
    cpu_time_s,
    machine,
    music_tape,
    options,
    page,
    progress,
    report,
    resident_mib,
    running,
    sound,
    table,
)
from benchmarks.offscreen import (
    PIXEL_FOR_PIXEL,
    Recognised,
    again,
    draw_into_memory,
    look,
    open_window,
    press,
    recognise,
)
from benchmarks.x_server import x_server
from realtime_mer.config import MODES, DisplaySettings
from realtime_mer.demo.instruments import RATE_HZ
from realtime_mer.demo.piece import render
from realtime_mer.updates import Board, SourceState

if TYPE_CHECKING:
    from benchmarks.painted import Count
    from realtime_mer.window.run import LiveWindow

DEFAULT_SECONDS = 20.0
DEFAULT_HOURS = 2.0
DEFAULT_SIZES_PX = ((1280, 720), (3840, 2160))
# What is asked for in software rendering.
LEAST_FPS = 30.0

_VIRTUAL = "Xvfb"
_PLATFORMS = {"offscreen": "offscreen", _VIRTUAL: "xcb"}
_START_TIMEOUT_S, _COUNT_TIMEOUT_S = 60.0, 10.0
# The hours repeat music with silence at its end.
_TAPE_S, _SILENCE_S = 300.0, 6.0
_LOST_DETAIL = "It delivers no data any more. Waiting for its return."
# How often memory is measured.
_SAMPLE_S = 900.0
# The rate at which a run reports its status.
_LOOKS_PER_S = 10


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What the window did. fps: pictures per second; longest_s: the longest time between two; thread_share: of a core,
    the thread that draws; x_share: the X server, None without one."""

    fps: float
    longest_s: float
    thread_share: float
    x_share: float | None


@dataclass(frozen=True, slots=True)
class _Run:
    """What was measured with one view. share: of a core, the whole process; drawn: None without a window."""

    name: str
    share: float
    n_predictions: int
    n_missing: int
    dropped_blocks: int
    losses: int
    drawn: _Drawn | None


@dataclass(frozen=True, slots=True)
class Sample:
    """A window after so much of a stream: pictures painted in all, and this process's resident memory (VmRSS)."""

    time_s: float
    pictures: int
    resident_mib: float


def measure(
    music: Path,
    seconds: float = DEFAULT_SECONDS,
    sizes_px: Sequence[tuple[int, int]] = DEFAULT_SIZES_PX,
    hours: float = DEFAULT_HOURS,
) -> str:
    """Measures, and returns the sections of the report. seconds, hours: 0 leaves out the one part or the other."""
    parts = [_rates(music, seconds, sizes_px)] if seconds else []
    return "\n\n".join([*parts, *([_hours(music, hours)] if hours else [])])


def write(music: Path, seconds: float, sizes_px: Sequence[tuple[int, int]], hours: float, output: Path) -> str:
    """Measures, writes the report, and returns its sections."""
    head = page("# The window", f"`python -m benchmarks.display`, {time.strftime('%Y-%m-%d')}. {machine()}")
    sections = measure(music, seconds, sizes_px, hours)
    output.write_text(f"{head}\n\n{sections}\n", encoding="utf-8")
    return sections


# In real time


def _rates(music: Path, seconds: float, sizes_px: Sequence[tuple[int, int]]) -> str:
    with _tape(music, _START_TIMEOUT_S + WARM_UP_S + seconds) as tape:
        progress(f"display: no view, {WARM_UP_S + seconds:.0f} s of music in real time")
        runs = [_run("no view", tape, seconds, None)]
        for platform, size_px, mode in itertools.product(_PLATFORMS, sizes_px, MODES):
            window = _Window(platform, size_px, mode)
            progress(f"display: {window.name}")
            runs.append(_run(window.name, tape, seconds, window))
    slowest = min(run.drawn.fps for run in runs if run.drawn is not None)
    return page(
        "## Display rate",
        f"""`realtime-mer --device default` in real time, music from a virtual sound card, OSC to one receiver. The
        window is drawn by software: into memory (Qt's offscreen platform), and on a virtual screen of its own size
        (Xvfb). Over {seconds:.0f} s after {WARM_UP_S:.0f} s: pictures per second as the window itself counts them
        (`LiveWindow.frames_painted`), and the longest time between two; CPU time of the whole process as a share of
        one core, its ratio to the same without a view, and the shares of the thread that draws and of the X server;
        blocks of sound that the pipeline dropped, and predictions that did not arrive.""",
        table(
            ("view", "pictures/s", "longest, ms", "one core", "ratio", "its thread", "X server", "dropped", "missing"),
            [_row(run, runs[0].share) for run in runs],
        ),
        f"""The slowest draws {slowest:.1f} pictures a second; at least {LEAST_FPS:.0f} are asked for in software
        rendering: {"met" if slowest >= LEAST_FPS else "NOT met"}. {sum(run.dropped_blocks for run in runs)} blocks of
        sound were dropped, {sum(run.n_missing for run in runs)} of {sum(run.n_predictions for run in runs)} predictions
        are missing, the device was lost {sum(run.losses for run in runs)} times. Not measured: a machine with a GPU and
        a screen; there was none.""",
    )


def _row(run: _Run, share_alone: float) -> tuple[str, ...]:
    drawn = run.drawn
    return (
        run.name,
        *(("", "") if drawn is None else (f"{drawn.fps:.1f}", f"{1000 * drawn.longest_s:.0f}")),
        f"{100 * run.share:.1f} %",
        f"{run.share / share_alone:.2f}",
        "" if drawn is None else f"{100 * drawn.thread_share:.1f} %",
        "" if drawn is None or drawn.x_share is None else f"{100 * drawn.x_share:.1f} %",
        str(run.dropped_blocks),
        str(run.n_missing),
    )


@contextlib.contextmanager
def _tape(music: Path, seconds: float) -> Iterator[Path]:
    """As common.music_tape; of the built-in piece if the default folder does not exist."""
    if music != DEFAULT_MUSIC or music.is_dir():
        with music_tape(music, seconds) as tape:
            yield tape
        return
    piece = np.concatenate(list(render()))
    with tempfile.TemporaryDirectory(prefix="benchmark") as folder:
        tape = Path(folder) / "piece.wav"
        soundfile.write(tape, np.tile(piece, (math.ceil(seconds * RATE_HZ / len(piece)), 1)), RATE_HZ, "PCM_16")
        yield tape


@dataclass(frozen=True, slots=True)
class _Window:
    """platform: of _PLATFORMS. mode: of config.MODES."""

    platform: str
    size_px: tuple[int, int]
    mode: str

    @property
    def name(self) -> str:
        return f"{self.mode}, {self.size_px[0]} x {self.size_px[1]}, {self.platform}"


def _run(name: str, tape: Path, seconds: float, window: _Window | None) -> _Run:
    with contextlib.ExitStack() as opened:
        receiver = opened.enter_context(contextlib.closing(OscReceiver()))
        environment = dict(opened.enter_context(sound(tape)))
        # Without the window settings saved on this machine.
        environment |= PIXEL_FOR_PIXEL
        environment["XDG_CONFIG_HOME"] = opened.enter_context(tempfile.TemporaryDirectory(prefix="benchmark"))
        command, x_pid = ["-m", "realtime_mer", "--no-plot"], None
        if window is not None:
            environment["QT_QPA_PLATFORM"] = _PLATFORMS[window.platform]
            if window.platform == _VIRTUAL:
                environment["DISPLAY"], x_pid = opened.enter_context(x_server(*window.size_px))
            command = ["-m", "benchmarks.painted", "x".join(map(str, window.size_px)), "--mode", window.mode]
        arguments = [*command, "--device", "default", "--no-terminal", "--osc", receiver.target]
        process = opened.enter_context(running(arguments, environment))
        receiver.wait_for(WARM_UP_FRAMES, _START_TIMEOUT_S)
        before = None if window is None else count_of(process, window.size_px)
        began_s, cpu_s, x_cpu_s = time.monotonic(), process.cpu_s(), cpu_time_s(x_pid) if x_pid else 0.0
        n_before = len(receiver.arrivals)
        time.sleep(seconds)
        elapsed_s = time.monotonic() - began_s
        share = (process.cpu_s() - cpu_s) / elapsed_s
        x_share = (cpu_time_s(x_pid) - x_cpu_s) / elapsed_s if x_pid else None
        drawn = None
        if window is not None and before is not None:
            after = count_of(process, window.size_px)
            counted_s = after.now_s - before.now_s
            drawn = _Drawn(
                (after.pictures - before.pictures) / counted_s,
                after.longest_s,
                (after.thread_s - before.thread_s) / counted_s,
                x_share,
            )
        indices = [arrival.index for arrival in receiver.arrivals[n_before:]]
    n_expected = indices[-1] - indices[0] + 1
    return _Run(name, share, n_expected, n_expected - len(indices), receiver.drops, receiver.losses, drawn)


def count_of(process: Process, size_px: tuple[int, int]) -> Count:
    """The counts of the window of a process of painted.py.

    Raises BenchmarkError if it does not report any, or if the window has another size.
    """
    # Only here: with Qt.
    from benchmarks.painted import reported_counts

    n_before = len(reported_counts(process.errors()))
    process.popen.send_signal(signal.SIGUSR1)
    deadline_s = time.monotonic() + _COUNT_TIMEOUT_S
    while len(counts := reported_counts(process.errors())) == n_before:
        if time.monotonic() > deadline_s:
            raise BenchmarkError(f"Expected a report of the pictures painted within {_COUNT_TIMEOUT_S:g} s, got none.")
        time.sleep(0.02)
    if (counts[-1].width_px, counts[-1].height_px) != size_px:
        raise BenchmarkError(f"Expected a window of {size_px[0]} x {size_px[1]}, got {counts[-1]}.")
    return counts[-1]


# Hours


def _hours(music: Path, hours: float) -> str:
    progress(f"display: {hours:g} h through the window")
    draw_into_memory()
    with _tape(music, _TAPE_S) as tape:
        recognised = recognise([tape], _SILENCE_S)
    began_s = time.monotonic()
    with open_window(DisplaySettings(mode="operator"), DEFAULT_SIZES_PX[0]) as (window, board):
        samples = list(show_hours(window, board, recognised, hours))
    elapsed_s = time.monotonic() - began_s
    rows = [
        (f"{sample.time_s / 60:.0f} min", str(sample.pictures), f"{sample.resident_mib:.1f} MiB") for sample in samples
    ]
    return page(
        "## Hours through the window",
        f"""The updates of a live run for its window, made by a session from {recognised.length_s / 60:.0f} minutes of
        music and silence, again and again, with the device lost in between: {hours:g} h of it in {elapsed_s:.0f} s
        ({3600 * hours / elapsed_s:.0f} times real time) through the real window in operator mode,
        {DEFAULT_SIZES_PX[0][0]} x {DEFAULT_SIZES_PX[0][1]}, drawn into memory; it looks at its board
        {_LOOKS_PER_S} times for each second of the stream. At each line of the table a key has changed the timelines'
        span: ten minutes, everything, the last minute, and so on. Resident memory (VmRSS) of the process, which holds
        the model too.""",
        table(("after", "pictures", "resident"), rows),
    )


def show_hours(
    window: LiveWindow, board: Board, recognised: Recognised, hours: float, *, looked_every: int = 1
) -> Iterator[Sample]:
    """Shows the same music again and again in a window that is open, for so many hours of stream time, as fast as that
    goes; gives a sample every quarter of an hour.

    board: the window's. looked_every: the window looks after every n-th status.
    """
    next_sample_s, end_s = _SAMPLE_S, 3600.0 * hours
    for number in itertools.count():
        repeated = again(recognised, number)
        updates = deque(repeated.updates)
        for status in repeated.statuses[::looked_every]:
            while updates and updates[0].time_s <= status.time_s:
                board.update(updates.popleft())
            board.status(status)
            look(window)
            if status.time_s >= next_sample_s:
                next_sample_s += _SAMPLE_S
                # The next span of the timelines.
                press(window, "Z")
                look(window)
                yield Sample(status.time_s, window.frames_painted, resident_mib(os.getpid()))
            if status.time_s >= end_s:
                return
        board.status(replace(repeated.statuses[-1], state=SourceState.LOST, detail=_LOST_DETAIL, level=None))
        look(window)


def size_of(text: str) -> tuple[int, int]:
    """An option's type, such as `1280x720`: width and height."""
    match = re.fullmatch(r"(\d{3,4})x(\d{3,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a size such as 1280x720, not {text}")
    return int(match[1]), int(match[2])


def main() -> int:
    """`python -m benchmarks.display`."""
    parser = options(__doc__)
    parser.add_argument(
        "--seconds", type=at_least(0), default=DEFAULT_SECONDS, help="how long, for each of the views; 0: none of them"
    )
    parser.add_argument(
        "--sizes",
        type=size_of,
        nargs="+",
        default=DEFAULT_SIZES_PX,
        metavar="WIDTHxHEIGHT",
        help="of the window, in pixels",
    )
    parser.add_argument("--hours", type=at_least(0), default=DEFAULT_HOURS, help="of a stream that is shown; 0: none")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "display.md", help="the report")
    given = parser.parse_args()
    return report(lambda: write(given.music, given.seconds, given.sizes, given.hours, given.output))


if __name__ == "__main__":
    sys.exit(main())
