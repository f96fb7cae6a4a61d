"""Latency from sound to OSC, compared with a rolling buffer that is extracted again every 0.5 s."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import (
    WARM_UP_S,
    Float64Array,
    OscReceiver,
    at_least,
    capture_times,
    check_rate,
    frame_ends,
    in_ms,
    music_tape,
    options,
    page,
    progress,
    report,
    running,
    sound,
    table,
)
from realtime_mer.config import ModelSettings
from realtime_mer.features.engine import ENGINE_RATE_HZ, HOP_S

DEFAULT_SECONDS = 90.0
DEFAULT_BUFFER_S = 2.0
# The rate of most sound cards, besides openSMILE's own.
_RESAMPLED_RATE_HZ = 48_000
_START_TIMEOUT_S = 60.0


@dataclass(frozen=True, eq=False)
class _Live:
    """latencies_s: shape (n_frames,). cpu_s_per_s: CPU time per second of sound."""

    latencies_s: Float64Array
    cpu_s_per_s: float


@dataclass(frozen=True, eq=False)
class _RollingLive(_Live):
    """extractions_s: the median time to extract a buffer's descriptors, and their deltas."""

    extractions_s: tuple[float, float]


def measure(music: Path, seconds: float = DEFAULT_SECONDS, buffer_s: float = DEFAULT_BUFFER_S) -> str:
    """Measures, and returns the section of the report."""
    n_frames = round(seconds / HOP_S)
    default, open_ = ModelSettings(), ModelSettings("open")
    with music_tape(music, _START_TIMEOUT_S + WARM_UP_S + seconds) as tape:
        progress(f"latency: the live command, {WARM_UP_S + seconds:.0f} s of music in real time")
        ours = _live(tape, seconds, ENGINE_RATE_HZ, default)
        progress(f"latency: the same from a sound card at {_RESAMPLED_RATE_HZ} Hz")
        resampled = _live(tape, seconds, _RESAMPLED_RATE_HZ, default)
        progress("latency: the open model, from both")
        ours_open = _live(tape, seconds, ENGINE_RATE_HZ, open_)
        resampled_open = _live(tape, seconds, _RESAMPLED_RATE_HZ, open_)
        progress("latency: the rolling buffer, the same music in real time")
        rolling = _live_rolling(tape, n_frames, buffer_s)
    ratio = np.percentile(ours.latencies_s, 95) / np.percentile(rolling.latencies_s, 95)
    descriptors_ms, deltas_ms = (1000 * seconds for seconds in rolling.extractions_s)
    return page(
        "## From sound to OSC",
        f"""From the capture of a frame's last sample (the PortAudio callback that delivered it) to the arrival of
        its OSC packet in another process; {n_frames} predictions in real time ({len(ours_open.latencies_s)} of the open
        model, {open_.predictions_hz:g} a second), after {WARM_UP_S:.0f} s; no sound dropped, no prediction missing.
        Delays in the sound server and the driver before the callback are not included. The rolling buffer is the
        obvious alternative: every 0.5 s the last {buffer_s:g} s are extracted again with `opensmile.Smile`
        (ComParE_2016, descriptors and deltas); mean and standard deviation over the last second are DEAM's 260
        features. Its latency ends when the features are ready: without descriptors, model and OSC. How far its features
        differ: [rolling_buffer.md](rolling_buffer.md). Measured one after the other, on the same music.""",
        table(
            ("latency, ms", "p50", "p95", "p99", "max"),
            [
                ("realtime-mer, to the OSC packet", *in_ms(ours.latencies_s)),
                (f"the same, sound card at {_RESAMPLED_RATE_HZ} Hz (resampled)", *in_ms(resampled.latencies_s)),
                ("the open model", *in_ms(ours_open.latencies_s)),
                (f"the same, sound card at {_RESAMPLED_RATE_HZ} Hz (resampled)", *in_ms(resampled_open.latencies_s)),
                ("rolling buffer, to the features", *in_ms(rolling.latencies_s)),
            ],
        ),
        f"""At p95 realtime-mer takes {ratio:.2f} times as long as the rolling buffer. Its pitch smoother waits for
        sound past the frame's end. A new extraction does not, but takes time to compute: {descriptors_ms:.0f} ms in the
        median for the descriptors and {deltas_ms:.0f} ms for the deltas, since the Python interface gives one or the
        other.""",
        f"""CPU time of the whole process per second of sound: realtime-mer {1000 * ours.cpu_s_per_s:.0f} ms, including
        452 descriptors, the model and OSC; with the open model, {open_.predictions_hz:g} predictions a second,
        {1000 * ours_open.cpu_s_per_s:.0f} ms; the rolling buffer {1000 * rolling.cpu_s_per_s:.0f} ms without them.""",
    )


def _live(tape: Path, seconds: float, rate_hz: int, model: ModelSettings) -> _Live:
    """The live command, with a trace of its captures; its OSC is received here."""
    n_warm_up = round(WARM_UP_S * model.predictions_hz)
    n_all = n_warm_up + round(seconds * model.predictions_hz)
    with (
        tempfile.TemporaryDirectory(prefix="benchmark") as folder,
        contextlib.closing(OscReceiver()) as receiver,
        sound(tape, rate_hz) as environment,
    ):
        trace = Path(folder) / "captures.npy"
        command = ["-m", "benchmarks.traced", str(trace), "--device", "default", "--no-plot", "--no-terminal"]
        with running([*command, "--model", model.name, "--osc", receiver.target], environment) as process:
            receiver.wait_for(n_warm_up, _START_TIMEOUT_S)
            cpu_before_s = process.cpu_s()
            receiver.wait_for(n_all, WARM_UP_S + seconds + _START_TIMEOUT_S)
            cpu_s = process.cpu_s() - cpu_before_s
        receiver.check_complete()
        captures = np.load(trace)
    check_rate(captures, rate_hz)
    arrived_s = np.array([arrival.arrived_s for arrival in receiver.arrivals[:n_all]])
    latencies_s = arrived_s - capture_times(captures, frame_ends(range(n_all), rate_hz, model.predictions_hz))
    return _Live(latencies_s[n_warm_up:], cpu_s / seconds)


def _live_rolling(tape: Path, n_frames: int, buffer_s: float) -> _RollingLive:
    with tempfile.TemporaryDirectory(prefix="benchmark") as folder, sound(tape) as environment:
        result = Path(folder) / "result.json"
        with running(["-m", "benchmarks.rolling", str(result), str(n_frames), str(buffer_s)], environment) as process:
            process.wait(2 * _START_TIMEOUT_S + WARM_UP_S + n_frames * HOP_S)
        measured = json.loads(result.read_text(encoding="ascii"))
    return _RollingLive(np.array(measured["latencies_s"]), measured["cpu_s_per_s"], tuple(measured["extractions_s"]))


def main() -> int:
    """`python -m benchmarks.latency`."""
    parser = options(__doc__)
    parser.add_argument(
        "--seconds", type=at_least(10), default=DEFAULT_SECONDS, help="of music, for each of the five runs"
    )
    parser.add_argument(
        "--buffer", type=at_least(1), default=DEFAULT_BUFFER_S, metavar="S", help="the rolling buffer's length"
    )
    given = parser.parse_args()
    return report(lambda: measure(given.music, given.seconds, given.buffer))


if __name__ == "__main__":
    sys.exit(main())
