"""CPU share and memory of the live command without a window; display.py measures it with one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.common import (
    WARM_UP_FRAMES,
    WARM_UP_S,
    OscReceiver,
    at_least,
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


def measure(music: Path, seconds: float = DEFAULT_SECONDS) -> str:
    """Measures, and returns the section of the report."""
    with music_tape(music, _START_TIMEOUT_S + WARM_UP_S + seconds) as tape:
        progress(f"cpu: without a view, {WARM_UP_S + seconds:.0f} s of music in real time")
        rows = [("no view", *_costs(tape, seconds, ["--no-plot", "--no-terminal"]))]
        progress("cpu: with the terminal view")
        with _terminal() as terminal:
            costs = _costs(tape, seconds, ["--no-plot"], terminal)
            rows.append((f"terminal view, {_COLUMNS} x {_ROWS}", *costs))
    return page(
        "## CPU and memory",
        f"""`realtime-mer --device default` in real time, music from a virtual sound card, OSC to one receiver: user and
        system time of the process and its children over {seconds:.0f} s after {WARM_UP_S:.0f} s, as a share of one
        core, and their resident memory. No sound dropped, no prediction missing. The sound server is not included.""",
        table(("view", "one core", "resident"), rows),
    )


def _costs(tape: Path, seconds: float, arguments: Sequence[str], terminal: int | None = None) -> tuple[str, str]:
    """CPU share and resident memory of the live command with these arguments, as texts."""
    with contextlib.closing(OscReceiver()) as receiver, sound(tape) as environment:
        command = ["-m", "realtime_mer", "--device", "default", "--osc", receiver.target, *arguments]
        with running(command, {**environment, "TERM": "xterm-256color"}, terminal) as process:
            receiver.wait_for(WARM_UP_FRAMES, _START_TIMEOUT_S)
            before_s, began_s = process.cpu_s(), time.monotonic()
            time.sleep(seconds)
            share = (process.cpu_s() - before_s) / (time.monotonic() - began_s)
            resident_mib = process.resident_mib()
        receiver.check_complete()
    return f"{100 * share:.1f} %", f"{resident_mib:.0f} MiB"


@contextlib.contextmanager
def _terminal() -> Iterator[int]:
    """A pseudo-terminal whose output is read; yields the end for the command."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))

    def read() -> None:
        # Reading fails when the other end is closed.
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


def main() -> int:
    """`python -m benchmarks.cpu`."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=at_least(5), default=DEFAULT_SECONDS, help="duration of each run")
    given = parser.parse_args()
    return report(lambda: measure(given.music, given.seconds))


if __name__ == "__main__":
    sys.exit(main())
