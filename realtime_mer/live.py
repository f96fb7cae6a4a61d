"""A live run: a source, the thread that recognises, the sinks, and the display in the main thread; start to end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtime_mer.features import FeatureEngineError
from realtime_mer.sources import Capture, Source
from realtime_mer.status import Sink, SourceState, Status, Update
from realtime_mer.types import PredictionError

if TYPE_CHECKING:
    from realtime_mer.recording.recorder import Recorder
    from realtime_mer.session import Session

# How long the recognising thread rests when there is neither sound nor a frame; openSMILE wakes it earlier.
_REST_S = 0.005
_STATUS_INTERVAL_S = 0.1
_JOIN_TIMEOUT_S = 0.9
# With so much sound inside it openSMILE is behind, and is given no more: what comes waits where it can be dropped.
_LARGEST_BACKLOG_S = 2.0
# Below this, music's treble is missing from what the model was trained on.
_LOWEST_FULL_RATE_HZ = 32_000
# Two signals in a row are one wish (a terminal that closes sends two); one that comes after this is impatience.
_PATIENCE_S = 2.0


# What the main thread does until the run ends: shows how things are, and sets the event when the user wants to end.
Display = Callable[[threading.Event], None]


@dataclass(slots=True)
class _Losses:
    """How often the source was lost, and for how long, as seen by the recognising thread."""

    n: int = 0
    past_s: float = 0.0
    since_s: float | None = None

    def note(self, state: SourceState) -> None:
        now_s = time.monotonic()
        if state is SourceState.LOST and self.since_s is None:
            self.n += 1
            self.since_s = now_s
        elif state is not SourceState.LOST and self.since_s is not None:
            self.past_s += now_s - self.since_s
            self.since_s = None

    def total_s(self) -> float:
        return self.past_s + (0.0 if self.since_s is None else time.monotonic() - self.since_s)


def run_live(
    source: Source,
    open_session: Callable[[], Session],
    sinks: Sequence[Sink],
    display: Display,
    stop: threading.Event,
    recorder: Recorder | None = None,
) -> bool:
    """Runs until the source ends or `stop` is set, by the display or by anybody else; then source and sinks are closed.

    source: already started. open_session: called in the recognising thread, since it takes a second to import torch.
    recorder: one of the sinks, or None. display: shown in this thread.
    Returns whether the source came to its end. Raises what the source, the session or the display raises.
    """
    failures: list[BaseException] = []
    came_to_end = False

    def recognise() -> None:
        nonlocal came_to_end
        try:
            came_to_end = _Recognition(source, open_session(), sinks, recorder).run(stop)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the main thread has to say it
            failures.append(error)
        finally:
            stop.set()

    recognition = threading.Thread(target=recognise, name="recognition", daemon=True)
    recognition.start()
    try:
        display(stop)
    finally:
        stop.set()
        recognition.join(_JOIN_TIMEOUT_S)
        source.close()
        for sink in sinks:
            sink.close()
    if failures:
        raise failures[0]
    return came_to_end


class _Recognition:
    """What the recognising thread does: sound from the source, through the session, to every sink."""

    def __init__(self, source: Source, session: Session, sinks: Sequence[Sink], recorder: Recorder | None) -> None:
        self._source = source
        self._session = session
        self._sinks = sinks
        self._recorder = recorder
        self._losses = _Losses()
        self._told: SourceState | None = None
        self._told_s = 0.0
        self._warned_hz: int | None = None
        self._restarts = ""

    def run(self, stop: threading.Event) -> bool:
        """Returns whether the source came to its end before `stop` was set."""
        with contextlib.closing(self._session):
            while not stop.is_set():
                # Before the read: a source that has ended has then nothing left to read.
                state = self._source.state
                behind = self._session.backlog_s > _LARGEST_BACKLOG_S
                capture = None if behind else self._source.read()
                self._send(self._updates(capture, state, behind))
                self._losses.note(state)
                if state is not self._told or time.monotonic() - self._told_s >= _STATUS_INTERVAL_S:
                    self._tell(state)
                if capture is None and not behind:
                    if state is SourceState.ENDED:
                        return True
                    if state not in (SourceState.RUNNING, SourceState.PAUSED):
                        stop.wait(_REST_S)
            self._send(self._session.end_segment())
            self._tell(SourceState.ENDED)
        return False

    def _updates(self, capture: Capture | None, state: SourceState, behind: bool) -> list[Update]:
        if capture is not None:
            self._warn_of_rate(capture.rate_hz)
            if self._recorder is not None:
                self._recorder.heard(capture)
        try:
            if capture is not None:
                return self._session.hear(capture)
            if behind or state in (SourceState.RUNNING, SourceState.PAUSED):
                return self._session.wait(_REST_S)
            return self._session.end_segment()
        except (FeatureEngineError, PredictionError) as error:
            # One bad frame must not end a night; an engine that never gave any will not give the next one either.
            if not self._session.recover():
                raise
            self._restarts = f"The engine had to be started afresh: {error}"
            return []

    def _send(self, updates: Sequence[Update]) -> None:
        for update in updates:
            for sink in self._sinks:
                sink.update(update)

    def _tell(self, state: SourceState) -> None:
        self._told, self._told_s = state, time.monotonic()
        source, session, recorder = self._source, self._session, self._recorder
        status = Status(
            source=source.name,
            state=state,
            detail=source.detail or _hears_less(session.rate_hz) or self._restarts,
            time_s=session.time_s,
            level=session.level,
            gain_db=session.gain_db,
            dropped_blocks=source.dropped_blocks,
            dropped_s=session.dropped_s,
            overflows=source.overflows,
            replaced_samples=source.replaced_samples,
            losses=self._losses.n,
            lost_s=self._losses.total_s(),
            recording=None if recorder is None else str(recorder.directory),
            recording_fault="" if recorder is None else recorder.fault,
        )
        for sink in self._sinks:
            sink.status(status)

    def _warn_of_rate(self, rate_hz: int) -> None:
        if rate_hz != self._warned_hz and (warning := _hears_less(rate_hz)):
            print(f"realtime-mer: {warning}", file=sys.stderr)
        self._warned_hz = rate_hz


def _hears_less(rate_hz: int | None) -> str:
    if rate_hz is None or rate_hz >= _LOWEST_FULL_RATE_HZ:
        return ""
    return f"At {rate_hz} Hz the model hears nothing above {rate_hz / 2000:g} kHz; 44100 Hz or more is better."


@contextlib.contextmanager
def ending_by_signal() -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set, for as long as the block lasts, closing included.

    Ctrl-C once more, two seconds later or more, ends the process at once. A signal that was ignored stays ignored
    (nohup).
    """
    stop = threading.Event()
    first_s = time.monotonic()

    def end(number: int, _frame: object) -> None:
        nonlocal first_s
        if not stop.is_set():
            first_s = time.monotonic()
            stop.set()
        elif number == signal.SIGINT and time.monotonic() - first_s > _PATIENCE_S:
            os._exit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
