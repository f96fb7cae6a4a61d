"""The log of a live run: one line per event, in files of bounded size. No caller ever waits for the disk.

`begin` opens it, `end` closes it. Any module logs through `LOGGER`; warnings of other libraries are logged too. Without
a log file, lines are discarded. log/sink.py logs the events of a run.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
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
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from typing import Any

from realtime_mer import __version__
from realtime_mer.config import LiveSettings
from realtime_mer.errors import RealtimeMerError, printable

# The files PATH (the newest), PATH.1, … PATH.5.
_FILE_BYTES, _N_OLD_FILES = 2**20, 5
# The most lines that wait for the disk; and the most per minute besides our own warnings, so that a flood of commands
# doesn't push the rest of the night out of the files.
_MOST_WAITING, _MOST_PER_MINUTE = 1000, 300
_LONGEST_LINE = 2000
# At the end, wait this long for a slow disk.
_CLOSE_TIMEOUT_S = 0.5
_STANDARD_ERROR = "-"
_FIRST_LINE = re.compile(rb"\d{4}-\d\d-\d\dT")

LOGGER = logging.getLogger("realtime_mer")
# Without any handler, Python would print warnings.
LOGGER.addHandler(logging.NullHandler())


class LogError(RealtimeMerError, RuntimeError):
    """The log file cannot be written, or is a file of another kind."""


class _Formatter(logging.Formatter):
    """Local time with its UTC offset, stream time, level, message; below, the traceback if any, indented."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        message = printable(record.getMessage())[:_LONGEST_LINE]
        if not _is_ours(record):
            message = f"{record.name}: {message}"
        line = f"{when} {getattr(record, 'stream_s', 0.0):9.2f} s  {record.levelname:<8}  {message}"
        if record.exc_info:
            trace = "\n".join(map(printable, self.formatException(record.exc_info).split("\n")))
            line += "\n" + textwrap.indent(trace, "    ")
        return line


class _BoundedQueueHandler(QueueHandler):
    """Queues lines without waiting. Lines over the bounds are left out and counted; the next line reports them."""

    stream_s = 0.0
    _minute = 0
    _n_this_minute = 0
    _n_left_out = 0

    def __init__(self) -> None:
        self.waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        super().__init__(self.waiting)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return logging.makeLogRecord(
            {**vars(record), "msg": record.getMessage(), "args": None, "stream_s": self.stream_s}
        )

    def enqueue(self, record: logging.LogRecord) -> None:
        minute = int(time.monotonic() / 60.0)
        if minute != self._minute:
            self._minute, self._n_this_minute = minute, 0
        self._n_this_minute += 1
        # Our own warnings are few.
        is_limited = record.levelno < logging.WARNING or not _is_ours(record)
        if (is_limited and self._n_this_minute > _MOST_PER_MINUTE) or self.waiting.qsize() >= _MOST_WAITING:
            self._n_left_out += 1
            return
        if self._n_left_out:
            super().enqueue(_warning(record, f"{self._n_left_out} lines were left out here: too many at once"))
            self._n_left_out = 0
        super().enqueue(record)


