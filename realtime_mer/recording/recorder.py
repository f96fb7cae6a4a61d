"""The recorder: the sink that records, with a thread of its own for writing, so that no other waits for the disk."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from datetime import datetime
from pathlib import Path

from realtime_mer import __version__
from realtime_mer.config import LiveSettings
from realtime_mer.recording import FORMAT_VERSION, Beginning, RecordingError, reason_of
from realtime_mer.recording.folder import Entry, Event, Folder, Mark, Predicted
from realtime_mer.sources import Capture
from realtime_mer.updates import Status, Update

# How much may wait for the disk: seconds of sound, and entries of all kinds.
_QUEUE_S = 20.0
_QUEUE_ENTRIES = 2**17
# How often waiting entries are written, and how much sound is written earlier.
_FLUSH_S = 1.0
_EARLY_S = 5.0
# At the end, don't wait longer than this for the disk.
_CLOSE_TIMEOUT_S = 5.0


class Recorder:
    """The sink that records: `capture` takes the sound, `update` and `status` the results.

    None of them waits: a thread writes, at most a second later. If it cannot (the disk is full or too slow, the folder
    is gone), the recording stops there and can be replayed up to that point; `fault` has the reason, `lost_s` counts
    the sound since, and everything else goes on. Sound or an update after `close` is such a fault too.
    A recording of a part of a run begins with `begin` and ends with `finish`.

    directory: must be empty or not exist yet. checkpoint_sha256: of the model's file, in hexadecimal.
    Raises RecordingError if the folder cannot be used; nothing there is ever overwritten.
    """

    def __init__(self, directory: Path, settings: LiveSettings, source_name: str, checkpoint_sha256: str) -> None:
        facts = {
            "format_version": FORMAT_VERSION,
            "realtime_mer_version": __version__,
            "checkpoint_sha256": checkpoint_sha256,
            "source": source_name,
            "started": _time_of_day(),
        }
        try:
            _make_empty(directory)
            self._folder = Folder(directory, settings, facts)
        except OSError as error:
            raise RecordingError(f"{directory} cannot be recorded into: {error.strerror or error}.") from error
        self.directory = directory
        self.fault = ""
        self._condition = threading.Condition()
        self._entries: deque[Entry] = deque()
        self._queued_s = 0.0
        self._taken_s = 0.0
        self._lost_s = 0.0
        self._stopped = False
        self._closing = False
        self._finished = False
        self._open_end = False
        self._last_event: tuple[str, str, str] | None = None
        self._gain_db: float | None = None
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    @property
    def lost_s(self) -> float:
        """How much sound came since the recording stopped, in seconds."""
        return self._lost_s

    @property
    def is_ended(self) -> bool:
        """Whether its thread has finished."""
        return not self._thread.is_alive()

    def begin(self, beginning: Beginning) -> None:
        """In the middle of a run, before anything else. The first capture must begin a segment, of any number."""
        self._put(beginning, 0.0)

    def capture(self, capture: Capture) -> None:
        """Takes sound, in the order of recognition. Its samples must not be changed afterwards."""
        self._put(capture, _duration_s(capture))

    def update(self, update: Update) -> None:
        self._put(Predicted(update, self._gain_db), 0.0)

    def status(self, status: Status) -> None:
        self._gain_db = status.gain_db
        event = (str(status.state), "" if status.level is None else str(status.level.state), status.detail)
        if event != self._last_event:
            self._last_event = event
            self._put(Event(status.time_s, _time_of_day(), *event), 0.0)

    def mark(self, number: int, time_s: float, text: str) -> None:
        """Takes a marked moment of stream time; only the first 200 characters of the text are kept."""
        self._put(Mark(time_s, _time_of_day(), number, text), 0.0)

    def finish(self, *, open_end: bool) -> None:
        """Ends it in the middle of a run, without waiting; `close` must still be called, and waits for the disk.

        Later sound does not belong to this recording: it is neither a fault nor lost.
        open_end: whether the last segment goes on in the run. A replay ends it there, and so has a few updates more.
        """
        with self._condition:
            self._finished, self._open_end = True, open_end
            self._closing = self._stopped = True
            self._condition.notify()

    def close(self) -> None:
        with self._condition:
            self._closing = self._stopped = True
            self._condition.notify()
        self._thread.join(_CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            self.fault = self.fault or self._fault_text("the disk did not take its end")

    def _put(self, entry: Entry, duration_s: float) -> None:
        with self._condition:
            if self._finished:
                return
            full = self._queued_s + duration_s > _QUEUE_S or len(self._entries) >= _QUEUE_ENTRIES
            if full and not self._stopped:
                # Without a gap, it can be replayed up to here.
                self._stopped = True
                self.fault = self._fault_text("the disk is too slow")
            if not self._stopped:
                self._entries.append(entry)
                self._queued_s += duration_s
                self._taken_s += duration_s
                if self._queued_s > _EARLY_S:
                    self._condition.notify()
                return
            self._lost_s += duration_s
            if not self._closing or self.fault or isinstance(entry, Event | Mark):
                return
            self.fault = self._fault_text("it was closed before the end")
        # The recording may already be marked as whole. After `close`, this may wait for the disk.
        self._thread.join(_CLOSE_TIMEOUT_S)
        if not self._thread.is_alive():
            with contextlib.suppress(OSError):
                self._folder.write_facts(self.fault, self._lost_s)

    def _fault_text(self, reason: str) -> str:
        return (
            f"The recording stopped after {self._taken_s:.1f} s of sound: {reason}. "
            "What it holds until then can be replayed."
        )

    def _write(self) -> None:
        """The thread."""
        try:
            closing = False
            while not closing:
                with self._condition:
                    self._condition.wait_for(lambda: self._closing or self._queued_s > _EARLY_S, _FLUSH_S)
                    closing = self._closing
                self._write_queued()
            self._folder.finish(self.fault, self._lost_s, open_end=self._open_end)
        # An error here must not end the run.
        except Exception as error:  # noqa: BLE001
            self._fail(reason_of(error))
            self._folder.abandon()
            with self._condition:
                self._condition.wait_for(lambda: self._closing)
            # The disk may have room again.
            with contextlib.suppress(OSError):
                self._folder.write_facts(self.fault, self._lost_s)

    def _write_queued(self) -> None:
        while self._entries:
            # An entry counts as queued until it is written.
            entry = self._entries[0]
            self._folder.write(entry)
            with self._condition:
                self._entries.popleft()
                self._queued_s -= _duration_s(entry)
        self._folder.flush()

    def _fail(self, reason: str) -> None:
        with self._condition:
            self._stopped = True
            self._taken_s -= self._queued_s
            self._lost_s += self._queued_s
            self._queued_s = 0.0
            self._entries.clear()
            self.fault = self.fault or self._fault_text(reason)


def _duration_s(entry: Entry) -> float:
    return len(entry.samples) / entry.rate_hz if isinstance(entry, Capture) else 0.0


def _time_of_day() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _make_empty(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise RecordingError(f"{directory} is a file; a recording needs a folder of its own.")
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise RecordingError(f"The folder {directory} is not empty. Nothing is overwritten: give a new folder.")
