"""Runs the work in another thread and lends it the main thread, which Qt needs. No Qt in here.

The work goes on and ends by itself even if Qt never returns, which is what happens when its display is gone.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NoReturn, TypeVar

from realtime_mer.endings import leave_at_once

_T = TypeVar("_T")

# On Windows, Ctrl-C does not interrupt an endless wait.
_WAIT_S = 0.2


class MainThreadLostError(RuntimeError):
    """The job in the main thread cannot finish."""


class MainThread:
    """Created in the main thread, which also calls `run`."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._outcome: Future[Any] | None = None
        self._current: Future[Any] | None = None

    def run(self, work: Callable[[], _T]) -> _T:
        """Does the work in another thread and its jobs in this one. Returns or raises as the work does."""
        outcome: Future[_T] = Future()
        # Wakes the main thread.
        outcome.add_done_callback(lambda _: self._jobs.put(lambda: None))
        self._outcome = outcome
        self._worker = threading.Thread(target=_into, args=(outcome, work), name="run", daemon=True)
        self._worker.start()
        while not outcome.done():
            with contextlib.suppress(queue.Empty):
                self._jobs.get(timeout=_WAIT_S)()
        self._worker.join()
        return outcome.result()

    def do(self, job: Callable[[], _T]) -> _T:
        """For the work: does this job in the main thread, one at a time. Returns or raises as the job does.

        Raises MainThreadLostError if the job called `leave`.
        """
        answer: Future[_T] = Future()
        self._jobs.put(lambda: self._carry_out(answer, job))
        return answer.result()

    def leave(self, exit_code: Callable[[Callable[[], Any]], int]) -> NoReturn:
        """For a job that cannot return: waits until the work ends without it, and ends the process.

        exit_code: gets a function that returns or raises as the work did, and returns the process's exit code. Python's
        own clean-up at exit is skipped: Qt's part of it needs a display.
        """
        assert self._worker is not None
        assert self._outcome is not None
        assert self._current is not None
        self._current.set_exception(MainThreadLostError("The job in the main thread cannot finish."))
        while self._worker.is_alive():
            # With a timeout, so that signals are still handled here.
            self._worker.join(_WAIT_S)
        try:
            code = exit_code(self._outcome.result)
        except BaseException:  # noqa: BLE001 - printed as Python would
            # The terminal may have gone with the display.
            with contextlib.suppress(Exception):
                traceback.print_exc()
            code = 1
        leave_at_once(code)

    def _carry_out(self, answer: Future[_T], job: Callable[[], _T]) -> None:
        self._current = answer
        _into(answer, job)
        self._current = None


def _into(future: Future[_T], work: Callable[[], _T]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - raised by the code that waits for the result
        future.set_exception(error)
    else:
        future.set_result(result)
