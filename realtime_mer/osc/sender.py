"""One target's thread: takes items from a mailbox, and sends each when it is due."""

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

# Ten seconds (the longest delay) of predictions and status are 300 items at most. Results of commands have less room,
# so that a flood of commands never crowds out the predictions.
_MAILBOX_ITEMS = 1024
_MAILBOX_ITEMS_FOR_COMMANDS = 640


@dataclass(frozen=True, slots=True)
class NewSmoothing:
    """From now on, this smoothing: kind and settle_s as in TargetSettings."""

    kind: str
    settle_s: float | None


Item = Update | Status | Event | NewSmoothing


class Sender:
    """Serves one target from a thread of its own, so that nothing that happens there delays another target.

    send: takes the messages of a bundle, and returns whether all were sent; it never raises. delay_s: how long after an
    item was put it is sent, in the same order; it may be changed at any time. The smooth values are sent at their rate,
    on a time grid that does not drift; if several moments of the grid were missed, only the last is sent.

    `put` is for any thread and never waits. Items that come while the mailbox is full, or after the end, are counted in
    `lost`.
    """

    def __init__(self, target: TargetSettings, send: Callable[[list[Message]], bool], delay_s: float) -> None:
        self._composer = Composer(target)
        self._send = send
        self._interval_s = 1.0 / target.rate_hz
        self._delay_s = delay_s
        self.lost = 0
        self._ended = False
        # For the two above, and so that no item is put into the mailbox after the end.
        self._lock = threading.Lock()
        # With the time at which it was put. None only wakes the thread.
        self._mailbox: queue.SimpleQueue[tuple[float, Item | None]] = queue.SimpleQueue()
        self._waiting: deque[tuple[float, Item]] = deque()
        self._thread = threading.Thread(target=self._serve, name=f"osc to {target.host}", daemon=True)
        self._thread.start()

    def set_rate(self, rate_hz: float) -> None:
        """For any thread."""
        self._interval_s = 1.0 / rate_hz

    def set_delay(self, delay_s: float) -> None:
        """For any thread."""
        self._delay_s = delay_s
        # The thread may sleep until an item is due by the old delay. Items in the mailbox wake it as well.
        if self._mailbox.empty():
            self._mailbox.put((0.0, None))

    def put(self, item: Item) -> None:
        """An item to send, or a setting to change from then on."""
        with self._lock:
            if self._ended or self._mailbox.qsize() >= _room(item):
                self.lost += 1
            else:
                self._mailbox.put((time.monotonic(), item))

    def end(self) -> None:
        """Sends the items that are due, the answers and the last status; then the thread ends."""
        with self._lock:
            self._ended = True
            self._mailbox.put((0.0, None))

    def join(self, timeout_s: float) -> None:
        """Waits until the thread has ended, or until the timeout."""
        self._thread.join(timeout_s)

    def _serve(self) -> None:
        """The thread."""
        smooth_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            while self._waiting and self._waiting[0][0] + self._delay_s <= now_s:
                self._send_item(self._waiting.popleft()[1], now_s)
            if self._composer.is_smooth and smooth_s <= now_s:
                self._send_any(self._composer.smooth(now_s))
                interval_s = self._interval_s
                smooth_s += interval_s * (math.floor((now_s - smooth_s) / interval_s) + 1)
            due_s = [smooth_s] if self._composer.is_smooth else []
            due_s += [self._waiting[0][0] + self._delay_s] if self._waiting else []
            try:
                timeout_s = max(min(due_s) - time.monotonic(), 0.0) if due_s else None
                put_s, item = self._mailbox.get(timeout=timeout_s)
            except queue.Empty:
                continue
            if item is None:
                if self._ended and self._mailbox.empty():
                    self._send_last()
                    return
            elif len(self._waiting) < _room(item):
                self._waiting.append((put_s, item))
            else:
                with self._lock:
                    self.lost += 1

    def _send_last(self) -> None:
        """The items that are due; of the others only events and the last status, not seconds of predictions at once."""
        now_s = time.monotonic()
        last_status = next((item for _, item in reversed(self._waiting) if isinstance(item, Status)), None)
        for put_s, item in self._waiting:
            if put_s + self._delay_s <= now_s or isinstance(item, Event) or item is last_status:
                self._send_item(item, now_s)

    def _send_item(self, item: Item, now_s: float) -> None:
        if isinstance(item, Update):
            self._send_any(self._composer.update(item, now_s))
        elif isinstance(item, Status):
            self._send_any(self._composer.status(item, now_s))
        elif isinstance(item, Event):
            self._send_any(self._composer.event(item))
        else:
            self._composer.change_smoothing(item.kind, item.settle_s, now_s)

    def _send_any(self, messages: list[Message]) -> None:
        if messages and not self._send(messages):
            self._composer.forget()


def _room(item: Item) -> int:
    return _MAILBOX_ITEMS if isinstance(item, Update | Status) else _MAILBOX_ITEMS_FOR_COMMANDS
