"""What arrives at a port, counted, timed and put into words; in bounded memory, whatever arrives."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from realtime_mer.osc.messages import Message

WINDOW_S = 5.0
MOST_ADDRESSES = 500
MOST_SENDERS = 100

_MOST_ARRIVALS = 1024
_MOST_ADDRESS_LETTERS = 200
_MOST_CONTENT_LETTERS = 120
_MOST_BLOB_BYTES = 16


@dataclass(frozen=True, slots=True)
class Timing:
    """How often messages came, and how evenly; None where too few came to tell.

    rate_hz: of the mean interval between one and the next. jitter_ms: the intervals' standard deviation. gap_ms: the
    longest of them.
    """

    rate_hz: float | None
    jitter_ms: float | None
    gap_ms: float | None


class Intervals:
    """The times between arrivals, in constant memory: B. P. Welford, Technometrics 4 (1962), 419."""

    def __init__(self) -> None:
        self._n = 0
        self._mean_s = 0.0
        self._squares = 0.0
        self._longest_s = 0.0
        self._last_s: float | None = None

    def arrived(self, time_s: float) -> None:
        """time_s: never falls."""
        if self._last_s is not None:
            interval_s = time_s - self._last_s
            from_mean_s = interval_s - self._mean_s
            self._n += 1
            self._mean_s += from_mean_s / self._n
            self._squares += from_mean_s * (interval_s - self._mean_s)
            self._longest_s = max(self._longest_s, interval_s)
        self._last_s = time_s

    def timing(self) -> Timing:
        """Of all so far."""
        return Timing(
            1.0 / self._mean_s if self._mean_s > 0 else None,
            1000.0 * math.sqrt(self._squares / self._n) if self._n >= 2 else None,
            1000.0 * self._longest_s if self._n else None,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """What came for one address. content: types and values of the last message. whole: the timing since it was first
    heard. arrivals_s: the times of the last WINDOW_S, or of the last 1024 messages where those were more."""

    address: str
    content: str
    count: int
    age_s: float
    whole: Timing
    arrivals_s: tuple[float, ...]

    @property
    def recent(self) -> Timing:
        """The timing within the last WINDOW_S."""
        intervals = Intervals()
        for time_s in self.arrivals_s:
            intervals.arrived(time_s)
        return intervals.timing()


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last packet that was none. age_s: how long ago."""

    age_s: float
    sender: str
    reason: str


@dataclass(frozen=True, slots=True)
class Picture:
    """All that came, at one moment.

    time_s: since the beginning. malformed: packets that were none. dropped: packets that the system threw away, because
    they came faster than they were read. others: messages of addresses beyond MOST_ADDRESSES.
    senders: HOST:PORT, and its packets; most first. n_senders: also those that were forgotten, the longest silent
    first, for the MOST_SENDERS that are kept. rows: some of the n_addresses in alphabetical order, from the index
    `first` on.
    """

    time_s: float
    packets: int
    messages: int
    malformed: int
    refusal: Refusal | None
    dropped: int
    others: int
    senders: tuple[tuple[str, int], ...]
    n_senders: int
    n_addresses: int
    first: int
    rows: tuple[Row, ...]


class _Address:
    def __init__(self) -> None:
        self.content = ""
        self.count = 0
        self.last_s = 0.0
        self.whole = Intervals()
        self._arrivals_s: deque[float] = deque(maxlen=_MOST_ARRIVALS)

    def heard(self, time_s: float, message: Message) -> None:
        self.content = content(message)
        self.count += 1
        self.last_s = time_s
        self.whole.arrived(time_s)
        self._arrivals_s.append(time_s)
        self._forget(time_s)

    def row(self, address: str, now_s: float) -> Row:
        self._forget(now_s)
        return Row(address, self.content, self.count, now_s - self.last_s, self.whole.timing(), tuple(self._arrivals_s))

    def _forget(self, now_s: float) -> None:
        while self._arrivals_s and self._arrivals_s[0] < now_s - WINDOW_S:
            self._arrivals_s.popleft()


