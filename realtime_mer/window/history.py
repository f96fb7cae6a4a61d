"""The updates so far, as arrays to draw: the latest exactly, the whole run in a bounded number of points. No Qt."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from realtime_mer.updates import Marked, Update

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Name = Literal["valence", "arousal"]
# Stream time, value, and whether it was held.
Point = tuple[float, float, bool]

# A little more than ten minutes of predictions at the highest rate, 20 a second.
_CAPACITY = 12_500
# The updates themselves: those of the longest trail, two minutes.
_MOST_UPDATES = 2_500
_MOMENTS = 4_096
# The most points in a curve.
_POINTS = 2_048


@dataclass(frozen=True, slots=True)
class Curve:
    """One value over time: stream time, value and whether it was held, each of shape (n,), oldest first."""

    time_s: Values
    values: Values
    held: Flags


@dataclass(frozen=True, slots=True)
class Change:
    """From time_s on, the music was in this quadrant: 1 to 4, as moods.QUADRANTS has them."""

    time_s: float
    quadrant: int


class Envelope:
    """A value over any length of time: the lowest and the highest of each bin of so many values, and the newest.

    When there are `most` points, each two neighbouring bins become one. A bin is held if all of its values are.
    """

    def __init__(self, most: int = _POINTS) -> None:
        self._most, self._bin_size, self._n_in_bin = most, 2, 0
        self._points: list[Point] = []
        self._bin: list[Point] = []
        self._newest: list[Point] = []

    def add(self, time_s: float, value: float, *, held: bool) -> None:
        """Adds the next value; time_s: not before the last one's."""
        self._newest = [(time_s, value, held)]
        self._bin = _extremes([*self._bin, *self._newest])
        self._n_in_bin += 1
        if self._n_in_bin == self._bin_size:
            self._points += self._bin
            self._bin, self._n_in_bin = [], 0
        if len(self._points) >= self._most:
            fours = (self._points[i : i + 4] for i in range(0, len(self._points), 4))
            self._points = [point for four in fours for point in _extremes(four)]
            self._bin_size *= 2

    def curve(self) -> Curve:
        """At most `most` + 2 points."""
        points = self._points + self._bin
        table = np.array(points if points[-1:] == self._newest else points + self._newest).reshape(-1, 3)
        return Curve(table[:, 0], table[:, 1], table[:, 2].astype(bool))


def _extremes(points: Sequence[Point]) -> list[Point]:
    """The lowest and the highest in time order, once if they are the same."""
    held = all(point[2] for point in points)
    low, high = min(points, key=lambda point: point[1]), max(points, key=lambda point: point[1])
    return [(time_s, value, held) for time_s, value in sorted({low[:2], high[:2]})]


class History:
    """The latest updates' values, up to `capacity`, and an envelope of all of them.

    time_s, valence, arousal: float64, shape (n,), oldest first; held: bool, shape (n,).
    changes, marks: the latest changes of quadrant and marked moments, oldest first; at most 4,096 of each.
    first_s: stream time of the very first update; None before it.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._updates: deque[Update] = deque(maxlen=min(capacity, _MOST_UPDATES))
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._updates.clear()
        # Rows of stream time, valence, arousal and whether it was held; the end is free. Written rows never change.
        self._table = np.empty((2 * self._capacity, 4))
        self._n_rows = 0
        self._whole = {"valence": Envelope(), "arousal": Envelope()}
        self._quadrant = 0
        self.changes: deque[Change] = deque(maxlen=_MOMENTS)
        self.marks: deque[Marked] = deque(maxlen=_MOMENTS)
        self.first_s: float | None = None
        self._arrange()

    def extend(self, updates: Iterable[Update]) -> None:
        """Adds updates, oldest first."""
        for update in updates:
            self._updates.append(update)
            if self._n_rows == len(self._table):
                self._table = np.concatenate([self._table[-self._capacity :], np.empty((self._capacity, 4))])
                self._n_rows = self._capacity
            self._table[self._n_rows] = update.time_s, update.prediction.valence, update.prediction.arousal, update.held
            self._n_rows += 1
            self._whole["valence"].add(update.time_s, update.prediction.valence, held=update.held)
            self._whole["arousal"].add(update.time_s, update.prediction.arousal, held=update.held)
            if self.first_s is None:
                self.first_s = update.time_s
            if update.quadrant not in (0, self._quadrant):
                self._quadrant = update.quadrant
                self.changes.append(Change(update.time_s, update.quadrant))
        self._arrange()

    @property
    def newest(self) -> Update | None:
        """The last update; None before the first."""
        return self._updates[-1] if self._updates else None

    def since(self, time_s: float) -> list[Update]:
        """The latest updates, after this stream time, oldest first."""
        later = itertools.takewhile(lambda update: update.time_s > time_s, reversed(self._updates))
        return list(later)[::-1]

    def curve(self, name: Name, since_s: float) -> Curve:
        """A value from a moment before this stream time on: exact if that is still known, else its envelope."""
        curve = Curve(self.time_s, self.valence if name == "valence" else self.arousal, self.held)
        if not self._updates or (since_s < self.time_s[0] and self.time_s[0] != self.first_s):
            curve = self._whole[name].curve()
        # One more, so that the line starts outside the view.
        start = max(int(np.searchsorted(curve.time_s, since_s)) - 1, 0)
        return Curve(curve.time_s[start:], curve.values[start:], curve.held[start:])

    def _arrange(self) -> None:
        latest = self._table[max(self._n_rows - self._capacity, 0) : self._n_rows]
        self.time_s, self.valence, self.arousal = latest[:, :3].T
        self.held: Flags = latest[:, 3].astype(bool)


def lasting(changes: Sequence[Change], least_s: float) -> list[Change]:
    """The changes after which the music stayed for at least least_s, and the last one; without changes back to the
    same quadrant."""
    kept: list[Change] = []
    for change, following in itertools.zip_longest(changes, itertools.islice(changes, 1, None)):
        stayed = following is None or following.time_s - change.time_s >= least_s
        if stayed and not (kept and kept[-1].quadrant == change.quadrant):
            kept.append(change)
    return kept
