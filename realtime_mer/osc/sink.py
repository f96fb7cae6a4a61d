"""The sink that sends to all OSC targets, each from a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from realtime_mer.config import TargetSettings
from realtime_mer.log import notify
from realtime_mer.osc.composing import Event
from realtime_mer.osc.messages import Message, message_packet, packet
from realtime_mer.osc.sender import Item, NewSmoothing, Sender
from realtime_mer.osc.status import TargetStatus
from realtime_mer.osc.transports import Output, open_output
from realtime_mer.updates import Status, Update

# Everything that ends with the program must together take less than a second.
_JOIN_TIMEOUT_S = 0.3
# A name look-up or a connection may take this long before a notice is shown.
_PATIENCE_S = 2.0


class OscSink:
    """Sends predictions and status to all targets. No call waits, except that `close` waits a moment.

    Packets that cannot be sent are counted and dropped: the next prediction comes soon.
    delay_s: how much later than possible everything is sent; `set_delay` changes it.
    """

    def __init__(self, targets: Sequence[TargetSettings], delay_s: float = 0.0) -> None:
        self._outputs = [open_output(target) for target in targets]
        self._senders = [
            Sender(target, _Encoder(output, target).send, delay_s)
            for target, output in zip(targets, self._outputs, strict=True)
        ]
        self._listeners: list[Sender] = []
        self._delay_s = delay_s
        self._closed = False

    @property
    def n_targets(self) -> int:
        return len(self._senders)

    def target_statuses(self) -> list[TargetStatus]:
        """For any thread."""
        pairs = zip(self._outputs, self._senders, strict=True)
        return [replace(output.status(), n_late=sender.lost) for output, sender in pairs]

    def update(self, update: Update) -> None:
        self._put(update)

    def status(self, status: Status) -> None:
        self._put(status)

    def event(self, event: Event) -> None:
        """Sends something that is neither of these. For any thread."""
        self._put(event)

    def set_rate(self, rate_hz: float, target: int | None) -> None:
        """Of the smooth values, 1 to 120, for the target of this number (from 1) or for all. For any thread."""
        for sender in self._chosen(target):
            sender.set_rate(rate_hz)

    def set_smoothing(self, kind: str, settle_s: float | None, target: int | None) -> None:
        """As in TargetSettings, for the target of this number (from 1) or for all. For any thread."""
        self._put(NewSmoothing(kind, settle_s), target)

    def set_delay(self, delay_s: float) -> None:
        """0 to 10. For any thread."""
        self._delay_s = delay_s
        for sender in self._chosen():
            sender.set_delay(delay_s)

    def add_listener(self, settings: TargetSettings, take: Callable[[list[Message]], None]) -> None:
        """Passes to `take`, from a thread of its own, what a target with these settings would be sent."""

        def send(messages: list[Message]) -> bool:
            take(messages)
            return True

        self._listeners.append(Sender(settings, send, self._delay_s))

    def close(self) -> None:
        """Sends only what was put before. May be called twice."""
        if self._closed:
            return
        self._closed = True
        senders = self._chosen()
        for sender in senders:
            sender.end()
        deadline_s = time.monotonic() + _JOIN_TIMEOUT_S
        for sender in senders:
            sender.join(max(deadline_s - time.monotonic(), 0.0))
        for output in self._outputs:
            output.close()

    def _put(self, item: Item, target: int | None = None) -> None:
        for sender in self._chosen(target):
            sender.put(item)

    def _chosen(self, target: int | None = None) -> list[Sender]:
        return [*self._senders, *self._listeners] if target is None else [self._senders[target - 1]]


class _Encoder:
    """Sends messages as packets, and shows a notice if the target fails for longer than a moment, or is back."""

    def __init__(self, output: Output, target: TargetSettings) -> None:
        self._output = output
        self._bundle = target.bundle
        self._failing_s: float | None = None
        self._notified = False

    def send(self, messages: list[Message]) -> bool:
        """Returns whether all of it was sent, as far as can be known."""
        sent = True
        for data in [packet(messages)] if self._bundle else map(message_packet, messages):
            # Every packet is tried, even after one that failed.
            sent = self._output.send(data) and sent
        self._notify(sent)
        return sent

    def _notify(self, sent: bool) -> None:
        now_s = time.monotonic()
        if sent:
            self._failing_s = None
            if self._notified:
                self._notified = False
                notify(f"OSC goes again to {self._output.status()}")
        elif self._failing_s is None:
            self._failing_s = now_s
        elif not self._notified and now_s - self._failing_s >= _PATIENCE_S:
            self._notified = True
            notify(f"no OSC to {self._output.status()}")
