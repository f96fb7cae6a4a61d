"""Where the point of the plane is, and where it was. No Qt in here."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from realtime_mer.smoothing import Home, Path

Values = npt.NDArray[np.float64]

# How many places of the past are kept, evenly in time.
_PLACES = 240
# How far its clock may run ahead of the newest prediction: until the spring has come to rest.
_AHEAD_S = 2.5
# How late a prediction may come, besides its 0.5 s, before the clock takes it that the stream stood still meanwhile.
_LATE_S = 0.75


class Trail:
    """A point that follows the predictions as a spring does (smoothing.Path), and the way that it came.

    Its clock goes on with `advance`, and is never behind the newest prediction's stream time. So the way is much the
    same whether predictions come twice a second, as live, or many at once, as from a recording. Where no more of them
    come, the clock stops once the point is at rest: what was shown stays.

    trail_s: how long a place is remembered; more than 0. Raises ValueError.
    """

    def __init__(self, trail_s: float) -> None:
        if not trail_s > 0.0:
            raise ValueError(f"A trail lasts more than 0 s, not {trail_s}.")
        self._trail_s = trail_s
        self._step_s = trail_s / _PLACES
        # Stream time, valence, arousal.
        self._places: deque[tuple[float, float, float]] = deque(maxlen=_PLACES + 1)
        self.clear()

    def clear(self) -> None:
        """Forgets everything: no prediction has come yet."""
        self._path: Path | None = None
        self._goal = (0.0, 0.0)
        self._now_s = 0.0
        self._newest_s = -math.inf
        # What the clock shows beyond stream time: for how long the stream stood still in all.
        self._shift_s = 0.0
        self._places.clear()

    @property
    def trail_s(self) -> float:
        return self._trail_s

    @property
    def newest_s(self) -> float:
        """The stream time of the newest prediction; -inf before the first."""
        return self._newest_s

    @property
    def point(self) -> tuple[float, float] | None:
        """Valence and arousal where the point is now; None before the first prediction."""
        return None if self._path is None else self._path.at(self._now_s)

    @property
    def at_rest(self) -> bool:
        """Whether the point is where the newest prediction is, or there is none."""
        return self.point in (None, self._goal)

    def follow(self, time_s: float, valence: float, arousal: float, *, held: bool) -> None:
        """The next prediction; time_s: its stream time. One that is held leaves the goal where it is."""
        self._newest_s = time_s
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
        """Lets this much time go by. Returns whether anything has changed."""
        before_s = self._now_s
        self._go_on(max(min(before_s + elapsed_s, self._newest_s + self._shift_s + _AHEAD_S), before_s))
        return self._now_s != before_s

    def way(self) -> tuple[Values, Values, Values]:
        """Valence, arousal and age, from 1 (about to be forgotten) down to 0 (the point itself).

        All of shape (n,), oldest first; n at most 242, and 0 before the first prediction.
        """
        places = [place for place in self._places if place[0] > self._now_s - self._trail_s]
        if self._path is not None:
            places.append((self._now_s, *self._path.at(self._now_s)))
        table = np.array(places, dtype=np.float64).reshape(-1, 3)
        return table[:, 1], table[:, 2], (self._now_s - table[:, 0]) / self._trail_s

    def _go_on(self, until_s: float) -> None:
        if self._path is None:
            return
        if until_s - self._now_s > self._trail_s:
            # All that was is forgotten by then.
            self._places.clear()
            self._now_s = until_s - self._trail_s
        next_s = self._places[-1][0] + self._step_s if self._places else self._now_s
        while next_s <= until_s:
            self._places.append((next_s, *self._path.at(next_s)))
            next_s += self._step_s
        self._now_s = until_s
