"""Where the plane's point is and where it was. No Qt in here."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from realtime_mer.smoothing import Home, Path

Values = npt.NDArray[np.float64]

# How many past places are kept, evenly in time.
_PLACES = 240
# How far the clock may run ahead of the newest prediction: by then the spring is at rest.
_AHEAD_S = 2.5
# If a prediction is later than this (after its 0.5 s), the clock assumes that the stream stood still meanwhile.
_LATE_S = 0.75


class Trail:
    """A point that follows the predictions like a spring (smoothing.Path), and its recent path.

    The clock goes on with `advance` and is never behind the newest prediction's stream time, so the path is much the
    same whether predictions come twice a second or many at once. Without new ones it stops once the point is at rest.

    trail_s: how long a place is remembered; more than 0. newest_s: stream time of the newest prediction, else -inf.
    """

    def __init__(self, trail_s: float) -> None:
        self.trail_s = trail_s
        self._step_s = trail_s / _PLACES
        # Stream time, valence, arousal.
        self._places: deque[tuple[float, float, float]] = deque(maxlen=_PLACES + 1)
        self.clear()

    def clear(self) -> None:
        self._path: Path | None = None
        self._goal = (0.0, 0.0)
        self._now_s = 0.0
        self.newest_s = -math.inf
        # The clock minus stream time: how long the stream stood still in all.
        self._shift_s = 0.0
        self._places.clear()

    @property
    def point(self) -> tuple[float, float] | None:
        """Valence and arousal where the point is now; None before the first prediction."""
        return None if self._path is None else self._path.at(self._now_s)

    @property
    def at_rest(self) -> bool:
        """Whether the point has reached the newest prediction, or there is none."""
        return self.point in (None, self._goal)

    def follow(self, time_s: float, valence: float, arousal: float, *, held: bool) -> None:
        """Takes the next prediction. A held one does not move the goal."""
        self.newest_s = time_s
        if self._path is None:
            self._now_s, self._goal = time_s, (valence, arousal)
            self._path = Path("spring", None, 0.0, Home(valence, arousal, after_s=math.inf, glide_s=1.0))
        if self._now_s - time_s - self._shift_s > _LATE_S:
            self._shift_s = self._now_s - time_s
        self._go_on(max(self._now_s, time_s + self._shift_s))
        if not held:
            self._goal = (valence, arousal)
            self._path.go(valence, arousal, self._now_s)

    def advance(self, elapsed_s: float) -> bool:
        """Lets this much time go by. Returns whether anything changed."""
        before_s = self._now_s
        self._go_on(max(min(before_s + elapsed_s, self.newest_s + self._shift_s + _AHEAD_S), before_s))
        return self._now_s != before_s

    def way(self) -> tuple[Values, Values, Values]:
        """Valence, arousal and age, from 1 (about to be forgotten) down to 0 (the point itself).

        Each of shape (n,), oldest first; n is at most 242, and 0 before the first prediction.
        """
        places = [place for place in self._places if place[0] > self._now_s - self.trail_s]
        if self._path is not None:
            places.append((self._now_s, *self._path.at(self._now_s)))
        table = np.array(places, dtype=np.float64).reshape(-1, 3)
        return table[:, 1], table[:, 2], (self._now_s - table[:, 0]) / self.trail_s

    def _go_on(self, until_s: float) -> None:
        if self._path is None:
            return
        if until_s - self._now_s > self.trail_s:
            # By then everything is forgotten.
            self._places.clear()
            self._now_s = until_s - self.trail_s
        next_s = self._places[-1][0] + self._step_s if self._places else self._now_s
        while next_s <= until_s:
            self._places.append((next_s, *self._path.at(next_s)))
            next_s += self._step_s
        self._now_s = until_s
