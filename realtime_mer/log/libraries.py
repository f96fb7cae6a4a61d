"""What libraries print on standard error (PortAudio, ALSA, Qt, mpg123) goes to the log, at debug level.

They print it to file descriptor 2, past Python. It would mix with our own messages, without a cure for the user.
"""

from __future__ import annotations

import os
import sys
import threading
from io import TextIOWrapper
from typing import IO

from realtime_mer.log import LOGGER

_STANDARD_ERROR = 2
_LONGEST_LINE_BYTES = 1000
THREAD_NAME = "words of libraries"


def log_lines(stream: IO[bytes]) -> None:
    """Logs every line of the stream, in a thread, until its end."""

    def run() -> None:
        with stream:
            while line := stream.readline(_LONGEST_LINE_BYTES):
                LOGGER.debug("a library prints: %s", line.decode(errors="replace").rstrip())

    threading.Thread(target=run, name=THREAD_NAME, daemon=True).start()


def log_what_libraries_print() -> None:
    """From now on, `sys.stderr` writes to a copy of file descriptor 2, and what others write to 2 goes to the log.

    That includes the processes that this one starts. Does nothing if standard error is closed or replaced.
    """
    ours = sys.stderr
    if not isinstance(ours, TextIOWrapper) or ours.fileno() != _STANDARD_ERROR:
        return
    ours.flush()
    copy = os.dup(_STANDARD_ERROR)
    sys.stderr = os.fdopen(copy, "w", encoding=ours.encoding, errors=ours.errors, buffering=1)
    reading, writing = os.pipe()
    # Whatever happens to the thread, a library never waits for it: it may hold Python's lock.
    os.set_blocking(writing, False)
    os.dup2(writing, _STANDARD_ERROR)
    os.close(writing)
    log_lines(os.fdopen(reading, "rb"))
