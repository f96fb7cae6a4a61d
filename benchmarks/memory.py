"""How much memory the live command has after 10 and 60 minutes of audio, and whether a prediction was lost."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import OscReceiver, at_least, music_tape, options, page, progress, report, running, table
from realtime_mer.features import FRAME_S, HOP_S

DEFAULT_MINUTES = (10.0, 60.0)
_TAPE_S = 600.0
_START_TIMEOUT_S = 60.0


def measure(music: Path, minutes: Sequence[float] = DEFAULT_MINUTES) -> str:
    """Measures, and returns the section of the report."""
    rows = []
    with music_tape(music, _TAPE_S) as tape, contextlib.closing(OscReceiver()) as receiver:
        arguments = ["--input", str(tape), "--loop", "--fast", "--no-plot", "--no-terminal", "--osc", receiver.target]
        with running(["-m", "realtime_mer", *arguments], dict(os.environ)) as process:
            began_s = time.monotonic()
            for minute in sorted(minutes):
                progress(f"memory: to minute {minute:g} of the audio, as fast as possible")
                # Even the slowest machine that keeps up live is there by then.
                receiver.wait_for(round((minute * 60 - FRAME_S) / HOP_S) + 1, minute * 60 + _START_TIMEOUT_S)
                rows.append((f"{minute:g} min", f"{process.resident_mib():.0f} MiB"))
            elapsed_s = time.monotonic() - began_s
        receiver.check_complete()
    last = receiver.arrivals[-1]
    return page(
        "## Memory",
        f"""Resident memory (VmRSS) of `realtime-mer --input FILE --loop --fast --no-plot --no-terminal`, OSC to one
        receiver; {_TAPE_S / 60:.0f} minutes of music in a loop, as fast as possible
        ({max(minutes) * 60 / elapsed_s:.1f} times real time).""",
        table(("after", "resident"), rows),
        f"Of {last.index + 1} predictions none was lost: every `/mer/frame` from 0 to {last.index} came, in order.",
    )


def main() -> int:
    """`python -m benchmarks.memory`."""
    parser = options(__doc__)
    parser.add_argument(
        "--minutes",
        type=at_least(1),
        nargs="+",
        default=DEFAULT_MINUTES,
        help="after how many minutes of audio to look",
    )
    given = parser.parse_args()
    return report(lambda: measure(given.music, given.minutes))


if __name__ == "__main__":
    sys.exit(main())