class Traffic:
    """Counts and times what arrives. Times are seconds of one clock, and never fall."""

    def __init__(self, start_s: float) -> None:
        self._start_s = start_s
        self._packets = 0
        self._messages = 0
        self._malformed = 0
        self._dropped = 0
        self._others = 0
        self._refused: tuple[float, str, str] | None = None
        self._addresses: dict[str, _Address] = {}
        # The one heard longest ago comes first.
        self._senders: dict[str, int] = {}
        self._forgotten_senders = 0

    def heard(self, time_s: float, sender: str, messages: Sequence[Message]) -> None:
        """A packet of messages came."""
        self._packets += 1
        self._messages += len(messages)
        packets = self._senders.pop(sender, 0)
        self._senders[sender] = packets + 1
        if len(self._senders) > MOST_SENDERS:
            del self._senders[next(iter(self._senders))]
            self._forgotten_senders += 1
        for message in messages:
            name = _cut(message.address, _MOST_ADDRESS_LETTERS)
            address = self._addresses.get(name)
            if address is None:
                if len(self._addresses) == MOST_ADDRESSES:
                    self._others += 1
                    continue
                address = self._addresses[name] = _Address()
            address.heard(time_s, message)

    def refused(self, time_s: float, sender: str, reason: str) -> None:
        """Something came that was no packet."""
        self._malformed += 1
        self._refused = time_s, sender, reason

    def dropped(self, n: int) -> None:
        """So many packets came and were not read."""
        self._dropped += n

    def picture(self, now_s: float, first: int = 0, most: int = MOST_ADDRESSES) -> Picture:
        """How things are, with at most so many addresses from this index on."""
        names = sorted(self._addresses)[first : first + most]
        refusal = None if self._refused is None else Refusal(now_s - self._refused[0], *self._refused[1:])
        return Picture(
            time_s=now_s - self._start_s,
            packets=self._packets,
            messages=self._messages,
            malformed=self._malformed,
            refusal=refusal,
            dropped=self._dropped,
            others=self._others,
            senders=tuple(sorted(self._senders.items(), key=lambda entry: (-entry[1], entry[0]))),
            n_senders=len(self._senders) + self._forgotten_senders,
            n_addresses=len(self._addresses),
            first=first,
            rows=tuple(self._addresses[name].row(name, now_s) for name in names),
        )


def content(message: Message) -> str:
    """A message's types and values, `ff 0.25 -0.5`; what is too long ends in dots. Strings stand in quotes."""
    if not message.types:
        return ""
    whole = _cut(message.types, _MOST_CONTENT_LETTERS // 4)
    for value in _values_in_words(message):
        whole += f" {value}"
        if len(whole) > _MOST_CONTENT_LETTERS:
            break
    return _cut(whole, _MOST_CONTENT_LETTERS)


def line(time_s: float, sender: str, message: Message) -> str:
    """A message as one line: `12.345 127.0.0.1:53211 /mer/valence f 0.123`."""
    return f"{time_s:.3f} {sender} {_cut(message.address, _MOST_ADDRESS_LETTERS)} {content(message)}".rstrip()


def _values_in_words(message: Message) -> Iterator[str]:
    inside: list[Iterator[Any]] = [iter(message.values)]
    for letter in message.types:
        if letter == "]":
            inside.pop()
            yield "]"
        elif letter == "[":
            inside.append(iter(next(inside[-1])))
            yield "["
        else:
            yield _value_in_words(letter, next(inside[-1]))


def _value_in_words(letter: str, value: Any) -> str:
    match letter:
        case "f":
            return f"{value:.6g}"
        case "d":
            return f"{value:.12g}"
        case "s" | "S":
            return json.dumps(_cut(value, _MOST_CONTENT_LETTERS), ensure_ascii=False)
        case "b":
            return f"({len(value)} bytes) {_cut(value[: _MOST_BLOB_BYTES + 1].hex(), 2 * _MOST_BLOB_BYTES)}".rstrip()
        case "m":
            return bytes(value).hex()
        case "r":
            return f"#{value:08x}"
        case "t":
            seconds, fraction = value
            exact = seconds + timedelta(seconds=fraction / 2**32)
            return str(exact.isoformat(timespec="milliseconds")) + "Z"
        case "T" | "F" | "N" | "I":
            return {"T": "true", "F": "false", "N": "nil", "I": "impulse"}[letter]
        case _:
            return str(value)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
