"""How much of one core the live command takes: without a view, with the terminal view, with the window."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.common import (
    WARM_UP_FRAMES,
    WARM_UP_S,
    BenchmarkError,
    OscReceiver,
    at_least,
    cpu_time_s,
    music_tape,
    options,
    page,
    progress,
    report,
    running,
    sound,
    table,
)

DEFAULT_SECONDS = 40.0
_START_TIMEOUT_S = 60.0
_ROWS, _COLUMNS = 40, 120
_SCREEN = "1280x800x24"


def measure(music: Path, seconds: float = DEFAULT_SECONDS) -> str:
    """Measures, and returns the section of the report."""
    rows = []
    with music_tape(music, _START_TIMEOUT_S + WARM_UP_S + seconds) as tape:
        progress(f"cpu: without a view, {WARM_UP_S + seconds:.0f} s of music in real time")
        rows.append(("no view", _share(tape, seconds, ["--no-plot", "--no-terminal"], {}), ""))
        progress("cpu: with the terminal view")
        with _terminal() as terminal:
            rows.append(
                (f"terminal view, {_COLUMNS} x {_ROWS}", _share(tape, seconds, ["--no-plot"], {}, terminal), "")
            )
        progress("cpu: with the window, not shown")
        rows.append(
            ("window, Qt's offscreen platform", _share(tape, seconds, [], {"QT_QPA_PLATFORM": "offscreen"}), "")
        )
        if shutil.which("Xvfb") is not None:
            progress("cpu: with the window, on a virtual screen")
            with _x_server() as (display, x_pid):
                before_s, began_s = cpu_time_s(x_pid), time.monotonic()
                share = _share(tape, seconds, [], {"DISPLAY": display})
                x_share = (cpu_time_s(x_pid) - before_s) / (time.monotonic() - began_s)
            rows.append((f"window, on a virtual screen (Xvfb {_SCREEN})", share, f"{100 * x_share:.1f} %"))
    return page(
        "## CPU",
        f"""`realtime-mer --device default` in real time, music from a virtual sound card, OSC to one receiver: user and
        system time of the process and of the short-lived processes that it starts, over {seconds:.0f} s after
        {WARM_UP_S:.0f} s, as a share of one core. No sound dropped, no prediction missing. The sound server's own time
        is not in it.""",
        table(("view", "one core", "X server"), [(name, f"{100 * share:.1f} %", x) for name, share, x in rows]),
    )


def _share(
    tape: Path, seconds: float, arguments: Sequence[str], variables: dict[str, str], terminal: int | None = None
) -> float:
    """CPU time over time, of the live command with these arguments and environment variables."""
    with contextlib.closing(OscReceiver()) as receiver, sound(tape) as environment:
        command = ["-m", "realtime_mer", "--device", "default", "--osc", receiver.target, *arguments]
        with running(command, {**environment, **variables, "TERM": "xterm-256color"}, terminal) as process:
            receiver.wait_for(WARM_UP_FRAMES, _START_TIMEOUT_S)
            before_s, began_s = process.cpu_s(), time.monotonic()
            time.sleep(seconds)
            share = (process.cpu_s() - before_s) / (time.monotonic() - began_s)
            if "no window" in process.told():
                raise BenchmarkError(process.told())
        receiver.check_complete()
    return share


@contextlib.contextmanager
def _terminal() -> Iterator[int]:
    """A terminal that somebody reads; gives its other end."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))

    def read() -> None:
        # Where nobody has it open any more, reading fails.
        with contextlib.suppress(OSError):
            while os.read(reader, 65_536):
                pass

    thread = threading.Thread(target=read, name="terminal", daemon=True)
    thread.start()
    try:
        yield terminal
    finally:
        os.close(terminal)
        thread.join()
        os.close(reader)


@contextlib.contextmanager
def _x_server() -> Iterator[tuple[str, int]]:
    """A virtual X server: its display and its process's number."""
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", _SCREEN, "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=(writer,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(writer)
    try:
        with os.fdopen(reader) as told:
            number = told.readline().strip()
        if not number:
            raise BenchmarkError("Xvfb does not start.")
        yield f":{number}", server.pid
    finally:
        server.terminate()
        server.wait()


def main() -> int:
    """`python -m benchmarks.cpu`."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=at_least(5), default=DEFAULT_SECONDS, help="how long, for each of the views")
    given = parser.parse_args()
    return report(lambda: measure(given.music, given.seconds))


if __name__ == "__main__":
    sys.exit(main())
