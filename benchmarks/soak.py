"""Plays hours of music through the live pipeline, faster than real time, and checks that nothing is lost or grows.

`python -m benchmarks.soak --deam PATH --hours 8`; without --deam it plays the built-in piece. The exit code is 1 if a
prediction was lost, came twice or has a wrong time, if threads or descriptors were left behind, or if memory grew by
more than the bound. Everything but the source is as in a live run (`Recognition`, `run_live`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import (
    BenchmarkError,
    UdpReceiver,
    at_least,
    machine,
    page,
    progress,
    report,
    resident_mib,
    table,
)
from benchmarks.programme import RATE_HZ, Expected, Programme, Stretch, song_sounds
from realtime_mer.config import MODEL_NAMES, LevelMeterSettings, LiveSettings, ModelSettings, TargetSettings
from realtime_mer.features.engine import HOP_S
from realtime_mer.features.renewal import RenewalSettings
from realtime_mer.live.recognition import Recognition, run_live
from realtime_mer.live.requests import Requests
from realtime_mer.live.session import Session
from realtime_mer.models.checkpoint import load_checkpoint
from realtime_mer.models.packaged import chosen_checkpoint_path
from realtime_mer.osc.sink import OscSink
from realtime_mer.recording.reader import read_recording
from realtime_mer.recording.recorder import Recorder
from realtime_mer.sources.paced import PacedSource
from realtime_mer.updates import Board, Sink, Status, Update
from train.deam import DeamError, load_deam

DEFAULT_HOURS = 8.0
# The rest has pauses and other transitions.
_PAUSELESS_SHARE = 0.8
_N_SAMPLES = 32
# How much resident memory may grow from the second quarter of a run to the last one. The second is added if no second
# engine was running in the second quarter (measured: 29).
MEMORY_BOUND_MIB = 16.0
_SECOND_ENGINE_MIB = 32.0
# Rounding of sums of float64 seconds.
_DRIFT_BOUND_S = 1e-6
# How long the receiver may take for the last packets.
_RECEIVER_TIMEOUT_S = 10.0
_RECEIVE_BUFFER_BYTES = 2**20
# 48 kHz, two channels, three bytes, FLAC at its worst.
_RECORDED_BYTES_PER_S = RATE_HZ * 2 * 3
_PROGRESS_S = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of this process after audio_s of sound."""

    audio_s: float
    elapsed_s: float
    resident_mib: float
    threads: int
    descriptors: int
    n_predictions: int
    n_received: int
    n_renewals: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a soak. faults: what went wrong, in sentences.

    n_expected: predictions due by the number of samples; n_predictions: predictions of the session; n_received:
    predictions received by UDP. drift_s: the largest error of a prediction's time, compared with its samples.
    dropped_s: dropped sound. before, after: threads and descriptors of the process.
    """

    samples: tuple[Sample, ...]
    happened: dict[str, int]
    audio_s: float
    elapsed_s: float
    n_expected: int
    n_predictions: int
    n_received: int
    n_stretches: int
    n_renewals: int
    n_renewals_expected: int
    drift_s: float
    dropped_s: float
    recorded_s: float
    memory_growth_mib: float
    before: tuple[int, int]
    after: tuple[int, int]
    faults: tuple[str, ...]


def renewal_for(pauseless_s: float) -> RenewalSettings:
    """The pipeline's own settings if that much music is enough for renewals; else settings that give a few renewals."""
    own = RenewalSettings()
    if pauseless_s > own.period_s + own.warm_up_s + 60.0:
        return own
    period_s = max(pauseless_s / 4.5 // HOP_S * HOP_S, 8.0)
    return RenewalSettings(period_s, max(period_s / 4.0 // HOP_S * HOP_S, HOP_S))


class Check:
    """The first sink: compares each prediction with the samples, and records the state of the process."""

    def __init__(self, expected: Expected, length_s: float) -> None:
        self.n_predictions = 0
        self.drift_s = 0.0
        self.dropped_s = 0.0
        self.faults: list[str] = []
        self.samples: list[Sample] = []
        self.sent: deque[tuple[int, float]] = deque()
        self.session: Session | None = None
        self.receiver: Receiver | None = None
        self._expected = expected
        self._length_s = length_s
        self._frame = 0
        self.began_s = time.monotonic()

    def update(self, update: Update) -> None:
        if update.index != self.n_predictions:
            self.fault(f"Prediction {update.index} came instead of {self.n_predictions}.")
        self.n_predictions += 1
        stretch = self._stretch()
        if stretch is None:
            self.fault(f"Prediction {update.index} at {update.time_s:.3f} s is one too many.")
            return
        self.drift_s = max(self.drift_s, abs(update.time_s - stretch.time_s(self._frame)))
        self._frame += 1
        self.sent.append((update.index, update.time_s))

    def status(self, status: Status) -> None:
        self.dropped_s = status.dropped_s
        if status.time_s >= len(self.samples) * self._length_s / _N_SAMPLES:
            self.look(status.time_s)

    def close(self) -> None:
        """Does nothing; the results are read afterwards."""

    def look(self, audio_s: float) -> None:
        """Records the state of the process."""
        self.samples.append(
            Sample(
                audio_s,
                time.monotonic() - self.began_s,
                resident_mib(os.getpid()),
                threading.active_count(),
                _descriptors(),
                self.n_predictions,
                self.receiver.n_received if self.receiver else 0,
                self.session.n_renewals if self.session else 0,
            )
        )

    def fault(self, text: str) -> None:
        # A few are enough.
        if len(self.faults) < 10:
            self.faults.append(text)

    def _stretch(self) -> Stretch | None:
        """The stretch of the next prediction."""
        stretches = self._expected.stretches
        while stretches and stretches[0].n_frames is not None and stretches[0].n_frames <= self._frame:
            stretches.popleft()
            self._frame = 0
        return stretches[0] if stretches else None


class Receiver(UdpReceiver):
    """Receives OSC: counts predictions, and compares their times with those sent."""

    def __init__(self, check: Check) -> None:
        self.n_received = 0
        self._check = check
        super().__init__(_RECEIVE_BUFFER_BYTES)

    @property
    def target(self) -> TargetSettings:
        return TargetSettings("127.0.0.1", self.port)

    def _take(self, values: dict[str, Any], _arrived_s: float) -> None:
        if "/mer/frame" in values:
            self._compare(values["/mer/frame"][0], values["/mer/time"][0])

    def _compare(self, index: int, time_s: float) -> None:
        self.n_received += 1
        while self._check.sent and self._check.sent[0][0] < index:
            lost, _ = self._check.sent.popleft()
            self._check.fault(f"Prediction {lost} never came by UDP.")
        if not self._check.sent or self._check.sent[0][0] != index:
            self._check.fault(f"Prediction {index} came by UDP twice, or was never made.")
            return
        _, sent_s = self._check.sent.popleft()
        if np.float32(sent_s) != np.float32(time_s):
            self._check.fault(f"Prediction {index} of {sent_s} s came by UDP as of {time_s} s.")


def soak(
    songs: Sequence[Path],
    length_s: float,
    *,
    record_s: float = 0.0,
    memory_bound_mib: float = MEMORY_BOUND_MIB,
    model: str = "default",
) -> Outcome:
    """Plays an evening of this length through the live pipeline. songs: the built-in piece if empty.

    record_s: how much is recorded into a temporary folder, from the start. model: "default" or "open". Needs /proc.
    Raises BenchmarkError if there is not enough room for the recording.
    """
    pauseless_s = _PAUSELESS_SHARE * length_s
    renewal = renewal_for(pauseless_s)
    settings = ModelSettings(name=model)
    expected = Expected(renewal, settings)
    programme = Programme(song_sounds(songs), pauseless_s, length_s, expected)
    check = Check(expected, length_s)
    checkpoint = load_checkpoint(chosen_checkpoint_path(settings))
    before = _threads_and_descriptors()
    began_s = time.monotonic()
    with contextlib.ExitStack() as opened:
        receiver = opened.enter_context(contextlib.closing(Receiver(check)))
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="soak-"))) / "recording"
        recorder = _recorder(folder, record_s) if record_s else None
        source = PacedSource("an evening", partial(programme.captures), fast=True)
        osc = OscSink([receiver.target])
        board = Board(source.name)
        requests = Requests()

        def open_session() -> Session:
            rate_hz = settings.predictions_hz
            check.session = Session(checkpoint, LevelMeterSettings(), renewal=renewal, prediction_rate_hz=rate_hz)
            check.receiver = receiver
            return check.session

        sinks: list[Sink] = [check, osc, board]
        recognition = Recognition(
            source, open_session, sinks, recorder, requests=requests, emit=osc.event, ignored_packets=lambda: 0
        )
        source.start()

        def display(stop: threading.Event) -> None:
            _watch(stop, check, requests, record_s, length_s)

        run_live(source, recognition, sinks, display, threading.Event())
        check.look(length_s)
        deadline_s = time.monotonic() + _RECEIVER_TIMEOUT_S
        while check.sent and time.monotonic() < deadline_s:
            time.sleep(0.01)
        recorded_s = _check_recording(recorder, folder, record_s, check) if recorder else 0.0
    elapsed_s = time.monotonic() - began_s
    after = _threads_and_descriptors()
    assert check.session is not None
    n_renewals = check.session.n_renewals
    growth_mib, had_second_engine = _growth_mib(check.samples)
    if not had_second_engine:
        memory_bound_mib += _SECOND_ENGINE_MIB
    faults = [*check.faults]
    for wrong, text in (
        (
            check.n_predictions != expected.n_frames,
            f"{expected.n_frames} predictions were due, {check.n_predictions} made.",
        ),
        (
            receiver.n_received != check.n_predictions,
            f"{check.n_predictions} predictions were made, {receiver.n_received} came by UDP.",
        ),
        (check.drift_s > _DRIFT_BOUND_S, f"A prediction's time was {check.drift_s:.2g} s from its samples'."),
        (check.dropped_s > 0.0, f"{check.dropped_s:.2f} s of sound were dropped."),
        (n_renewals != expected.n_renewals, f"{expected.n_renewals} renewals were due, {n_renewals} made."),
        (after != before, f"{before} threads and descriptors before, {after} afterwards."),
        (growth_mib > memory_bound_mib, f"Memory grew by {growth_mib:.1f} MiB, more than {memory_bound_mib:g}."),
    ):
        if wrong:
            faults.append(text)
    return Outcome(
        tuple(check.samples),
        dict(sorted(programme.happened.items())),
        expected.n_samples / RATE_HZ,
        elapsed_s,
        expected.n_frames,
        check.n_predictions,
        receiver.n_received,
        expected.n_stretches,
        n_renewals,
        expected.n_renewals,
        check.drift_s,
        check.dropped_s,
        recorded_s,
        growth_mib,
        before,
        after,
        tuple(faults),
    )


