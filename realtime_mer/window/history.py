"""The updates so far, as arrays to draw: the latest exactly, the whole run in a bounded number of points. No Qt."""

from __future__ import annotations

import itertools
import math
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

# A little more than ten minutes of predictions, one every 0.5 s.
_CAPACITY = 1_300
_MOMENTS = 4_096
# The most points in a curve; even, two for each bin.
_POINTS = 2_048
_NARROWEST_BIN_S = 0.5


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
    """A value over any length of time in at most `points` points: the lowest and the highest of each bin, with their
    times; and one more point, the newest.

    All bins are equally wide, and narrow at first. When the time no longer fits, each two neighbours are merged.
    A bin is held if all of its values are. points: even, at least 4.
    """

    def __init__(self, points: int = _POINTS) -> None:
        self._n_bins = points // 2
        # Time and value of each bin's lowest and highest.
        self._low = np.full((self._n_bins, 2), math.nan)
        self._high = np.full((self._n_bins, 2), math.nan)
        self._held = np.ones(self._n_bins, dtype=bool)
        self._width_s = _NARROWEST_BIN_S
        self._start_s: float | None = None
        self._last = -1
        self._newest = (-math.inf, 0.0, False)

    def add(self, time_s: float, value: float, *, held: bool) -> None:
        """Adds the next value; time_s: not before the last one's."""
        if self._start_s is None:
            self._start_s = time_s
        while (time_s - self._start_s) / self._width_s >= self._n_bins:
            self._merge()
        index = max(math.floor((time_s - self._start_s) / self._width_s), self._last)
        # Written so that any value is lower and higher than nan.
        if not value >= self._low[index, 1]:
            self._low[index] = time_s, value
        if not value <= self._high[index, 1]:
            self._high[index] = time_s, value
        self._held[index] &= held
        self._last = index
        self._newest = (time_s, value, held)

    def curve(self) -> Curve:
        """Each bin's lowest and highest in time order, once if they are the same; then the newest."""
        low, high = self._low[: self._last + 1], self._high[: self._last + 1]
        first = np.where((low[:, 0] <= high[:, 0])[:, None], low, high)
        second = np.where((low[:, 0] <= high[:, 0])[:, None], high, low)
        points = np.stack([first, second], axis=1).reshape(-1, 2)
        held = np.repeat(self._held[: self._last + 1], 2)
        is_new = ~np.isnan(points[:, 0])
        is_new[1::2] &= (second != first).any(axis=1)
        points, held = points[is_new], held[is_new]
        if len(points) and points[-1, 0] < self._newest[0]:
            points, held = np.append(points, [self._newest[:2]], axis=0), np.append(held, self._newest[2])
        return Curve(points[:, 0], points[:, 1], held)

    def _merge(self) -> None:
        n_merged = (self._n_bins + 1) // 2
        for extremes, sign in ((self._low, 1.0), (self._high, -1.0)):
            padded = np.full((2 * n_merged, 2), math.nan)
            padded[: self._n_bins] = extremes
            pairs = padded.reshape(n_merged, 2, 2)
            # An empty bin loses against any value.
            ranks = np.where(np.isnan(pairs[..., 1]), math.inf, sign * pairs[..., 1])
            extremes[:n_merged] = pairs[np.arange(n_merged), np.argmin(ranks, axis=1)]
            extremes[n_merged:] = math.nan
        held = np.ones(2 * n_merged, dtype=bool)
        held[: self._n_bins] = self._held
        self._held[:n_merged] = held.reshape(n_merged, 2).all(axis=1)
        self._held[n_merged:] = True
        self._width_s *= 2.0
        self._last //= 2


class History:
    """The latest updates, up to `capacity`, and an envelope of all of them.

    time_s, valence, arousal: float64, shape (n,), oldest first; held: bool, shape (n,).
    changes, marks: the latest changes of quadrant and marked moments, oldest first; at most 4,096 of each.
    first_s: stream time of the very first update; None before it.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._updates: deque[Update] = deque(maxlen=capacity)
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._updates.clear()
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

    def curve(self, name: Name, since_s: float) -> Curve:
        """A value from a moment before this stream time on: exact if that is still known, else its envelope."""
        if not self._updates or (since_s < self.time_s[0] and self.time_s[0] != self.first_s):
            return self._whole[name].curve()
        # One more, so that the line starts outside the view.
        start = max(int(np.searchsorted(self.time_s, since_s)) - 1, 0)
        values = self.valence if name == "valence" else self.arousal
        return Curve(self.time_s[start:], values[start:], self.held[start:])

    def _arrange(self) -> None:
        predictions = [update.prediction for update in self._updates]
        self.time_s: Values = np.array([one.time_s for one in predictions], dtype=np.float64)
        self.valence: Values = np.array([one.valence for one in predictions], dtype=np.float64)
        self.arousal: Values = np.array([one.arousal for one in predictions], dtype=np.float64)
        self.held: Flags = np.array([update.held for update in self._updates], dtype=bool)


def lasting(changes: Sequence[Change], least_s: float) -> list[Change]:
    """The changes after which the music stayed for at least least_s, and the last one; without changes back to the
    same quadrant."""
    kept: list[Change] = []
    for change, following in itertools.zip_longest(changes, itertools.islice(changes, 1, None)):
        stayed = following is None or following.time_s - change.time_s >= least_s
        if stayed and not (kept and kept[-1].quadrant == change.quadrant):
            kept.append(change)
    return kept
