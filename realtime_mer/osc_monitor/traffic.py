"""Counts and times what arrives at a port, in bounded memory."""

from __future__ import annotations

import itertools
import statistics
import threading
from collections import deque

from realtime_mer.osc.messages import Message, PacketError, read_packet

WINDOW_S = 5.0
MOST_ADDRESSES = 500
MOST_SENDERS = 100
_MOST_ARRIVALS = 256
_MOST_LETTERS = 120


class Arrivals:
    """The messages of one address. values: types and values of the last one, as text."""

    def __init__(self) -> None:
        self.values = ""
        self.count = 0
        # Those within WINDOW_S before the last one.
        self.times_s: deque[float] = deque(maxlen=_MOST_ARRIVALS)

    def add(self, time_s: float, values: str) -> None:
        self.values = values
        self.count += 1
        self.times_s.append(time_s)
        while self.times_s[0] < time_s - WINDOW_S:
            self.times_s.popleft()

    def timing(self) -> tuple[float | None, float | None]:
        """Rate in Hz (inverse mean interval) and jitter in ms (its standard deviation); None if there are too few."""
        intervals_s = [after - before for before, after in itertools.pairwise(self.times_s)]
        mean_s = statistics.fmean(intervals_s) if intervals_s else 0.0
        squares = [(interval_s - mean_s) ** 2 for interval_s in intervals_s]
        return (
            1.0 / mean_s if mean_s > 0 else None,
            1000.0 * statistics.fmean(squares) ** 0.5 if len(squares) >= 2 else None,
        )


class Traffic:
    """Everything that came. Hold `lock` while you read it in another thread.

    senders: packets by HOST:PORT, the longest silent first. hidden: messages of addresses beyond MOST_ADDRESSES.
    last_malformed: sender and reason.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.packets = self.messages = self.malformed = self.hidden = 0
        self.last_malformed = ""
        self.senders: dict[str, int] = {}
        self.addresses: dict[str, Arrivals] = {}

    def add(self, time_s: float, sender: str, received: bytes | str) -> list[str]:
        """Counts a packet, or the reason why what came is not one. Returns a text for each message.

        time_s: in seconds of one clock; never falls.
        """
        try:
            if isinstance(received, str):
                raise PacketError(received)
            messages = read_packet(received)
        except PacketError as error:
            with self.lock:
                self.malformed += 1
                self.last_malformed = f"from {sender}: {error}"
            return [f"malformed: {error}"]
        texts = [(_shortened(message.address), values_text(message)) for message in messages]
        with self.lock:
            self.packets += 1
            self.messages += len(texts)
            self.senders[sender] = self.senders.pop(sender, 0) + 1
            if len(self.senders) > MOST_SENDERS:
                del self.senders[next(iter(self.senders))]
            for address, values in texts:
                if address not in self.addresses and len(self.addresses) == MOST_ADDRESSES:
                    self.hidden += 1
                else:
                    self.addresses.setdefault(address, Arrivals()).add(time_s, values)
        return [f"{address} {values}".rstrip() for address, values in texts]


def values_text(message: Message) -> str:
    """A message's types and values in printable ASCII, as in `ff 0.25 -0.5`, cut off if long."""
    values = [f"{value:.6g}" if isinstance(value, float) else ascii(value) for value in message.values]
    return _shortened(" ".join([_shortened(message.types), *values]))


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 3] + "..."
