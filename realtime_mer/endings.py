"""How the program ends: what is said of a failure, and which exit code it has."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from realtime_mer import log
from realtime_mer.errors import OutputError, RealtimeMerError, UsageError

# What each means: docs/running.md.
EXIT_CODES = OK, FAILED, MISUSED, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

# Two signals in a row are one wish (a terminal that closes sends two); one that comes after this is impatience.
_PATIENCE_S = 2.0


def exit_code(work: Callable[[], int]) -> int:
    """Does the work, says what went wrong with it, ends the log if there is one, and returns the exit code.

    work: returns its own code. A mistake of ours is raised on where there is no log to hold its traceback.
    """
    code = FAILED
    try:
        code = _done(work)
    finally:
        log.end(code)
    return code


def leave(code: int) -> NoReturn:
    """Ends the process, once `exit_code` has said how.

    Ctrl-C waits for nobody who is inside a library's own code (importing torch takes a second). When Python ends it
    throws such a thread out of there, which aborts the process; so then nothing more is done.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        leave_at_once(code)
    sys.exit(code)


def leave_at_once(code: int) -> NoReturn:
    """Ends the process without anything that Python does when it exits, but what was printed gets out."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _done(work: Callable[[], int]) -> int:
    try:
        code = work()
        _flush_stdout()
    except RealtimeMerError as error:
        return _fail(error, MISUSED if isinstance(error, UsageError) else FAILED)
    except KeyboardInterrupt:
        print("realtime-mer: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more when it exits, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        # A mistake of ours. Where there is a log, that has the traceback.
        crash_log = log.log_crash()
        if crash_log is None:
            raise
        print(f"realtime-mer: error: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"This should not have happened. {crash_log} has more; please report it.", file=sys.stderr)
        return FAILED
    return code


def _flush_stdout() -> None:
    """Raises OutputError where what was printed cannot be written; Python would do it too late to say so clearly."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # Python flushes once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(f"Standard output cannot be written: {error.strerror or error}.") from error


def _fail(error: Exception, code: int) -> int:
    log.LOGGER.error("%s", error)
    print(f"realtime-mer: error: {error}", file=sys.stderr)
    return code


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
            log.LOGGER.info("%s: the run is to end", signal.Signals(number).name)
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
