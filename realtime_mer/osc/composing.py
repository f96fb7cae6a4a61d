"""The messages for one target at each moment: the values that it wants, at its addresses and in its ranges."""

from __future__ import annotations

import ctypes
import math
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
# Sent each time, even with the same values as before.
_EVENTS = frozenset(address.name for address in SPACE if address.when in (When.EVENT, When.ANSWER))
_LARGEST_INT = 2**31 - 1
_NO_LEVEL = InputLevel(-120.0, -120.0, LevelState.SILENCE)


@dataclass(frozen=True, slots=True)
class Event:
    """Values of one address that are neither of a prediction nor of a status, such as a mark."""

    name: str
    values: Values


def mapped(value: float, how: MappedValue) -> float:
    """The value as the target wants it: scale · sign(x) |x| ^ curve + offset, between low and high."""
    result = how.scale * math.copysign(abs(value) ** how.curve, value) + how.offset
    if how.low is not None:
        result = max(result, how.low)
    return result if how.high is None else min(result, how.high)


class Composer:
    """Composes one target's messages. Its result depends only on its input. now_s: of one clock; never falls."""

    def __init__(self, target: TargetSettings) -> None:
        self._prefix = target.prefix
        self._sent = frozenset[str]().union(*map(matching, target.send))
        self._maps: dict[str, list[MappedValue]] = {}
        for how in target.map:
            self._maps.setdefault(how.value, []).append(how)
        self._on_change = target.on_change
        self._last: dict[str, tuple[object, ...]] = {}
        home = None if target.home_after_s is None else Home(*target.home, target.home_after_s, target.glide_s)
        self._path = Path(target.smoothing, target.settle_s, target.speed, home)
        self._quadrant = 0
        self._music = False
        self._latency_s: float | None = None
        # The state that was sent last, and when.
        self._state: tuple[str, ...] = ()
        self._state_s = -math.inf
        self._heartbeat = 0
        names = self._sent | self._maps.keys()
        self.is_smooth = any(name.startswith("smooth/") for name in names)

    def change_smoothing(self, kind: str, settle_s: float | None, now_s: float) -> None:
        """Another smoothing, from where the values are now (smoothing.py)."""
        self._path.change(kind, settle_s, now_s)

    def update(self, update: Update, now_s: float) -> list[Message]:
        """The bundle of a prediction and the events that it causes."""
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
        """The smooth values."""
        return self._messages(mood_values(*self._path.at(now_s), "smooth/"))

    def status(self, status: Status, now_s: float) -> list[Message]:
        """The level each time; the rest if it has changed, or was not sent for HEARTBEAT_S."""
        # Without sound, no dimmer should stay at the last level.
        level = status.level if status.state is SourceState.RUNNING else _NO_LEVEL
        messages = [] if level is None else self._messages(level_values(level))
        values = status_values(status, self._heartbeat, self._latency_s)
        state = tuple(str(values[name]) for name in ("status/source", "status/input", "status/recording"))
        if state != self._state or now_s - self._state_s >= HEARTBEAT_S:
            self._state, self._state_s = state, now_s
            self._heartbeat = (self._heartbeat + 1) & _LARGEST_INT
            messages += self._messages(values)
        return messages

    def event(self, event: Event) -> list[Message]:
        """The message of an event."""
        return self._messages({event.name: event.values})

    def forget(self) -> None:
        """The last messages were not sent: send everything again, even if it has not changed."""
        self._last.clear()

    def _messages(self, values: Mapping[str, Values]) -> list[Message]:
        messages = []
        for name, of_name in values.items():
            found = [Message(f"{self._prefix}/{name}", _TYPES[name], of_name)] if name in self._sent else []
            found += [_mapped_message(float(of_name[0]), how) for how in self._maps.get(name, ())]
            messages += [message for message in found if name in _EVENTS or self._has_changed(message)]
        return messages

    def _has_changed(self, message: Message) -> bool:
        if not self._on_change:
            return True
        as_sent = tuple(ctypes.c_float(value).value if isinstance(value, float) else value for value in message.values)
        if self._last.get(message.address) == as_sent:
            return False
        self._last[message.address] = as_sent
        return True


def _mapped_message(value: float, how: MappedValue) -> Message:
    number = mapped(value, how)
    if how.type == "float":
        return Message(how.address, "f", (number,))
    return Message(how.address, "i", (min(max(round(number), -_LARGEST_INT), _LARGEST_INT),))
