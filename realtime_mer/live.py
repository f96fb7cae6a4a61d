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

from realtime_mer.sources import Source
from realtime_mer.status import Sink, SourceState, Status

if TYPE_CHECKING:
    from realtime_mer.recording.recorder import Recorder
    from realtime_mer.session import Session

# How long the recognising thread rests when there is neither sound nor a frame; openSMILE wakes it earlier.
_REST_S = 0.005
_STATUS_INTERVAL_S = 0.1
_JOIN_TIMEOUT_S = 0.9
# Below this, music's treble is missing from what the model was trained on.
_LOWEST_FULL_RATE_HZ = 32_000


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
    recorder: Recorder | None = None,
) -> None:
    """Runs until the source ends, the user ends it, or SIGINT, SIGTERM or SIGHUP does; then everything is closed.

    source: already started. open_session: called in the recognising thread, since it takes a second to import torch.
    sinks: closed by this; recorder: one of them, or None. display: shown in this thread.
    Raises what the source, the session or the display raises.
    """
    stop = threading.Event()
    failures: list[BaseException] = []

    def recognise() -> None:
        try:
            _recognise(source, open_session, sinks, recorder, stop)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the main thread has to say it
            failures.append(error)
        finally:
            stop.set()

    recognition = threading.Thread(target=recognise, name="recognition", daemon=True)
    try:
        with _ending_by_signal(stop):
            recognition.start()
            display(stop)
    finally:
        stop.set()
        if recognition.ident is not None:
            recognition.join(_JOIN_TIMEOUT_S)
        source.close()
        for sink in sinks:
            sink.close()
    if failures:
        raise failures[0]


def _recognise(
    source: Source,
    open_session: Callable[[], Session],
    sinks: Sequence[Sink],
    recorder: Recorder | None,
    stop: threading.Event,
) -> None:
    """The recognising thread: sound from the source, through the session, to every sink."""
    session = open_session()
    losses = _Losses()
    told_state, told_s = None, 0.0
    with contextlib.closing(session):
        while not stop.is_set():
            # Before the read: a source that has ended has then nothing left to read.
            state = source.state
            capture = source.read()
            if capture is not None:
                if recorder is not None:
                    recorder.heard(capture)
                updates = session.hear(capture)
            elif state in (SourceState.RUNNING, SourceState.PAUSED):
                updates = session.wait(_REST_S)
            else:
                updates = session.end_segment()
                stop.wait(_REST_S)
            for update in updates:
                for sink in sinks:
                    sink.update(update)
            losses.note(state)
            if state is not told_state or time.monotonic() - told_s >= _STATUS_INTERVAL_S:
                told_state, told_s = state, time.monotonic()
                _tell(source, state, session, losses, sinks, recorder)
            if capture is None and state is SourceState.ENDED:
                return
        for update in session.end_segment():
            for sink in sinks:
                sink.update(update)


def _tell(
    source: Source,
    state: SourceState,
    session: Session,
    losses: _Losses,
    sinks: Sequence[Sink],
    recorder: Recorder | None,
) -> None:
    status = Status(
        source=source.name,
        state=state,
        detail=source.detail or _hears_less(session.rate_hz),
        time_s=session.time_s,
        level=session.level,
        gain_db=session.gain_db,
        dropped_blocks=source.dropped_blocks,
        dropped_s=session.dropped_s,
        overflows=source.overflows,
        replaced_samples=source.replaced_samples,
        losses=losses.n,
        lost_s=losses.total_s(),
        recording=None if recorder is None else str(recorder.directory),
        recording_fault="" if recorder is None else recorder.fault,
    )
    for sink in sinks:
        sink.status(status)


def _hears_less(rate_hz: int | None) -> str:
    if rate_hz is None or rate_hz >= _LOWEST_FULL_RATE_HZ:
        return ""
    return f"At {rate_hz} Hz the model hears nothing above {rate_hz / 2000:g} kHz; 44100 Hz or more is better."


@contextlib.contextmanager
def _ending_by_signal(stop: threading.Event) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP set `stop`; a second one ends the process at once."""

    def end(number: int, _frame: object) -> None:
        if stop.is_set():
            sys.stderr.flush()
            os._exit(128 + number)
        stop.set()

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), end) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
