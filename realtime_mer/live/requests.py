"""What only the recognising thread may do, and others ask for."""

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
    """Something that was asked for and is not done: why, in a sentence."""


class Requests:
    """What only the recognising thread may do, and others ask for: a bounded queue."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Callable[[Recognition], str], Answer]] = queue.SimpleQueue()
        self._ended = False

    def put(self, request: Callable[[Recognition], str], answer: Answer) -> None:
        """Any thread may ask. Raises RefusedError where too much is being asked for."""
        if self._queue.qsize() >= _MOST_REQUESTS:
            raise RefusedError("Too much was asked for at once.")
        self.follow_up(request, answer)

    def follow_up(self, request: Callable[[Recognition], str], answer: Answer) -> None:
        """What comes of a request that was carried out; never refused. Any thread may ask, once for each."""
        self._queue.put((request, answer))
        if self._ended:
            self.refuse_all()

    def carry_out(self, recognition: Recognition) -> None:
        """All that were asked for so far; the recognising thread calls this. Raises what they raise, once answered."""
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
        """Answers what was not carried out before the end, and from now on whatever is asked for."""
        self._ended = True
        with contextlib.suppress(queue.Empty):
            while True:
                _, answer = self._queue.get_nowait()
                answer(False, "The program ends.")
