"""The log of a live run: a line for whatever happens in a night, in a file of bounded size, and nobody waits for it.

`begin` opens it, `LogSink` tells it what becomes of the source, the level, the recording and the targets, `end` closes
it. Anything else may tell it too, through `logging.getLogger("realtime_mer")`; what other libraries warn of is in it as
well. Without a log all of that goes nowhere.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import logging.handlers
import os
import platform
import queue
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from realtime_mer import __version__
from realtime_mer.config import LiveSettings
from realtime_mer.status import Answer, LevelState, SourceState, Status, Update

if TYPE_CHECKING:
    from realtime_mer.osc.space import Values

# The files PATH, PATH.1 (the last one before it) to PATH.5.
_FILE_BYTES, _N_OLD_FILES = 2**20, 5
# What waits for the disk at most; and how many lines a minute there may be of those that are no warning, since a flood
# of commands must not push the night out of the files.
_MOST_WAITING, _MOST_A_MINUTE = 1000, 300
_LONGEST_LINE = 2000
# At the end, a disk that is slower than this keeps what it has.
_CLOSE_TIMEOUT_S = 0.5
# How often the same thing is told at most: a count that rises, a level that is wrong; how the run is in all.
_COUNT_INTERVAL_S, _LEVEL_INTERVAL_S, _SUMMARY_INTERVAL_S = 10.0, 60.0, 600.0
# How often the targets are asked for, and for how long one has to be as it is.
_OSC_INTERVAL_S, _OSC_PATIENCE_S = 1.0, 2.0
# They rise in the words that people see.
_COUNTS = re.compile(r"(; )?[0-9]+ (packets? not sent(; the last time: [^()]*)?|not taken in time)")
_STANDARD_ERROR = "-"
_FIRST_LINE = re.compile(rb"\d{4}-\d\d-\d\dT")

# As Controls has it: a command's name, its values, and who takes the answer.
CarryOut = Callable[[str, "Values", Answer], None]

LOGGER = logging.getLogger("realtime_mer")
# Where there is no log, Python would print warnings.
LOGGER.addHandler(logging.NullHandler())


class LogError(RuntimeError):
    """A log file that cannot be written, or is none."""


class _Lines(logging.Formatter):
    """A record as a line: local time with its offset from UTC, stream time, level, words; a traceback is indented."""

    stream_s = 0.0

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        words = _printable(record.getMessage())[:_LONGEST_LINE]
        if not _is_ours(record):
            words = f"{record.name}: {words}"
        line = f"{when} {self.stream_s:9.2f} s  {record.levelname:<8}  {words}"
        if record.exc_info:
            trace = "\n".join(map(_printable, self.formatException(record.exc_info).split("\n")))
            line += "\n" + textwrap.indent(trace, "    ")
        return line

    def line(self, words: str) -> logging.LogRecord:
        """A warning, as it comes out of the queue."""
        record = logging.LogRecord(LOGGER.name, logging.WARNING, __file__, 0, words, None, None)
        record.msg = self.format(record)
        return record


class _Queue(logging.handlers.QueueHandler):
    """Takes lines from any thread, and never waits: what is too much is counted, and told in the next line."""

    def __init__(self, waiting: queue.SimpleQueue[Any], lines: _Lines) -> None:
        super().__init__(waiting)
        self.setFormatter(lines)
        self._waiting = waiting
        self._lines = lines
        self._minute = 0
        self._n_this_minute = 0
        self._n_left_out = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        minute = int(time.monotonic() / 60.0)
        if minute != self._minute:
            self._minute, self._n_this_minute = minute, 0
        self._n_this_minute += 1
        # Our own warnings are few.
        may_wait = record.levelno < logging.WARNING or not _is_ours(record)
        if (may_wait and self._n_this_minute > _MOST_A_MINUTE) or self._waiting.qsize() >= _MOST_WAITING:
            self._n_left_out += 1
            return
        if self._n_left_out:
            self._waiting.put(self._lines.line(f"{self._n_left_out} lines were left out here: too many at once"))
            self._n_left_out = 0
        self._waiting.put(record)


class _Enduring(logging.StreamHandler[Any]):
    """What cannot be written is counted, told to people once, and noted as soon as lines can be written again."""

    lines: _Lines
    _n_lost = 0
    _reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        n_before = self._n_lost
        super().emit(record)
        if n_before and self._n_lost == n_before:
            self._n_lost = 0
            _say("lines are logged again.")
            super().emit(self.lines.line(f"{n_before} lines before this could not be written: {self._reason}"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        self._reason = str(getattr(error, "strerror", None) or error)
        if not self._n_lost:
            _say(f"no more lines are logged: {self._reason}")
        self._n_lost += 1


class _StandardError(_Enduring):
    """For a service's journal."""

    def __init__(self, lines: _Lines) -> None:
        super().__init__(sys.stderr)
        self.lines = lines


