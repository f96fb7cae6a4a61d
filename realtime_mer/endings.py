"""How the program ends: what is said of a failure, and which exit code it has."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from realtime_mer import logs
from realtime_mer.config import UsageError

# What each means: docs/running.md.
EXIT_CODES = OK, FAILED, MISUSED, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141


def exit_code(work: Callable[[], int]) -> int:
    """Does the work, says what went wrong with it, ends the log if there is one, and returns the exit code.

    work: returns its own code. A mistake of ours is raised on where there is no log to hold its traceback.
    """
    code = FAILED
    try:
        code = _done(work)
    finally:
        logs.end(code)
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
    except UsageError as error:
        return _fail(error, MISUSED)
    # Asked for only once something was raised: the modules that these come from take time to import.
    except _failures() as error:
        return _fail(error, FAILED)
    except KeyboardInterrupt:
        print("realtime-mer: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more when it exits, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        # A mistake of ours. Where there is a log, that has the traceback.
        log = logs.take_crash()
        if log is None:
            raise
        print(f"realtime-mer: error: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"This should not have happened. {log} has more; please report it.", file=sys.stderr)
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
        from realtime_mer.predict import OutputError

        # Python flushes once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(f"Standard output cannot be written: {error.strerror or error}.") from error


def _failures() -> tuple[type[Exception], ...]:
    from realtime_mer.checkpoint import CheckpointError
    from realtime_mer.extraction import AudioFileError
    from realtime_mer.features import FeatureEngineError
    from realtime_mer.logs import LogError
    from realtime_mer.osc import OscError
    from realtime_mer.predict import OutputError
    from realtime_mer.recording import RecordingError
    from realtime_mer.sources import SourceError
    from realtime_mer.types import PredictionError

    return (
        *(AudioFileError, CheckpointError, FeatureEngineError, LogError, OscError),
        *(OutputError, PredictionError, RecordingError, SourceError),
    )


def _fail(error: Exception, code: int) -> int:
    logs.LOGGER.error("%s", error)
    print(f"realtime-mer: error: {error}", file=sys.stderr)
    return code