def _watch(stop: threading.Event, check: Check, requests: Requests, record_s: float, length_s: float) -> None:
    """Prints the progress, and stops the recording when it is long enough."""
    recording = record_s > 0.0
    last_s = time.monotonic()
    while not stop.wait(0.1):
        heard_s = check.session.time_s if check.session else 0.0
        if recording and heard_s >= record_s:
            recording = False
            requests.put(lambda recognition: recognition.stop_recording(), _ignore)
        if time.monotonic() - last_s >= _PROGRESS_S and check.samples:
            last_s, now = time.monotonic(), check.samples[-1]
            speed = heard_s / max(time.monotonic() - check.began_s, 1e-3)
            progress(
                f"soak: {heard_s / 3600:.2f} of {length_s / 3600:.2f} h, {speed:.1f} times real time, "
                f"{check.n_predictions} predictions, {now.resident_mib:.0f} MiB, {len(check.faults)} faults"
            )


def _ignore(_ok: bool, _text: str) -> None:
    """A recording that cannot be stopped is found by its length."""


def _recorder(folder: Path, record_s: float) -> Recorder:
    needed, free = record_s * _RECORDED_BYTES_PER_S, shutil.disk_usage(folder.parent).free
    if 2 * needed > free:
        raise BenchmarkError(
            f"Recording {record_s / 60:g} min may take {needed / 2**30:.1f} GiB; {folder.parent} has only "
            f"{free / 2**30:.1f} GiB, of which half is used at most. Give a smaller --record, or another TMPDIR."
        )
    return Recorder(folder, LiveSettings(), "an evening", "0" * 64)


