"""Lends the main thread, where Qt wants to be, to a piece of work that is done in another one. No Qt in here.

So the work goes on, and comes to its own end, where Qt never gives the main thread back: when its display is gone.
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

# In turns, since on Windows a wait without end does not hear Ctrl-C.
_WAIT_S = 0.2


class MainThreadLostError(RuntimeError):
    """What was being done in the main thread cannot come to its end."""


class MainThread:
    """Made, and held by `run`, in the main thread."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._outcome: Future[Any] | None = None
        self._current: Future[Any] | None = None

    def run(self, work: Callable[[], _T]) -> _T:
        """Does the work in another thread, and meanwhile in this one what it asks for. Returns or raises as it does."""
        outcome: Future[_T] = Future()
        # So that the main thread need not be told by the clock.
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
        """For the work: does this in the main thread, one job at a time, and returns or raises as it does.

        Raises MainThreadLostError where the job was left by `leave`.
        """
        answer: Future[_T] = Future()
        self._jobs.put(lambda: self._carry_out(answer, job))
        return answer.result()

    def leave(self, exit_code: Callable[[Callable[[], Any]], int]) -> NoReturn:
        """For a job that cannot return: the work goes on without it, and at its end the process ends.

        exit_code: called after that; it takes what returns or raises as the work did. What Python does when it exits is
        not done: Qt's part of it wants a display.
        """
        assert self._worker is not None
        assert self._outcome is not None
        assert self._current is not None
        self._current.set_exception(MainThreadLostError("What was done in the main thread has no end."))
        while self._worker.is_alive():
            # In turns, so that signals are handled here, as ever.
            self._worker.join(_WAIT_S)
        try:
            code = exit_code(self._outcome.result)
        except BaseException:  # noqa: BLE001 - as Python would say it, and end
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
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
        future.set_exception(error)
    else:
        future.set_result(result)