class _CountingHandler(logging.StreamHandler[Any]):
    """Counts the lines that it cannot write, prints one notice, and logs the count once it can write again."""

    _n_lost = 0
    _reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        n_before = self._n_lost
        super().emit(record)
        if n_before and self._n_lost == n_before:
            self._n_lost = 0
            notify("lines are logged again.")
            super().emit(_warning(record, f"{n_before} lines before this could not be written: {self._reason}"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        self._reason = str(getattr(error, "strerror", None) or error)
        if not self._n_lost:
            notify(f"no more lines are logged: {self._reason}")
        self._n_lost += 1


class _LogFile(_CountingHandler, RotatingFileHandler):
    """A rotated log file. The traceback of a crash in native code goes there too (faulthandler).

    Raises OSError if it cannot be opened.
    """

    _faults: int | None = None

    def __init__(self, path: Path) -> None:
        RotatingFileHandler.__init__(self, path, maxBytes=_FILE_BYTES, backupCount=_N_OLD_FILES, encoding="utf-8")

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        # The disk was full or the power failed in the middle of a line.
        if Path(self.baseFilename).read_bytes()[-1:] not in (b"", b"\n"):
            stream.write("\n")
        # faulthandler keeps one descriptor number: point it at the newest file.
        if self._faults is not None:
            os.dup2(stream.fileno(), self._faults, inheritable=False)
        elif not faulthandler.is_enabled():
            self._faults = os.dup(stream.fileno())
            faulthandler.enable(self._faults)
        return stream

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        super().handleError(record)
        # Open the file again for the next line: this stream would retry what it has buffered, and is closed if
        # rotation failed.
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
    """An open log. Raises LogError if it cannot be written."""

    def __init__(self, path: str, level: str) -> None:
        self.name = "The log" if path == _STANDARD_ERROR else path
        self._handler = _CountingHandler(sys.stderr) if path == _STANDARD_ERROR else _open_file(Path(path))
        self._handler.setFormatter(_Formatter())
        self.queue = _BoundedQueueHandler()
        self._listener = QueueListener(self.queue.waiting, self._handler)
        self._listener.start()
        logging.getLogger().addHandler(self.queue)
        LOGGER.setLevel(level.upper())
        self._hook_before = threading.excepthook
        threading.excepthook = _log_thread_crash

    def close(self) -> None:
        threading.excepthook = self._hook_before
        LOGGER.setLevel(logging.NOTSET)
        logging.getLogger().removeHandler(self.queue)
        self.queue.close()

        def stop() -> None:
            self._listener.stop()
            self._handler.close()

        # In a thread, since the listener waits for the disk without a limit.
        stopping = threading.Thread(target=stop, name="end of the log", daemon=True)
        stopping.start()
        stopping.join(_CLOSE_TIMEOUT_S)


_log: _Log | None = None


def begin(settings: LiveSettings) -> None:
    """Opens the log if the settings ask for one. Raises LogError if it cannot be written."""
    global _log
    if settings.log.file is None:
        return
    _log = _Log(settings.log.file, settings.log.level)
    LOGGER.info(
        "realtime-mer %s begins: Python %s, %s, process %d",
        *(__version__, platform.python_version(), platform.platform(), os.getpid()),
    )
    LOGGER.info("in %s, with %s", Path.cwd(), _changed_settings(settings))


def end(code: int) -> None:
    """Closes the log if there is one. code: the exit code."""
    global _log
    if _log is not None:
        LOGGER.info("realtime-mer ends with exit code %d", code)
        _log.close()
        _log = None


def set_stream_time(time_s: float) -> None:
    """Sets the stream time of the lines from now on."""
    if _log is not None:
        _log.queue.stream_s = time_s


def log_crash() -> str | None:
    """Logs the exception that is being handled, with its traceback; returns the log's name, or None without a log."""
    if _log is None:
        return None
    LOGGER.critical("this should not have happened", exc_info=True)
    return _log.name


def check_is_log(path: Path) -> None:
    """Raises LogError if `path` exists and is not a log, and OSError if it cannot be read."""
    if path.exists() and not path.is_file():
        raise LogError(f"{path} is not a file: give another name for the log.")
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            if not _FIRST_LINE.match(file.read(20)):
                raise LogError(f"{path} is not a log of realtime-mer, so it is not written to: give another name.")


def notify(message: str) -> None:
    """Prints a notice on standard error; does nothing if that fails, which must not end the show."""
    with contextlib.suppress(OSError, ValueError):
        print(f"realtime-mer: {printable(message)}", file=sys.stderr)


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_type is SystemExit or crash.exc_value is None:
        return
    name = "unknown" if crash.thread is None else crash.thread.name
    LOGGER.critical("thread %s: this should not have happened", name, exc_info=crash.exc_value)
    notify(f"a fault in the thread {name}: {crash.exc_type.__name__}; the log has more.")


def _open_file(path: Path) -> _LogFile:
    try:
        check_is_log(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return _LogFile(path)
    except OSError as error:
        raise LogError(f"The log {path} cannot be written: {error.strerror or error}.") from error


def _warning(record: logging.LogRecord, message: str) -> logging.LogRecord:
    """A warning of ours at the time of `record`."""
    changes = {"name": LOGGER.name, "levelname": "WARNING", "msg": message, "args": None, "exc_info": None}
    return logging.makeLogRecord({**vars(record), **changes})


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == LOGGER.name


def _changed_settings(value: Any) -> str:
    """The settings that differ from their defaults."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_changed_settings, value))}]"
    if not is_dataclass(value):
        return repr(value)
    changed = []
    for key in fields(value):
        default = key.default if key.default_factory is MISSING else key.default_factory()
        if (part := getattr(value, key.name)) != default:
            changed.append(f"{key.name} = {_changed_settings(part)}")
    return f"{{{', '.join(changed)}}}"
