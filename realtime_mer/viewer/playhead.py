"""Where a viewer is, and how it moves on. Pure."""

from __future__ import annotations


class Playhead:
    """A moment between start_s and end_s that stands still or goes on.

    position_s: the moment. playing: whether it goes on; at the end it does not.
    """

    def __init__(self, start_s: float, end_s: float) -> None:
        self._start_s, self._end_s = start_s, end_s
        self.position_s = start_s
        self.playing = False

    def seek(self, time_s: float) -> None:
        """To this moment, or to the end that it lies beyond."""
        self.position_s = min(max(time_s, self._start_s), self._end_s)

    def toggle(self) -> None:
        """Plays or pauses; at the end, it plays from the start."""
        self.playing = not self.playing
        if self.playing and self.position_s >= self._end_s:
            self.position_s = self._start_s

    def advance(self, elapsed_s: float, heard_s: float | None) -> None:
        """So much time has passed. heard_s: the moment that is heard, where there is sound: that is where it is."""
        if not self.playing:
            return
        self.seek(self.position_s + elapsed_s if heard_s is None else heard_s)
        self.playing = self.position_s < self._end_s
