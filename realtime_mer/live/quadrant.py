"""The quadrant of the music, without flicker."""

from __future__ import annotations

from realtime_mer.moods import QUADRANTS

_NUMBERS = {signs: number for number, signs in QUADRANTS.items()}


class QuadrantTracker:
    """Which quadrant the music is in, without flicker: a key of QUADRANTS, 0 before any music.

    Valence and arousal change sides if they are past the axis by more than the hysteresis. After a change of quadrant,
    the next comes no sooner than after the dwell time. The first one is simply that of the first prediction.
    """

    def __init__(self, hysteresis: float, dwell_s: float) -> None:
        self._hysteresis = hysteresis
        self._dwell_s = dwell_s
        self._signs: tuple[int, int] | None = None
        self._changed_s = 0.0

    @property
    def quadrant(self) -> int:
        """The present one."""
        return 0 if self._signs is None else _NUMBERS[self._signs]

    def step(self, valence: float, arousal: float, time_s: float) -> int:
        """The quadrant after a prediction of music; time_s: stream time, never falling."""
        if self._signs is None:
            self._signs, self._changed_s = (_side(valence, 1, 0.0), _side(arousal, 1, 0.0)), time_s
        elif time_s - self._changed_s >= self._dwell_s:
            signs = (_side(valence, self._signs[0], self._hysteresis), _side(arousal, self._signs[1], self._hysteresis))
            if signs != self._signs:
                self._signs, self._changed_s = signs, time_s
        return self.quadrant


def _side(value: float, side: int, hysteresis: float) -> int:
    """The side of the axis, 1 or -1, coming from `side`."""
    return -side if side * value < -hysteresis else side
