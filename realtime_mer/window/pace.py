"""How often the window draws. No Qt in here."""

from __future__ import annotations

_LARGEST_HZ = 60.0
# Some drivers report 0 or 1.
_LEAST_HZ = 24.0
_WINDOW_S = 2.0
# Shares of one core. Above the first the window draws half as often, which halves the work; below the second it draws
# at the full rate again.
_TOO_BUSY, _IDLE = 0.5, 0.2


class Pace:
    """The screen's rate, up to 60 Hz; half of it if drawing takes more than half a core.

    refresh_hz: as the screen reports it.
    """

    def __init__(self, refresh_hz: float) -> None:
        self._full_hz = min(refresh_hz, _LARGEST_HZ) if refresh_hz >= _LEAST_HZ else _LARGEST_HZ
        self._halved = False
        self._since: tuple[float, float] | None = None

    @property
    def interval_ms(self) -> int:
        """The time between two pictures, rounded down."""
        return int(1000.0 / (self._full_hz / 2 if self._halved else self._full_hz))

    def note(self, now_s: float, busy_s: float) -> None:
        """To be called at every picture. now_s: monotonic time. busy_s: the drawing thread's CPU time so far."""
        if self._since is None:
            self._since = now_s, busy_s
            return
        elapsed_s = now_s - self._since[0]
        if elapsed_s >= _WINDOW_S:
            share = (busy_s - self._since[1]) / elapsed_s
            self._halved = share > _IDLE if self._halved else share > _TOO_BUSY
            self._since = now_s, busy_s