class _File(_Enduring, logging.handlers.RotatingFileHandler):
    """A file that is followed by a new one where it would be too large; the oldest goes.

    What ends the process without a word, such as a fault in a library's own code, leaves its traceback there too.
    Raises OSError where it cannot be opened.
    """

    _faults: IO[bytes] | None = None

    def __init__(self, path: Path, lines: _Lines) -> None:
        super().__init__(path, maxBytes=_FILE_BYTES, backupCount=_N_OLD_FILES, encoding="utf-8")
        self.lines = lines

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        if not _ends_with_a_line(Path(self.baseFilename)):
            stream.write("\n")
        if self._faults is not None or not faulthandler.is_enabled():
            # By number, that is what faulthandler knows of a file: one that no other file can get meanwhile.
            before, self._faults = self._faults, os.fdopen(os.dup(stream.fileno()), "ab", buffering=0)
            faulthandler.enable(self._faults)
            if before is not None:
                before.close()
        return stream

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        super().handleError(record)
        # What it holds would be tried again with every line; and a rotation that fails leaves it closed.
        stream, self.stream = self.stream, None
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.close()

    def close(self) -> None:
        if self._faults is not None:
            faulthandler.disable()
            self._faults.close()
            self._faults = None
        with contextlib.suppress(OSError, ValueError):
            super().close()


class _Log:
    """An open log: what Python's root logger and our own hand over, a queue, and the thread that writes."""

    def __init__(self, path: str, level: str) -> None:
        self.name = "The log" if path == _STANDARD_ERROR else path
        self.lines = _Lines()
        self._handler = _StandardError(self.lines) if path == _STANDARD_ERROR else _opened(Path(path), self.lines)
        waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._queue = _Queue(waiting, self.lines)
        self._listener = logging.handlers.QueueListener(waiting, self._handler)
        self._listener.start()
        logging.getLogger().addHandler(self._queue)
        LOGGER.setLevel(level.upper())
        self._hook_before = threading.excepthook
        threading.excepthook = _tell_of_thread

    def close(self) -> None:
        threading.excepthook = self._hook_before
        LOGGER.setLevel(logging.NOTSET)
        logging.getLogger().removeHandler(self._queue)
        self._queue.close()

        def stop() -> None:
            self._listener.stop()
            self._handler.close()

        # In a thread of its own, since it waits for the disk without a limit.
        stopping = threading.Thread(target=stop, name="end of the log", daemon=True)
        stopping.start()
        stopping.join(_CLOSE_TIMEOUT_S)


_log: _Log | None = None


def begin(settings: LiveSettings) -> None:
    """Opens the log that the settings ask for, if any. Raises LogError where it cannot be written."""
    global _log
    if settings.log.file is None:
        return
    _log = _Log(settings.log.file, settings.log.level)
    LOGGER.info(
        "realtime-mer %s begins: Python %s, %s, process %d",
        *(__version__, platform.python_version(), platform.platform(), os.getpid()),
    )
    LOGGER.info("in %s, with %s", Path.cwd(), _differences(settings) or "nothing but defaults")


def end(code: int) -> None:
    """Closes the log, if there is one. code: the exit code."""
    global _log
    if _log is not None:
        LOGGER.info("realtime-mer ends with exit code %d", code)
        _log.close()
        _log = None


def take_crash() -> str | None:
    """The exception that is being handled, with its traceback, into the log; returns the log's name, None without."""
    if _log is None:
        return None
    LOGGER.critical("this should not have happened", exc_info=True)
    return _log.name


