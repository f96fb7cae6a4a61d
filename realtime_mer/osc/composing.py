"""What one target is sent at each moment: its choice of the address space, under its addresses, in its ranges."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from realtime_mer.config import MappedValue, TargetSettings
from realtime_mer.config.space import SPACE, Values, When, matching
from realtime_mer.osc.messages import Message
from realtime_mer.osc.values import frame_values, level_values, mood_values, status_values
from realtime_mer.smoothing import Home, Path
from realtime_mer.updates import InputLevel, LevelState, SourceState, Status, Update

HEARTBEAT_S = 1.0

_TYPES = {address.name: address.types for address in SPACE}
# What happens is worth saying each time, also where it says the same.
_EVENTS = frozenset(address.name for address in SPACE if address.when in (When.EVENT, When.ANSWER))
_LARGEST_INT = 2**31 - 1
_NO_LEVEL = InputLevel(-120.0, -120.0, LevelState.SILENCE)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened beside predictions and status: a value of the address space, there and then."""

    name: str
    values: Values


def mapped(value: float, how: MappedValue) -> float:
    """The value as the target wants it: scale · sign(x) |x| ^ curve + offset, between low and high."""
    result = how.scale * math.copysign(abs(value) ** how.curve, value) + how.offset
    if how.low is not None:
        result = max(result, how.low)
    return result if how.high is None else min(result, how.high)


class Composer:
    """One target's view of the run. Deterministic in what it is given; now_s: of one clock, never falling."""

    def __init__(self, target: TargetSettings) -> None:
        self._prefix = target.prefix
        self._sent = frozenset[str]().union(*map(matching, target.send))
        self._maps: dict[str, list[MappedValue]] = {}
        for how in target.map:
            self._maps.setdefault(how.value, []).append(how)
        self._on_change = target.on_change
        self._last: dict[str, tuple[object, ...]] = {}
        self._path = path_of(target)
        self._quadrant = 0
        self._music = False
        self._latency_s: float | None = None
        self._told: tuple[str, ...] = ()
        self._told_s = -math.inf
        self._heartbeat = 0
        names = self._sent | self._maps.keys()
        self.is_smooth = any(name.startswith("smooth/") for name in names)

    def change_smoothing(self, kind: str, settle_s: float | None, now_s: float) -> None:
        """From where the values are now, in another way (smoothing.py)."""
        self._path.change(kind, settle_s, now_s)

    def update(self, update: Update, now_s: float) -> list[Message]:
        """A prediction, and what it changes: one bundle."""
        values = frame_values(update)
        if update.quadrant not in (0, self._quadrant):
            self._quadrant = update.quadrant
            values["event/quadrant"] = (update.quadrant,)
        is_music = not update.held
        if is_music != self._music:
            self._music = is_music
            values["event/music"] = (int(is_music),)
        if is_music:
            self._path.go(update.prediction.valence, update.prediction.arousal, now_s)
        self._latency_s = update.latency_s
        return self._messages(values)

    def smooth(self, now_s: float) -> list[Message]:
        """Where the smooth values are."""
        return self._messages(mood_values(*self._path.at(now_s), "smooth/"))

    def status(self, status: Status, now_s: float) -> list[Message]:
        """How things are: the level each time, the rest where it has changed or was not told for HEARTBEAT_S."""
        # Where nothing is heard, no dimmer should stay lit by what was heard last.
        level = status.level if status.state is SourceState.RUNNING else _NO_LEVEL
        messages = [] if level is None else self._messages(level_values(level))
        values = status_values(status, self._heartbeat, self._latency_s)
        told = tuple(str(values[name]) for name in ("status/source", "status/input", "status/recording"))
        if told != self._told or now_s - self._told_s >= HEARTBEAT_S:
            self._told, self._told_s = told, now_s
            self._heartbeat = (self._heartbeat + 1) & _LARGEST_INT
            messages += self._messages(values)
        return messages

    def event(self, event: Event) -> list[Message]:
        """Something that happened."""
        return self._messages({event.name: event.values})

    def forget(self) -> None:
        """What was composed last did not get there: everything is news again."""
        self._last.clear()

    def _messages(self, values: Mapping[str, Values]) -> list[Message]:
        messages = []
        for name, said in values.items():
            found = [Message(f"{self._prefix}/{name}", _TYPES[name], said)] if name in self._sent else []
            found += [_mapped_message(float(said[0]), how) for how in self._maps.get(name, ())]
            messages += [message for message in found if name in _EVENTS or self._is_news(message)]
        return messages

    def _is_news(self, message: Message) -> bool:
        if not self._on_change:
            return True
        as_sent = tuple(_as_float32(value) if isinstance(value, float) else value for value in message.values)
        if self._last.get(message.address) == as_sent:
            return False
        self._last[message.address] = as_sent
        return True


def _mapped_message(value: float, how: MappedValue) -> Message:
    number = mapped(value, how)
    if how.type == "float":
        return Message(how.address, "f", (number,))
    return Message(how.address, "i", (min(max(round(number), -_LARGEST_INT), _LARGEST_INT),))


def _as_float32(value: float) -> float:
    (rounded,) = struct.unpack("f", struct.pack("f", value))
    return float(rounded)


def path_of(target: TargetSettings) -> Path:
    """The smooth path that the target asks for."""
    valence, arousal = target.home
    home = None if target.home_after_s is None else Home(valence, arousal, target.home_after_s, target.glide_s)
    return Path(target.smoothing, target.settle_s, target.speed, home)
