"""Everything that goes out over OSC: to each target from a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from realtime_mer.config import TargetSettings
from realtime_mer.log import notify
from realtime_mer.osc.composing import Event
from realtime_mer.osc.messages import Message, message_packet, packet
from realtime_mer.osc.sender import Item, NewSmoothing, Rate, Sender
from realtime_mer.osc.transports import Output, open_output
from realtime_mer.updates import Status, Update

# Together with everything else that ends, this is to take less than a second.
_JOIN_TIMEOUT_S = 0.3
# A name that is being looked up, or a connection that is being made, is nothing to tell people of.
_PATIENCE_S = 2.0


class OscSink:
    """The sink that sends predictions, and how things are, to all targets. No call waits, but `close` a moment.

    What cannot be sent is counted and gone: the next prediction comes in half a second. delay_s: how much later than it
    could everything is sent; settable.
    """

    def __init__(self, targets: Sequence[TargetSettings], delay_s: float = 0.0) -> None:
        self._outputs = [open_output(target) for target in targets]
        self._senders = [
            Sender(target, _Encoded(output, target), delay_s)
            for target, output in zip(targets, self._outputs, strict=True)
        ]
        self._listeners: list[Sender] = []
        self._delay_s = delay_s
        self._closed = False

    @property
    def n_targets(self) -> int:
        return len(self._senders)

    def summary(self) -> list[str]:
        """Each target as HOST:PORT, with what could not be sent to it. Any thread may ask."""
        return [
            f"{output.summary()} ({sender.lost} not taken in time)" if sender.lost else output.summary()
            for output, sender in self._served()
        ]

    def update(self, update: Update) -> None:
        self._put(update)

    def status(self, status: Status) -> None:
        self._put(status)

    def event(self, event: Event) -> None:
        """Something that happened beside the two. Any thread may tell."""
        self._put(event)

    def set_rate(self, rate_hz: float, target: int | None) -> None:
        """Of the smooth values, 1 to 120, for the target of this number (from 1 on) or for all. Any thread may ask."""
        self._put(Rate(rate_hz), target)

    def set_smoothing(self, kind: str, settle_s: float | None, target: int | None) -> None:
        """As TargetSettings has it, for the target of this number (from 1 on) or for all. Any thread may ask."""
        self._put(NewSmoothing(kind, settle_s), target)

    def set_delay(self, delay_s: float) -> None:
        """0 to 10. Any thread may ask."""
        self._delay_s = delay_s
        for sender in (*self._senders, *self._listeners):
            sender.delay_s = delay_s

    def add_listener(self, settings: TargetSettings, take: Callable[[list[Message]], None]) -> None:
        """Someone who is told what a target with these settings would be sent, from a thread of its own."""

        def send(messages: list[Message]) -> bool:
            take(messages)
            return True

        self._listeners.append(Sender(settings, send, self._delay_s))

    def close(self) -> None:
        """Sends nothing more than what was taken in before. Harmless when called twice."""
        if self._closed:
            return
        self._closed = True
        senders = (*self._senders, *self._listeners)
        for sender in senders:
            sender.end()
        deadline_s = time.monotonic() + _JOIN_TIMEOUT_S
        for sender in senders:
            sender.join(max(deadline_s - time.monotonic(), 0.0))
        for output in self._outputs:
            output.close()

    def _put(self, item: Item, target: int | None = None) -> None:
        for sender in (*self._senders, *self._listeners) if target is None else [self._senders[target - 1]]:
            sender.put(item)

    def _served(self) -> list[tuple[Output, Sender]]:
        return list(zip(self._outputs, self._senders, strict=True))


class _Encoded:
    """Sends messages as packets, and tells people where a target goes away for longer than a moment, or is back."""

    def __init__(self, output: Output, target: TargetSettings) -> None:
        self._output = output
        self._bundle = target.bundle
        self._failing_s: float | None = None
        self._told = False

    def __call__(self, messages: list[Message]) -> bool:
        """Whether all of it went, as far as can be known."""
        n_before = self._output.errors
        for data in [packet(messages)] if self._bundle else map(message_packet, messages):
            self._output.send(data)
        went = self._output.errors == n_before
        self._tell(went)
        return went

    def _tell(self, went: bool) -> None:
        now_s = time.monotonic()
        if went:
            self._failing_s = None
            if self._told:
                self._told = False
                self._say("OSC goes again to")
        elif self._failing_s is None:
            self._failing_s = now_s
        elif not self._told and now_s - self._failing_s >= _PATIENCE_S:
            self._told = True
            self._say("no OSC to")

    def _say(self, words: str) -> None:
        notify(f"{words} {self._output.summary()}")
