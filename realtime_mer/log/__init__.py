"""The log of a live run: a line for whatever happens in a night, in a file of bounded size, and nobody waits for it.

`begin` opens it, `end` closes it. Anything may tell it something, through `LOGGER` (log_sink.py tells what becomes of a
run); what other libraries warn of is in it as well. Without a log all of that goes nowhere.
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
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from realtime_mer import __version__
from realtime_mer.config import LiveSettings
from realtime_mer.errors import RealtimeMerError

# The files PATH, PATH.1 (the last one before it) to PATH.5.
_FILE_BYTES, _N_OLD_FILES = 2**20, 5
# What waits for the disk at most; and how many lines a minute there may be of those that are no warning, since a flood
# of commands must not push the night out of the files.
_MOST_WAITING, _MOST_A_MINUTE = 1000, 300
_LONGEST_LINE = 2000
# At the end, a disk that is slower than this keeps what it has.
_CLOSE_TIMEOUT_S = 0.5
_STANDARD_ERROR = "-"
_FIRST_LINE = re.compile(rb"\d{4}-\d\d-\d\dT")

LOGGER = logging.getLogger("realtime_mer")
# Where there is no log, Python would print warnings.
LOGGER.addHandler(logging.NullHandler())


class LogError(RealtimeMerError, RuntimeError):
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
            notify("lines are logged again.")
            super().emit(self.lines.line(f"{n_before} lines before this could not be written: {self._reason}"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        self._reason = str(getattr(error, "strerror", None) or error)
        if not self._n_lost:
            notify(f"no more lines are logged: {self._reason}")
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

    _faults: int | None = None

    def __init__(self, path: Path, lines: _Lines) -> None:
        super().__init__(path, maxBytes=_FILE_BYTES, backupCount=_N_OLD_FILES, encoding="utf-8")
        self.lines = lines

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        if not _ends_with_a_line(Path(self.baseFilename)):
            stream.write("\n")
        # One descriptor, which faulthandler knows by its number, leads to the newest file.
        if self._faults is not None:
            os.dup2(stream.fileno(), self._faults, inheritable=False)
        elif not faulthandler.is_enabled():
            self._faults = os.dup(stream.fileno())
            faulthandler.enable(self._faults)
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
            os.close(self._faults)
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


def set_stream_time(time_s: float) -> None:
    """The stream time that lines have from now on."""
    if _log is not None:
        _log.lines.stream_s = time_s


def take_crash() -> str | None:
    """The exception that is being handled, with its traceback, into the log; returns the log's name, None without."""
    if _log is None:
        return None
    LOGGER.critical("this should not have happened", exc_info=True)
    return _log.name


def check_is_log(path: Path) -> None:
    """Raises LogError where something else than a log is there, and OSError where that cannot be seen."""
    if path.exists() and not path.is_file():
        raise LogError(f"{path} is no file: give another name for the log.")
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            if not _FIRST_LINE.match(file.read(20)):
                raise LogError(f"{path} is no log of realtime-mer, and is left alone: give another name for it.")


def _tell_of_thread(fault: threading.ExceptHookArgs) -> None:
    if fault.exc_type is SystemExit or fault.exc_value is None:
        return
    name = "unknown" if fault.thread is None else fault.thread.name
    LOGGER.critical("thread %s: this should not have happened", name, exc_info=fault.exc_value)
    notify(f"a fault in the thread {name}: {fault.exc_type.__name__}; the log has more.")


def _opened(path: Path, lines: _Lines) -> _File:
    try:
        check_is_log(path)
        path.parent.mkdir(parents=True, exist_ok=True)
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


def notify(words: str) -> None:
    """To people, on standard error; nothing where that is gone: it must not end the show."""
    with contextlib.suppress(OSError, ValueError):
        print(f"realtime-mer: {words}", file=sys.stderr)