def _check_recording(recorder: Recorder, folder: Path, record_s: float, check: Check) -> float:
    """Checks the recording; returns its length in seconds."""
    if recorder.fault:
        check.fault(recorder.fault)
    recording = read_recording(folder)
    if recording.fault:
        check.fault(recording.fault)
    recorded_s = sum((segment.n_samples or 0) / segment.rate_hz for segment in recording.segments)
    if recorded_s < record_s:
        check.fault(f"{record_s:.1f} s were to be recorded, and {recorded_s:.1f} s were.")
    if [update.index for update in recording.updates] != list(range(len(recording.updates))):
        check.fault("Predictions are missing in the recording.")
    return recorded_s


def _threads_and_descriptors() -> tuple[int, int]:
    return threading.active_count(), _descriptors()


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _growth_mib(samples: Sequence[Sample]) -> tuple[float, bool]:
    """The growth of resident memory from its maximum in the second quarter, when everything is loaded and every ring is
    full, to that in the last quarter; and whether a second engine had run by the second quarter."""
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    growth_mib = max(sample.resident_mib for sample in late) - max(sample.resident_mib for sample in early)
    return growth_mib, early[-1].n_renewals > 0


def described(outcome: Outcome, command: str) -> str:
    """The report's section."""
    shown = [*outcome.samples[:-1:2], outcome.samples[-1]]
    rows = [
        (
            f"{sample.audio_s / 60:.1f} min",
            f"{sample.resident_mib:.1f} MiB",
            str(sample.threads),
            str(sample.descriptors),
            str(sample.n_predictions),
            str(sample.n_received),
            str(sample.n_renewals),
        )
        for sample in shown
    ]
    happened = ", ".join(f"{n} {what}" for what, n in outcome.happened.items())
    parts = [
        "## An evening of music",
        f"""`{command}`: {outcome.audio_s / 3600:.2f} h of sound at 48 kHz in {outcome.elapsed_s / 60:.1f} min,
        {outcome.audio_s / outcome.elapsed_s:.1f} times real time: {happened}; {outcome.n_stretches} starts of music
        after silence or a lost device, each with a new engine.""",
        table(("time", "resident", "threads", "descriptors", "predictions", "by UDP", "renewals"), rows),
        f"""{outcome.n_expected} predictions were due by the number of samples; {outcome.n_predictions} were made and
        {outcome.n_received} received by UDP. Their times were right to within {outcome.drift_s:.1g} s.
        {outcome.dropped_s:g} s of sound were dropped. {outcome.n_renewals} of {outcome.n_renewals_expected} engine
        renewals within music. Its largest resident memory grew by {outcome.memory_growth_mib:.1f} MiB from the second
        quarter to the last. Threads and descriptors: {outcome.before} before, {outcome.after} afterwards.
        {outcome.recorded_s / 60:.1f} min were recorded.""",
        f"**{'Nothing was lost, doubled, late or left behind.' if not outcome.faults else 'Faults:'}** "
        + " ".join(outcome.faults),
    ]
    return page(*parts)


