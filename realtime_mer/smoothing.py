"""Smooth values between predictions: four ways to move a value to its goal.

Each gives its value at any moment in closed form, from the last change of its goal. So the path does not depend on how
often or when it is read; it never leaves the range of its goals and its start; and it reaches its goal:

    none      at once
    linear    on a straight line, in settle_s
    spring    as a critically damped spring, x'' = w² (g - x) - 2 w x': to 2 % of a step from rest in settle_s.
              From rest it is the average of its goals so far with the weights w² t exp(-w t). These are never
              negative, so it stays in their range, even if it passes a goal that turned back.
    one-euro  the one-euro filter (Casiez, Roussel and Vogel, CHI 2012, https://doi.org/10.1145/2207676.2208639) in
              continuous time: x' = 2 pi f (g - x), with the cut-off f = f_min + speed |s|, and s the goal's derivative
              through a low-pass of 1 Hz: a step of height d adds 2 pi d to s, which then decays as exp(-2 pi t).
              To 2 % in at most settle_s (f_min is chosen for that), sooner after a large step.

Times are in seconds of one clock that never falls; a moment before the last change of the goal counts as that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

# The remainder of a step at which a value counts as settled.
_SETTLED = 0.02
# (1 + x) exp(-x) = 0.02.
_SPRING_SETTLED = 5.833922
# The one-euro filter's low-pass for the derivative, as its authors recommend it.
_DERIVATIVE_HZ = 1.0
# Between two predictions.
_SHORTEST_GAP_S, _LONGEST_GAP_S = 0.05, 0.5
# Closer than this no difference is visible; a value that has arrived need not be sent again.
_ARRIVED = 1e-4


class Smoothing(Protocol):
    """One value that moves to its goal. It begins at rest."""

    def go(self, goal: float, now_s: float) -> None:
        """Sets a new goal."""
        ...

    def at(self, now_s: float) -> float:
        """The value."""
        ...


def smoothing(kind: str, settle_s: float | None, speed: float, start: float) -> Smoothing:
    """A value at rest at `start`. kind: none, linear, spring or one-euro. settle_s: more than 0; None: the kind's own,
    the time since the last change of its goal, at most 0.5 s, for linear; 1 s for spring; 2 s for one-euro. speed: only
    one-euro's.

    Raises ValueError for another kind.
    """
    if kind == "none":
        return Step(start)
    if kind == "linear":
        return Linear(start, settle_s)
    if kind == "spring":
        return Spring(start, 1.0 if settle_s is None else settle_s)
    if kind == "one-euro":
        return OneEuro(start, 2.0 if settle_s is None else settle_s, speed)
    raise ValueError(f"expected one of none, linear, spring, one-euro; got {kind!r}")


class Step:
    """At its goal at once."""

    def __init__(self, start: float) -> None:
        self._goal = start

    def go(self, goal: float, now_s: float) -> None:
        self._goal = goal

    def at(self, now_s: float) -> float:
        return self._goal


class Linear:
    """On a straight line, in settle_s, from wherever it is when its goal changes.

    settle_s: None: as long as the goal before lasted, from 0.05 to 0.5 s. So it arrives when the next prediction comes.
    """

    def __init__(self, start: float, settle_s: float | None) -> None:
        self._given_s = settle_s
        self._settle_s = _LONGEST_GAP_S if settle_s is None else settle_s
        self._start = self._goal = start
        self._since_s = -math.inf

    def go(self, goal: float, now_s: float) -> None:
        self._start = self.at(now_s)
        if self._given_s is None:
            self._settle_s = min(max(now_s - self._since_s, _SHORTEST_GAP_S), _LONGEST_GAP_S)
        self._goal, self._since_s = goal, now_s

    def at(self, now_s: float) -> float:
        share = min(max(now_s - self._since_s, 0.0) / self._settle_s, 1.0)
        # In this form it ends exactly at the goal, and never beyond.
        return (1.0 - share) * self._start + share * self._goal


class Spring:
    """A critically damped spring: with y = x - g, y(t) = (y0 + (v0 + w y0) t) exp(-w t)."""

    def __init__(self, start: float, settle_s: float) -> None:
        self._w = _SPRING_SETTLED / settle_s
        self._goal = start
        self._offset = self._velocity = 0.0
        self._since_s = 0.0

    def go(self, goal: float, now_s: float) -> None:
        offset, velocity = self._moved(now_s)
        self._offset, self._velocity = self._goal + offset - goal, velocity
        self._goal, self._since_s = goal, now_s

    def at(self, now_s: float) -> float:
        offset, velocity = self._moved(now_s)
        if abs(offset) < _ARRIVED and abs(velocity) < _ARRIVED * self._w:
            return self._goal
        return self._goal + offset

    def _moved(self, now_s: float) -> tuple[float, float]:
        """The offset from the goal, and the velocity."""
        t_s = max(now_s - self._since_s, 0.0)
        slope = self._velocity + self._w * self._offset
        decay = math.exp(-self._w * t_s)
        return (self._offset + slope * t_s) * decay, (self._velocity - self._w * slope * t_s) * decay


class OneEuro:
    """With y = x - g: y(t) = y0 exp(-2 pi (f_min t + speed |s0| (1 - exp(-r t)) / r)), r = 2 pi · 1 Hz."""

    def __init__(self, start: float, settle_s: float, speed: float) -> None:
        self._f_min_hz = -math.log(_SETTLED) / (math.tau * settle_s)
        self._speed = speed
        self._goal = start
        self._offset = self._derivative = 0.0
        self._since_s = 0.0

    def go(self, goal: float, now_s: float) -> None:
        offset, derivative = self._moved(now_s)
        rate = math.tau * _DERIVATIVE_HZ
        self._offset, self._derivative = self._goal + offset - goal, derivative + rate * (goal - self._goal)
        self._goal, self._since_s = goal, now_s

    def at(self, now_s: float) -> float:
        offset, _ = self._moved(now_s)
        return self._goal if abs(offset) < _ARRIVED else self._goal + offset

    def _moved(self, now_s: float) -> tuple[float, float]:
        """The offset from the goal, and the low-passed derivative."""
        t_s = max(now_s - self._since_s, 0.0)
        rate = math.tau * _DERIVATIVE_HZ
        passed = 1.0 - math.exp(-rate * t_s)
        turns = self._f_min_hz * t_s + self._speed * abs(self._derivative) * passed / rate
        return self._offset * math.exp(-math.tau * turns), self._derivative * (1.0 - passed)


@dataclass(frozen=True, slots=True)
class Home:
    """The point that values move to, within glide_s, when there has been no music for after_s."""

    valence: float
    arousal: float
    after_s: float
    glide_s: float


class Path:
    """The point of the plane that follows the predictions, and goes home if there is no music.

    kind, settle_s, speed: as in `smoothing`. home: None: it stays where it is. It begins at home, or at (0, 0).
    """

    def __init__(self, kind: str, settle_s: float | None, speed: float, home: Home | None) -> None:
        self._kind, self._settle_s, self._speed, self._home = kind, settle_s, speed, home
        self._goal = (0.0, 0.0) if home is None else (home.valence, home.arousal)
        self._axes = self._begin(*self._goal)
        # The time of the last music; None if it is at home, or on its way there.
        self._music_s: float | None = None

    def change(self, kind: str, settle_s: float | None, now_s: float) -> None:
        """Continues from where it is with another smoothing."""
        place = self.at(now_s)
        self._kind, self._settle_s = kind, settle_s
        # At home, or on its way there, the change takes effect with the next music.
        if self._music_s is not None:
            self._axes = self._begin(*place)
            self._go(now_s)

    def go(self, valence: float, arousal: float, now_s: float) -> None:
        """To a prediction of music. Held predictions (silence) are not passed here."""
        place = self.at(now_s)
        if self._music_s is None:
            self._axes = self._begin(*place)
        self._music_s = now_s
        self._goal = (valence, arousal)
        self._go(now_s)

    def at(self, now_s: float) -> tuple[float, float]:
        """Valence and arousal. now_s: not before that of the last call."""
        home = self._home
        if home is not None and self._music_s is not None and now_s >= self._music_s + home.after_s:
            # From that moment, however late this is called; always as a spring, which starts and ends gently.
            start_s = self._music_s + home.after_s
            valence, arousal = (axis.at(start_s) for axis in self._axes)
            self._axes = (Spring(valence, home.glide_s), Spring(arousal, home.glide_s))
            self._music_s = None
            self._goal = (home.valence, home.arousal)
            self._go(start_s)
        return self._axes[0].at(now_s), self._axes[1].at(now_s)

    def _go(self, now_s: float) -> None:
        for axis, goal in zip(self._axes, self._goal, strict=True):
            axis.go(goal, now_s)

    def _begin(self, valence: float, arousal: float) -> tuple[Smoothing, Smoothing]:
        return (
            smoothing(self._kind, self._settle_s, self._speed, valence),
            smoothing(self._kind, self._settle_s, self._speed, arousal),
        )
