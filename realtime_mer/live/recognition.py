"""A live run from start to end: a source, the recognition thread, the sinks, and the display in the main thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from realtime_mer.features.engine import FeatureEngineError
from realtime_mer.live.input_faults import InputWatch, low_rate_note
from realtime_mer.live.requests import RefusedError, Requests
from realtime_mer.log import LOGGER, notify
from realtime_mer.osc.composing import Event
from realtime_mer.sources import Capture, Source
from realtime_mer.types import PredictionError
from realtime_mer.updates import Sink, SourceState, Status, Update

if TYPE_CHECKING:
    from realtime_mer.live.session import Session
    from realtime_mer.recording.recorder import Recorder

# How long the recognition thread rests when there is neither sound nor a frame; openSMILE wakes it earlier.
_REST_S = 0.005
_STATUS_INTERVAL_S = 0.1
_JOIN_TIMEOUT_S = 0.9
# With more sound than this inside it, openSMILE is behind and gets no more: new sound waits where it can be dropped.
_LARGEST_BACKLOG_S = 2.0


# Runs in the main thread until the run ends: shows the state, and sets the event when the user wants to end.
Display = Callable[[threading.Event], None]


@dataclass(slots=True)
class _Losses:
    """How often the source was lost, and for how long, as seen by the recognition thread."""

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
    source: Source, recognition: Recognition, sinks: Sequence[Sink], display: Display, stop: threading.Event
) -> bool:
    """Runs until the source ends or `stop` is set, by the display or another thread; then closes source and sinks.

    source: already started. sinks: those of the recognition. display: runs in this thread.
    Returns whether the source came to its end. Raises what the source, the session or the display raises.
    """
    failures: list[BaseException] = []
    came_to_end = False

    def recognise() -> None:
        nonlocal came_to_end
        try:
            came_to_end = recognition.run(stop)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the main thread raises it
            failures.append(error)
        finally:
            recognition.refuse_requests()
            stop.set()

    thread = threading.Thread(target=recognise, name="recognition", daemon=True)
    thread.start()
    try:
        display(stop)
    finally:
        stop.set()
        thread.join(_JOIN_TIMEOUT_S)
        source.close()
        for sink in sinks:
            sink.close()
        recognition.close_recording()
    if failures:
        raise failures[0]
    return came_to_end


class Recognition:
    """The recognition thread: takes sound from the source through the session to every sink.

    open_session: called in that thread, while sound is already coming in. recorder: one that is already running, or
    None. requests: from other threads; they are carried out between two captures, by the methods below marked
    "A request". emit: sends an event. ignored_packets: how many packets to the control port were no commands.
    watch: finds faults of the input; None: they are not looked for.
    """

    def __init__(
        self,
        source: Source,
        open_session: Callable[[], Session],
        sinks: Sequence[Sink],
        recorder: Recorder | None,
        *,
        requests: Requests,
        emit: Callable[[Event], None],
        ignored_packets: Callable[[], int],
        watch: InputWatch | None = None,
    ) -> None:
        self._source = source
        self._open_session = open_session
        self._session: Session
        self._sinks = sinks
        self._recorder = recorder
        self._recorder_awaited = False
        self._recorder_unwanted = False
        self._ending_recorders: list[Recorder] = []
        self._requests = requests
        self._emit = emit
        self._ignored_packets = ignored_packets
        self._watch = watch
        self._losses = _Losses()
        self._reported: SourceState | None = None
        self._reported_s = 0.0
        self._warned_hz: int | None = None
        self._restarts = ""
        self._n_resets = 0
        self._n_marks = 0

    def run(self, stop: threading.Event) -> bool:
        """Returns whether the source came to its end before `stop` was set."""
        self._session = self._open_session()
        with contextlib.closing(self._session):
            while not stop.is_set():
                # Before the read: a source that has ended has then nothing left to read.
                state = self._source.state
                behind = self._session.backlog_s > _LARGEST_BACKLOG_S
                capture = None if behind else self._source.read()
                self._send(self._updates(capture, state, behind))
                self._losses.note(state)
                self._requests.carry_out(self)
                if state is not self._reported or time.monotonic() - self._reported_s >= _STATUS_INTERVAL_S:
                    self._report(state)
                if capture is None and not behind:
                    if state is SourceState.ENDED:
                        return True
                    if not self._goes_on(state):
                        stop.wait(_REST_S)
            self._send(self._session.end_segment())
            self._report(SourceState.ENDED)
        return False

    def reset(self) -> str:
        """A request: the model starts afresh, as if the program had just begun."""
        self._send(self._unless_broken(self._session.end_segment))
        # If that failed, the segment is still open, without anything in it that could fail.
        self._session.end_segment()
        # It starts another segment, so that a recording replays in the same way.
        self._n_resets += 1
        return "the sound so far is forgotten"

    def prepare_recording(self) -> str:
        """A request: checks that a recording may begin; `start_recording` or `give_up_recording` follows."""
        if self._recorder is not None and not self._recorder.fault:
            raise RefusedError(f"A recording is already being made, in {self._recorder.directory}.")
        if self._recorder_awaited:
            raise RefusedError("A recording is already being started.")
        self._recorder_awaited = True
        return ""

    def give_up_recording(self, reason: str) -> str:
        """A request: the recorder could not be made."""
        self._recorder_awaited = self._recorder_unwanted = False
        raise RefusedError(reason)

    def start_recording(self, recorder: Recorder) -> str:
        """A request. The model starts afresh here, so that a replay gives the same predictions."""
        if self._recorder_unwanted:
            self.give_up_recording("It was stopped before it began.")
        self._recorder_awaited = False
        self.reset()
        if self._recorder is not None:
            self._end_recording(self._recorder)
        recorder.begin(self._session.beginning)
        self._recorder = recorder
        return str(recorder.directory)

    def stop_recording(self) -> str:
        """A request. If the recorder is still being made, the recording does not start."""
        self._recorder_unwanted = self._recorder_awaited
        if self._recorder is None:
            if self._recorder_unwanted:
                return "before it began"
            raise RefusedError("No recording is being made.")
        recorder, self._recorder = self._recorder, None
        self._end_recording(recorder)
        return str(recorder.directory)

    def mark(self, text: str) -> str:
        """A request: marks this moment in the recording, if there is one, and for all receivers."""
        self._n_marks += 1
        if self._recorder is not None:
            self._recorder.mark(self._n_marks, self._session.time_s, text)
        self._emit(Event("event/mark", (self._n_marks,)))
        return f"mark {self._n_marks} at {self._session.time_s:.1f} s"

    def refuse_requests(self) -> None:
        """After the run: answers all requests that are still waiting."""
        self._requests.refuse_all()

    def close_recording(self) -> None:
        """After the run: returns when everything is recorded."""
        for recorder in (*self._ending_recorders, *([] if self._recorder is None else [self._recorder])):
            recorder.close()

    def _end_recording(self, recorder: Recorder) -> None:
        # Its own thread finishes it: this one never waits for a disk.
        recorder.finish(open_end=True)
        self._ending_recorders = [r for r in (*self._ending_recorders, recorder) if not r.is_ended]

    def _updates(self, capture: Capture | None, state: SourceState, behind: bool) -> list[Update]:
        if capture is not None:
            self._warn_of_rate(capture.rate_hz)
            if self._watch is not None:
                self._watch.step(capture.samples, capture.rate_hz, self._source.name)
            if self._n_resets:
                capture = replace(capture, segment=capture.segment + self._n_resets)
            if self._recorder is not None:
                self._recorder.capture(capture)
            return self._unless_broken(partial(self._session.process, capture))
        if behind or self._goes_on(state):
            return self._unless_broken(partial(self._session.wait, _REST_S))
        return self._unless_broken(self._session.end_segment)

    def _unless_broken(self, process: Callable[[], list[Update]]) -> list[Update]:
        try:
            return process()
        # ValueError: a feature that is no number.
        except (FeatureEngineError, PredictionError, ValueError) as error:
            # One bad frame must not end a show, but an engine that has never given a frame would fail again.
            if not self._session.recover():
                raise
            self._restarts = f"The engine had to be restarted: {error}"
            LOGGER.warning("%s", self._restarts)
            return []

    def _goes_on(self, state: SourceState) -> bool:
        """Whether the next sound follows the last one without a gap."""
        return state is SourceState.RUNNING or (state is SourceState.PAUSED and not self._source.interrupted_by_pause)

    def _send(self, updates: Sequence[Update]) -> None:
        for update in updates:
            for sink in self._all_sinks():
                sink.update(update)

    def _report(self, state: SourceState) -> None:
        self._reported, self._reported_s = state, time.monotonic()
        source, session, recorder = self._source, self._session, self._recorder
        status = Status(
            source=source.name,
            state=state,
            detail=source.detail or low_rate_note(session.rate_hz) or self._input_note() or self._restarts,
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
            ignored_packets=self._ignored_packets(),
        )
        for sink in self._all_sinks():
            sink.status(status)

    def _all_sinks(self) -> list[Sink]:
        return [*self._sinks, *([] if self._recorder is None else [self._recorder])]

    def _input_note(self) -> str:
        return "" if self._watch is None else self._watch.note

    def _warn_of_rate(self, rate_hz: int) -> None:
        if rate_hz != self._warned_hz and (warning := low_rate_note(rate_hz)):
            notify(warning)
        self._warned_hz = rate_hz
