"""Lateness of predictions while other programs are busy, with and without a raised priority."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import (
    WARM_UP_FRAMES,
    WARM_UP_S,
    Arrival,
    BenchmarkError,
    Float64Array,
    OscReceiver,
    at_least,
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
from benchmarks.neighbours import busy
from realtime_mer.features.engine import HOP_S
from realtime_mer.priorities import NICENESS

DEFAULT_SECONDS = 30.0
# Until the next prediction is due.
ON_TIME_S = HOP_S
_ORDINARY = 0
_FEW, _MANY, _THREADS = 2, 4, 3
# The other programs start after start-up, and measuring starts after that.
_SETTLED_FRAMES = WARM_UP_FRAMES + 10
_START_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class _Beside:
    """The load: busy processes per core, in other sessions or the same one; busy threads in another process or the same
    one."""

    what: str
    elsewhere: int = 0
    in_session: int = 0
    threads_elsewhere: int = 0
    threads_inside: int = 0
    niceness: int = _ORDINARY


_CONDITIONS = (
    _Beside("nothing"),
    _Beside("1 busy process per core", elsewhere=1),
    _Beside(f"{_FEW} per core", elsewhere=_FEW),
    _Beside(f"{_MANY} per core", elsewhere=_MANY),
    _Beside(f"{_MANY} per core, raised", elsewhere=_MANY, niceness=NICENESS),
    _Beside(f"{_MANY} per core in its own session", in_session=_MANY),
    _Beside(f"{_MANY} per core in its own session, raised", in_session=_MANY, niceness=NICENESS),
    _Beside(f"{_THREADS} busy Python threads in a process of their own", threads_elsewhere=_THREADS),
    _Beside(f"{_THREADS} busy Python threads in its own process", threads_inside=_THREADS),
)


@dataclass(frozen=True, slots=True)
class _Run:
    """lateness_s: of the predictions received, shape (n,). drops: blocks of sound dropped; losses: of the device.
    fault: an error message, or empty."""

    lateness_s: Float64Array
    drops: int
    losses: int
    fault: str


def measure(music: Path, seconds: float = DEFAULT_SECONDS) -> str:
    """Measures, and returns the section of the report."""
    n_frames = round(seconds / HOP_S)
    n_cores = len(os.sched_getaffinity(0))
    rows: list[tuple[str, ...]] = []
    faults: list[str] = []
    with music_tape(music, _START_TIMEOUT_S + WARM_UP_S + seconds) as tape:
        for beside in _CONDITIONS:
            progress(f"headroom: beside {beside.what}, {WARM_UP_S + seconds:.0f} s of music in real time")
            run = _run(tape, n_frames, beside, n_cores)
            if run.fault and not rows:
                raise BenchmarkError(run.fault)
            # Missing predictions count as late.
            share = np.count_nonzero(run.lateness_s <= ON_TIME_S) / n_frames
            late_ms = in_ms(run.lateness_s) if len(run.lateness_s) else ["none", "", "", ""]
            rows.append((beside.what, *late_ms, f"{100 * share:.1f} %", str(run.drops), str(run.losses)))
            if run.fault:
                faults.append(f"Beside {beside.what}: {run.fault}")
    return page(
        "## Beside busy programs",
        f"""The live command on {n_cores} cores, music from a virtual sound card, OSC to another process; {n_frames}
        predictions each, after {HOP_S * _SETTLED_FRAMES:.0f} s. Lateness: from the end of a frame by the clock (from
        the capture with the least delay, so that a late callback counts too) to the arrival of its packet. On time:
        within {ON_TIME_S:g} s, before the next one is due. The busy processes have ordinary priority and, like programs
        started from a desktop, a session of their own each, except with "its own session": then all were started in one
        terminal. Raised: niceness {NICENESS} for the whole process.""",
        table(("beside", "p50, ms", "p95", "p99", "max", "on time", "dropped", "lost"), rows),
        *faults,
    )


def _run(tape: Path, n_frames: int, beside: _Beside, n_cores: int) -> _Run:
    """Raises BenchmarkError if there is no sound server; other failures are in the result."""
    n_all = _SETTLED_FRAMES + n_frames
    drops, losses, fault = 0, 0, ""
    with contextlib.closing(_punctual_receiver()) as receiver, sound(tape) as environment:
        arguments = (beside.niceness, beside.in_session * n_cores, beside.threads_inside, WARM_UP_S)
        command = ["-m", "benchmarks.neighbours", *map(str, arguments), "--device", "default"]
        try:
            with (
                running([*command, "--no-plot", "--no-terminal", "--osc", receiver.target], environment),
                busy(beside.elsewhere * n_cores, elsewhere=True, after_s=WARM_UP_S),
                busy(min(beside.threads_elsewhere, 1), beside.threads_elsewhere, elsewhere=True, after_s=WARM_UP_S),
            ):
                receiver.wait_for(_SETTLED_FRAMES, _START_TIMEOUT_S)
                drops, losses = receiver.drops, receiver.losses
                # Some may be missing.
                with contextlib.suppress(BenchmarkError):
                    receiver.wait_for(n_all, 2 * n_all * HOP_S)
        except BenchmarkError as error:
            fault = str(error)
        late_s = lateness(receiver.arrivals[_SETTLED_FRAMES:n_all])
        return _Run(late_s, receiver.drops - drops, receiver.losses - losses, fault)


def lateness(arrivals: list[Arrival]) -> Float64Array:
    """The time by the clock from the end of each frame to the arrival of its prediction. Shape (n,).

    Frames end by their stream time, even if their sound was captured later. The start of the stream is estimated from
    the capture with the least delay.
    """
    if not arrivals:
        return np.zeros(0)
    arrived_s = np.array([arrival.arrived_s for arrival in arrivals])
    ends_s = np.array([arrival.time_s for arrival in arrivals])
    latencies_s = np.array([np.nan if arrival.latency_s is None else arrival.latency_s for arrival in arrivals])
    return np.asarray(arrived_s - ends_s - np.nanmin(arrived_s - latencies_s - ends_s))


def _punctual_receiver() -> OscReceiver:
    """A receiver with real-time priority, if permitted, since its own delay would count as lateness."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        return OscReceiver()
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def main() -> int:
    """`python -m benchmarks.headroom`."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=at_least(5), default=DEFAULT_SECONDS, help="duration of each run")
    given = parser.parse_args()
    return report(lambda: measure(given.music, given.seconds))


if __name__ == "__main__":
    sys.exit(main())
