"""Requests to the recognition thread."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from typing import TYPE_CHECKING

from realtime_mer.updates import Answer

if TYPE_CHECKING:
    from realtime_mer.live.recognition import Recognition

_MOST_REQUESTS = 64


class RefusedError(Exception):
    """A refused request; the message is a sentence with the reason."""


class Requests:
    """What other threads ask of the recognition thread: a bounded queue."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Callable[[Recognition], str], Answer]] = queue.SimpleQueue()
        self._ended = False

    def put(self, request: Callable[[Recognition], str], answer: Answer) -> None:
        """From any thread. Raises RefusedError if too many requests are waiting."""
        if self._queue.qsize() >= _MOST_REQUESTS:
            raise RefusedError("Too many requests at once.")
        self.follow_up(request, answer)

    def follow_up(self, request: Callable[[Recognition], str], answer: Answer) -> None:
        """The second part of a request that was carried out; never refused. From any thread, once for each."""
        self._queue.put((request, answer))
        if self._ended:
            self.refuse_all()

    def carry_out(self, recognition: Recognition) -> None:
        """Carries out all waiting requests, in the recognition thread. Raises what they raise, after answering."""
        for _ in range(self._queue.qsize()):
            request, answer = self._queue.get()
            try:
                text = request(recognition)
            except RefusedError as error:
                answer(False, str(error))
            except BaseException as error:
                answer(False, f"{type(error).__name__}: {error}")
                raise
            else:
                answer(True, text)

    def refuse_all(self) -> None:
        """At the end of the run: refuses all waiting requests, and all later ones."""
        self._ended = True
        with contextlib.suppress(queue.Empty):
            while True:
                _, answer = self._queue.get_nowait()
                answer(False, "The program is ending.")
