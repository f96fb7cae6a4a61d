"""The time from the start of the live command to its first captured sample and its first prediction's packet."""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import OscReceiver, at_least, music_tape, options, page, progress, report, running, sound, table
from realtime_mer.features.engine import ENGINE_RATE_HZ

DEFAULT_RUNS = 7
_RUN_TIMEOUT_S = 60.0
_RUN_S = 10.0
_AT_ONCE_S = 0.01


def measure(music: Path, runs: int = DEFAULT_RUNS) -> str:
    """Measures, and returns the section of the report."""
    captured_s, predicted_s, at_once_s = [], [], []
    with music_tape(music, (runs + 1) * _RUN_S) as tape, sound(tape, awake=True) as environment:
        for run in range(runs + 1):
            progress(f"startup: run {run} of {runs}" if run else "startup: a first run, to warm the file cache")
            captured, predicted, at_once = _start(environment)
            if run:
                captured_s.append(captured)
                predicted_s.append(predicted)
                at_once_s.append(at_once)
    waited_s = [predicted - captured for captured, predicted in zip(captured_s, predicted_s, strict=True)]
    return page(
        "## Start-up",
        f"""From the start of the process of `realtime-mer --device default --no-plot --no-terminal` to the first
        callback with samples, and to the arrival of the first prediction's OSC packet in another process; {runs} runs,
        files in the cache, sound from the start. A prediction covers 1.0 s of sound, and openSMILE returns that frame
        about 0.1 s after its end; but the first callbacks deliver at once what the sound server has buffered
        ({1000 * statistics.median(at_once_s):.0f} ms of sound in the median).""",
        table(
            ("from start, s", "median", "least", "most"),
            [
                ("to the first captured sample", *_summary(captured_s)),
                ("to the first prediction", *_summary(predicted_s)),
                ("between the two", *_summary(waited_s)),
            ],
        ),
    )


def _summary(seconds: Sequence[float]) -> tuple[str, str, str]:
    return f"{statistics.median(seconds):.2f}", f"{min(seconds):.2f}", f"{max(seconds):.2f}"


def _start(environment: dict[str, str]) -> tuple[float, float, float]:
    """Seconds from a process's start to its first captured sample, and to its first prediction's packet; and the
    seconds of sound that came with the first sample.
    """
    with (
        tempfile.TemporaryDirectory(prefix="benchmark") as folder,
        contextlib.closing(OscReceiver()) as receiver,
    ):
        trace = Path(folder) / "captures.npy"
        command = ["-m", "benchmarks.traced", str(trace), "--device", "default", "--no-plot", "--no-terminal"]
        with running([*command, "--osc", receiver.target], environment) as process:
            receiver.wait_for(1, _RUN_TIMEOUT_S)
        captures = np.load(trace)
    first_s = float(captures[0, 1])
    at_once = captures[captures[:, 1] < first_s + _AT_ONCE_S]
    return (
        first_s - process.started_s,
        receiver.arrivals[0].arrived_s - process.started_s,
        float(at_once[-1, 0]) / ENGINE_RATE_HZ,
    )


def main() -> int:
    """`python -m benchmarks.startup`."""
    parser = options(__doc__)
    parser.add_argument("--runs", type=at_least(1), default=DEFAULT_RUNS, help="number of starts")
    given = parser.parse_args()
    return report(lambda: measure(given.music, int(given.runs)))


if __name__ == "__main__":
    sys.exit(main())