def main() -> int:
    """`python -m benchmarks.soak`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deam", type=Path, metavar="PATH", help="the folder of DEAM (default: the built-in piece)")
    parser.add_argument("--hours", type=at_least(0.02), default=DEFAULT_HOURS, help="of sound (default: %(default)s)")
    parser.add_argument("--model", choices=MODEL_NAMES, default=MODEL_NAMES[0], help="(default: %(default)s)")
    parser.add_argument("--record", type=at_least(0), default=0.0, metavar="MIN", help="minutes to record")
    parser.add_argument("--memory", type=at_least(0), default=MEMORY_BOUND_MIB, metavar="MIB", help="bound of growth")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the report here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here, as JSON")
    given = parser.parse_args()
    faults: tuple[str, ...] = ()

    def measure() -> str:
        nonlocal faults
        outcome = soak(
            _songs(given.deam),
            given.hours * 3600.0,
            record_s=60.0 * given.record,
            memory_bound_mib=given.memory,
            model=given.model,
        )
        faults = outcome.faults
        text = described(outcome, f"python -m benchmarks.soak {' '.join(_arguments(given))}")
        if given.output is not None:
            head = page("# The soak", f"{time.strftime('%Y-%m-%d')}. {machine()}")
            given.output.write_text(f"{head}\n\n{text}\n", encoding="utf-8")
        if given.json is not None:
            given.json.write_text(json.dumps(asdict(outcome), indent=1), encoding="utf-8")
        return text

    return report(measure) or int(bool(faults))


def _arguments(given: argparse.Namespace) -> list[str]:
    return [
        *(["--deam PATH"] if given.deam else []),
        f"--hours {given.hours:g}",
        *([f"--model {given.model}"] if given.model != MODEL_NAMES[0] else []),
        *([f"--record {given.record:g}"] if given.record else []),
    ]


def _songs(deam: Path | None) -> list[Path]:
    if deam is None:
        return []
    try:
        return [song.audio for song in load_deam(deam).songs if song.audio is not None]
    except DeamError as error:
        raise BenchmarkError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
