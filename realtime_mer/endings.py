"""How the program ends: error messages, exit codes and signals."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from typing import NoReturn

from realtime_mer import log
from realtime_mer.errors import OutputError, RealtimeMerError, UsageError, printable
from realtime_mer.log import libraries

# Their meanings are in docs/running.md.
EXIT_CODES = OK, FAILED, MISUSED, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

# A terminal that closes sends two signals in a row. A signal that comes later than this means that the user won't wait.
_PATIENCE_S = 2.0


def exit_code(work: Callable[[], int]) -> int:
    """Runs `work`, reports its errors, closes the log, and returns the exit code.

    work: returns its own exit code. An unexpected exception is re-raised if there is no log for its traceback.
    """
    code = FAILED
    try:
        code = _run(work)
    finally:
        log.end(code)
    return code


def leave(code: int) -> NoReturn:
    """Ends the process with the result of `exit_code`.

    After Ctrl-C a daemon thread may still be inside a library's native code. Python's own exit would abort the process
    then, so it is skipped.
    """
    if any(thread.daemon and thread.name != libraries.THREAD_NAME for thread in threading.enumerate()):
        leave_at_once(code)
    try:
        sys.stderr.flush()
    # It is closed: Python's own exit would change the code to 120.
    except (AttributeError, OSError, ValueError):
        leave_at_once(code)
    sys.exit(code)


def leave_at_once(code: int) -> NoReturn:
    """Flushes the standard streams and ends the process without Python's exit handlers."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def never_fail_to_print() -> None:
    """From now on, characters that the terminal's encoding lacks are printed as escapes, such as \\u2026."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_stdout(text: str) -> None:
    """Writes and flushes. Raises OutputError if it cannot be written, BrokenPipeError if its reader has closed it."""
    if sys.stdout is None:
        if text:
            raise OutputError("Standard output is closed: there is nowhere to write to.")
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        raise OutputError(f"Standard output cannot be written: {error.strerror or error}.") from error


def _run(work: Callable[[], int]) -> int:
    try:
        code = work()
        # Python would flush too late for a clear error message.
        write_stdout("")
        return code
    except RealtimeMerError as error:
        log.LOGGER.error("%s", error)
        # Some messages end in a list, on lines of its own.
        message = printable(str(error), keep="\n")
        print(f"realtime-mer: error: {message}", file=sys.stderr)
        return MISUSED if isinstance(error, UsageError) else FAILED
    except KeyboardInterrupt:
        print("realtime-mer: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        discard_stdout()
        return PIPE_CLOSED
    except Exception as error:
        # A bug.
        crash_log = log.log_crash()
        if crash_log is None:
            raise
        print(f"realtime-mer: error: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"This should not have happened. {crash_log} has more; please report it.", file=sys.stderr)
        return FAILED


def discard_stdout() -> None:
    """Python flushes standard output once more when it exits, which would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def ending_by_signal() -> Iterator[threading.Event]:
    """Inside the block, SIGINT, SIGTERM and SIGHUP set the event.

    A second Ctrl-C, at least two seconds later, ends the process at once. Ignored signals stay ignored (nohup).
    """
    stop = threading.Event()
    asked, first_s = False, time.monotonic()
    # A handler runs in the middle of the main thread, which may hold the event's lock: only this queue is safe there.
    signals: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def end(number: int, _frame: object) -> None:
        nonlocal asked, first_s
        if not (asked or stop.is_set()):
            asked, first_s = True, time.monotonic()
            signals.put(number)
        elif number == signal.SIGINT and time.monotonic() - first_s > _PATIENCE_S:
            os._exit(128 + number)

    def set_event() -> None:
        number = signals.get()
        if number is not None:
            log.LOGGER.info("%s: the run ends", signal.Signals(number).name)
            stop.set()

    thread = threading.Thread(target=set_event, name="signals", daemon=True)
    thread.start()

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
        signals.put(None)
        thread.join()
