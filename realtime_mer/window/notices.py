"""Messages that the window shows for some seconds. No Qt in here."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_CAPACITY = 16
_LONGEST = 300
_SHOWN_S, _FAULT_SHOWN_S = 6.0, 15.0


@dataclass(frozen=True, slots=True)
class Notice:
    """A line of text; fault: whether it reports an error."""

    text: str
    fault: bool = False


class Notices:
    """The messages to show now, at most 16. Any thread posts; each message lasts for some seconds, a fault longer.

    now_s: a monotonic clock.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        # Until when, and what.
        self._posted: deque[tuple[float, Notice]] = deque(maxlen=_CAPACITY)

    def post(self, text: str, *, fault: bool = False) -> None:
        """Never blocks. text: becomes one line, cut if it is very long."""
        line = " ".join(text.split())
        notice = Notice(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…", fault)
        self._posted.append((self._now_s() + (_FAULT_SHOWN_S if fault else _SHOWN_S), notice))

    def current(self) -> tuple[Notice, ...]:
        """The messages to show now, oldest first."""
        now_s = self._now_s()
        return tuple(notice for end_s, notice in self._posted.copy() if end_s > now_s)