class LogSink:
    """The sink that tells the log what becomes of a run.

    osc: what OscSink.summary says. clock_s: never goes back; it decides only how often something is told.
    """

    def __init__(self, osc: Callable[[], Sequence[str]], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._osc = osc
        self._before: Status | None = None
        self._held: bool | None = None
        self._lost_s = 0.0
        self._n_updates = 0
        self._longest_latency_s = 0.0
        self._counts: dict[str, _Count] = {}
        self._levels_told_s: dict[LevelState, float] = {}
        self._targets = [_Target() for _ in osc()]
        self._asked_s = float("-inf")
        self._summary_s = clock_s()

    def update(self, update: Update) -> None:
        self._n_updates += 1
        self._longest_latency_s = max(self._longest_latency_s, update.latency_s or 0.0)
        if update.held != self._held:
            self._held = update.held
            LOGGER.info("silence: the prediction holds" if update.held else "music")
        latency = "" if update.latency_s is None else f", {1000 * update.latency_s:.0f} ms after its sound"
        LOGGER.debug(
            *("prediction %d: valence %+.3f, arousal %+.3f%s", update.index, update.valence, update.arousal, latency)
        )

    def status(self, status: Status) -> None:
        if _log is not None:
            _log.lines.stream_s = status.time_s
        before, self._before = self._before, status
        now_s = self._clock_s()
        self._tell_source(before, status)
        _tell_recording(before, status)
        self._tell_level(before, status, now_s)
        self._tell_counts(status, now_s)
        if now_s - self._asked_s >= _OSC_INTERVAL_S:
            self._asked_s = now_s
            for target, summary in zip(self._targets, self._osc(), strict=True):
                if target.is_due(_without_counts(summary), now_s):
                    LOGGER.log(logging.WARNING if "(" in target.told else logging.INFO, "OSC to %s", target.told)
        if now_s - self._summary_s >= _SUMMARY_INTERVAL_S:
            self._summary_s = now_s
            self._tell_summary("so far")
            self._longest_latency_s = 0.0

    def close(self) -> None:
        if self._before is not None:
            self._tell_counts(self._before, float("inf"))
            self._tell_summary("in all")
            self._before = None

    def _tell_source(self, before: Status | None, status: Status) -> None:
        lost = status.state is SourceState.LOST
        if before is None or _is_of_source(before) != _is_of_source(status):
            again = status.losses and status.lost_s > self._lost_s and status.state is SourceState.RUNNING
            words = f" again after {status.lost_s - self._lost_s:.1f} s" if again else ""
            words += f": {status.detail}" if status.detail else ""
            LOGGER.log(logging.WARNING if lost else logging.INFO, "%s is %s%s", status.source, status.state, words)
        if not lost:
            self._lost_s = status.lost_s

    def _tell_level(self, before: Status | None, status: Status, now_s: float) -> None:
        level = status.level
        if level is None or (before is not None and before.level is not None and before.level.state is level.state):
            return
        LOGGER.debug("the input is %s: %.1f dBFS, peak %.1f", level.state, level.rms_db, level.peak_db)
        cure = {LevelState.QUIET: "up", LevelState.CLIPPING: "down"}.get(level.state)
        told_s = self._levels_told_s.get(level.state)
        if cure is not None and (told_s is None or now_s - told_s >= _LEVEL_INTERVAL_S):
            self._levels_told_s[level.state] = now_s
            LOGGER.warning(
                *("the input is %s (%.1f dBFS, peak %.1f): turn it %s", level.state, level.rms_db, level.peak_db, cure)
            )

    def _tell_counts(self, status: Status, now_s: float) -> None:
        for count, words in (
            (status.dropped_blocks, f"blocks dropped, {status.dropped_s:.2f} s: this machine cannot keep up"),
            (status.overflows, "overflows of the sound card's buffer: this machine is too busy"),
            (status.replaced_samples, "samples replaced: they were no numbers"),
            (status.ignored_packets, "packets to the control port ignored: they were no commands"),
        ):
            kind = words.partition(":")[2]
            if self._counts.setdefault(kind, _Count()).is_due(count, now_s):
                LOGGER.warning("%d %s", count, words)

    def _tell_summary(self, words: str) -> None:
        status = self._before
        assert status is not None
        LOGGER.info(
            "%s: %d predictions, %d blocks dropped, device lost %d times for %.1f s%s%s; OSC to %s",
            *(words, self._n_updates, status.dropped_blocks, status.losses, status.lost_s),
            f", latency {1000 * self._longest_latency_s:.0f} ms at most" if self._longest_latency_s else "",
            "" if status.level is None else f", level {status.level.rms_db:.1f} dBFS, gain {status.gain_db:+.1f} dB",
            ", ".join(self._osc()) or "nobody",
        )


class _Count:
    """A count that rises, and is told every ten seconds at most."""

    _told = 0
    _told_s = float("-inf")

    def is_due(self, count: int, now_s: float) -> bool:
        if count == self._told or now_s - self._told_s < _COUNT_INTERVAL_S:
            return False
        self._told, self._told_s = count, now_s
        return True


class _Target:
    """What is known of an OSC target, told once it has been so for two seconds: looking up a name takes a moment."""

    told = ""
    _seen = ""
    _since_s = 0.0

    def is_due(self, text: str, now_s: float) -> bool:
        if text != self._seen:
            self._seen, self._since_s = text, now_s
        if text == self.told or now_s - self._since_s < _OSC_PATIENCE_S:
            return False
        self.told = text
        return True


def commands_told(carry_out: CarryOut) -> CarryOut:
    """The same, and the log is told what came of each command."""

    def carry_out_and_tell(name: str, values: Values, answer: Answer) -> None:
        command = " ".join(map(str, (name, *values)))

        def tell(ok: bool, text: str) -> None:
            LOGGER.info("command %s: %s%s", command, "" if ok else "refused: ", text)
            answer(ok, text)

        try:
            carry_out(name, values, tell)
        except Exception:
            LOGGER.exception("command %s: this should not have happened", command)
            raise

    return carry_out_and_tell


def _without_counts(summary: str) -> str:
    return _COUNTS.sub("", summary).replace(" ()", "")


def _is_of_source(status: Status) -> tuple[str, SourceState, str]:
    return status.source, status.state, status.detail


def _tell_recording(before: Status | None, status: Status) -> None:
    was, fault_was = (None, "") if before is None else (before.recording, before.recording_fault)
    if was is not None and was != status.recording:
        LOGGER.info("recorded into %s", was)
    if status.recording is not None and was != status.recording:
        LOGGER.info("recording into %s", status.recording)
    if status.recording_fault and status.recording_fault != fault_was:
        LOGGER.error("the recording is incomplete: %s", status.recording_fault)


def _tell_of_thread(fault: threading.ExceptHookArgs) -> None:
    if fault.exc_type is SystemExit or fault.exc_value is None:
        return
    name = "unknown" if fault.thread is None else fault.thread.name
    LOGGER.critical("thread %s: this should not have happened", name, exc_info=fault.exc_value)
    _say(f"a fault in the thread {name}: {fault.exc_type.__name__}; the log has more.")


def _opened(path: Path, lines: _Lines) -> _File:
    try:
        if path.exists() and not path.is_file():
            raise LogError(f"{path} is no file: give another name for the log.")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size:
            with path.open("rb") as file:
                if not _FIRST_LINE.match(file.read(20)):
                    raise LogError(f"{path} is no log of realtime-mer, and is left alone: give another name for it.")
        return _File(path, lines)
    except OSError as error:
        raise LogError(f"The log {path} cannot be written: {error.strerror or error}.") from error


def _ends_with_a_line(path: Path) -> bool:
    """Not where the disk was full, or the power failed, in the middle of one."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == LOGGER.name


def _printable(text: str) -> str:
    """Names and texts come from anywhere: none of them may begin a line of its own."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _differences(value: Any) -> str:
    """What in these settings is not as by default."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_differences, value))}]"
    if not is_dataclass(value):
        return repr(value)
    told = []
    for key in fields(value):
        default = key.default if key.default_factory is MISSING else key.default_factory()
        if (part := getattr(value, key.name)) != default:
            told.append(f"{key.name} = {_differences(part)}")
    return f"{{{', '.join(told)}}}"


def _say(words: str) -> None:
    # A terminal that is gone must not end the show.
    with contextlib.suppress(OSError, ValueError):
        print(f"realtime-mer: {words}", file=sys.stderr)
