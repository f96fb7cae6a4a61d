"""One target's thread: takes what there is to say from a mailbox, and says it when it is due."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from realtime_mer.config import TargetSettings
from realtime_mer.osc.composing import Composer, Event
from realtime_mer.osc.messages import Message
from realtime_mer.updates import Status, Update

# What waits at most. Ten seconds, which is the longest delay, of predictions and status are 120 items. What comes of
# commands is taken only while no more than this waits, so that a flood of them never crowds out the predictions.
_MAILBOX_ITEMS = 512
_MAILBOX_ITEMS_FOR_COMMANDS = 256


@dataclass(frozen=True, slots=True)
class Rate:
    """From now on this many smooth values a second."""

    rate_hz: float


@dataclass(frozen=True, slots=True)
class NewSmoothing:
    """From now on this way between predictions: one of config.osc.SMOOTHINGS, and as in TargetSettings."""

    kind: str
    settle_s: float | None


@dataclass(frozen=True, slots=True)
class _End:
    """Nothing comes after this."""


Item = Update | Status | Event | Rate | NewSmoothing


class Sender:
    """Serves one target from a thread of its own: whatever befalls it there delays nobody else.

    send: takes the messages of a bundle, and says whether all of them went; it never raises. delay_s: how long after it
    came in everything leaves, in its order; it may be changed at any time. The smooth values leave at their rate, on a
    grid of moments that does not drift; of moments that were missed, only the last is made up for.

    `put` may be called by any thread and never waits; what comes when the mailbox is full, or after the end, is counted
    in `lost`.
    """

    def __init__(self, target: TargetSettings, send: Callable[[list[Message]], bool], delay_s: float) -> None:
        self._composer = Composer(target)
        self._send = send
        self._interval_s = 1.0 / target.rate_hz
        self._delay_s = delay_s
        self.lost = 0
        self._ended = False
        # For the two above, and so that nothing gets into the mailbox after the end.
        self._lock = threading.Lock()
        # With when it came. None: only to wake the thread.
        self._mailbox: queue.SimpleQueue[tuple[float, Item | _End | None]] = queue.SimpleQueue()
        self._waiting: deque[tuple[float, Item]] = deque()
        self._thread = threading.Thread(target=self._serve, name=f"osc to {target.host}", daemon=True)
        self._thread.start()

    @property
    def delay_s(self) -> float:
        return self._delay_s

    @delay_s.setter
    def delay_s(self, delay_s: float) -> None:
        self._delay_s = delay_s
        # The thread may be asleep until something is due by the old one. What is in the mailbox wakes it as well.
        if self._mailbox.empty():
            self._mailbox.put((0.0, None))

    def put(self, item: Item) -> None:
        """Something to say, or to do differently from then on."""
        with self._lock:
            if self._ended or self._mailbox.qsize() >= _room(item):
                self.lost += 1
            else:
                self._mailbox.put((time.monotonic(), item))

    def end(self) -> None:
        """What came before this and is due is said, and the last status without further delay; then the thread ends."""
        with self._lock:
            self._ended = True
            self._mailbox.put((0.0, _End()))

    def join(self, timeout_s: float) -> None:
        """Waits until the thread has ended, so long at most."""
        self._thread.join(timeout_s)

    def _serve(self) -> None:
        """The thread."""
        smooth_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            while self._waiting and self._waiting[0][0] + self.delay_s <= now_s:
                self._say(self._waiting.popleft()[1], now_s)
            if self._composer.is_smooth and smooth_s <= now_s:
                self._send_any(self._composer.smooth(now_s))
                smooth_s += self._interval_s * (math.floor((now_s - smooth_s) / self._interval_s) + 1)
            due_s = min(
                smooth_s if self._composer.is_smooth else math.inf,
                self._waiting[0][0] + self.delay_s if self._waiting else math.inf,
            )
            try:
                timeout_s = None if due_s == math.inf else max(due_s - time.monotonic(), 0.0)
                came_s, item = self._mailbox.get(timeout=timeout_s)
            except queue.Empty:
                continue
            if isinstance(item, _End):
                self._say_the_last()
                return
            if item is None:
                continue
            if len(self._waiting) < _room(item):
                self._waiting.append((came_s, item))
            else:
                with self._lock:
                    self.lost += 1

    def _say_the_last(self) -> None:
        """What is due; of what is not, only the answers and the last status: not seconds of predictions at once."""
        now_s = time.monotonic()
        last_status = next((item for _, item in reversed(self._waiting) if isinstance(item, Status)), None)
        for came_s, item in self._waiting:
            if came_s + self.delay_s <= now_s or isinstance(item, Event) or item is last_status:
                self._say(item, now_s)

    def _say(self, item: Item, now_s: float) -> None:
        if isinstance(item, Update):
            self._send_any(self._composer.update(item, now_s))
        elif isinstance(item, Status):
            self._send_any(self._composer.status(item, now_s))
        elif isinstance(item, Event):
            self._send_any(self._composer.event(item))
        elif isinstance(item, Rate):
            self._interval_s = 1.0 / item.rate_hz
        else:
            self._composer.change_smoothing(item.kind, item.settle_s, now_s)

    def _send_any(self, messages: list[Message]) -> None:
        if messages and not self._send(messages):
            self._composer.forget()


def _room(item: Item) -> int:
    return _MAILBOX_ITEMS if isinstance(item, Update | Status) else _MAILBOX_ITEMS_FOR_COMMANDS
