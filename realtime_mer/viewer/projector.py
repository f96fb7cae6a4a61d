"""Shows the moments of a take in the live window's views, as they looked live."""

from __future__ import annotations

import itertools
import math

from realtime_mer.viewer.moments import Moments
from realtime_mer.viewer.sound import Levels
from realtime_mer.window.history import History
from realtime_mer.window.meter import LevelMeter
from realtime_mer.window.timelines import Timeline
from realtime_mer.window.view import View

# Beyond this, the time in between is skipped.
_LEAP_S = 1.0
# How long before the trail to start, so that its point moves as it did live; and how long the level's peaks need.
_RUN_UP_S, _PEAKS_S = 5.0, 3.0
_STEP_S = 0.1


class Projector:
    """Brings a view to a moment of a take, which looks the same whether it was played up to or jumped to."""

    def __init__(self, moments: Moments) -> None:
        self._moments = moments
        self._levels = Levels(moments.take)
        self._view: View | None = None
        self._timelines: list[Timeline] = []
        self._meters: list[LevelMeter] = []
        self._span_s: float | None = None
        self._shown_s = math.nan
        self._n_shown = 0
        self._history = History()

    def use(self, view: View, span_s: float | None) -> None:
        """Shows in this view from now on. span_s: of its timelines, one of remembered.ZOOMS_S."""
        self._view = view
        self._timelines, self._meters = view.findChildren(Timeline), view.findChildren(LevelMeter)
        self._span_s = span_s
        view.show_span(span_s)
        self._shown_s = math.nan

    def show(self, time_s: float) -> None:
        """Shows this moment."""
        if self._view is None:
            raise ValueError("Call use() first.")
        time_s = self._moments.clamped(time_s)
        # Written so that nan counts as far away.
        if not 0.0 <= time_s - self._shown_s <= _LEAP_S:
            self._begin_before(self._view, time_s)
        self._go_on(self._view, time_s)

    def close(self) -> None:
        """Closes the sound file."""
        self._levels.close()

    def _begin_before(self, view: View, time_s: float) -> None:
        """Starts again a little before this moment, with a trail."""
        updates = self._moments.take.updates
        start_s = time_s - self._moments.take.trail_s - _RUN_UP_S
        goal_s = max(time_s - _PEAKS_S, self._moments.take.start_s)
        first, end = self._moments.n_known(start_s), self._moments.n_known(goal_s)
        self._history = History()
        # One more, so that the line starts outside the view.
        first_shown = 0 if self._span_s is None else max(self._moments.n_known(goal_s - self._span_s) - 1, 0)
        self._history.marks.extend(self._moments.take.marks)
        self._history.extend(updates[first_shown:end])
        view.plane.clear()
        for meter in self._meters:
            # Resets the peak.
            meter.show_level(None, 0.0)
        # Starts with the prediction that was the newest then.
        self._n_shown = max(first - 1, 0)
        self._shown_s = updates[self._n_shown].time_s if first else start_s
        self._move_plane(view, goal_s)
        view.show_history(self._history)
        for number in itertools.count(1):
            step_s = goal_s + number * _STEP_S
            if step_s >= time_s:
                break
            self._go_on(view, step_s)

    def _go_on(self, view: View, until_s: float) -> None:
        before_s, n_before = self._shown_s, self._n_shown
        self._move_plane(view, until_s)
        if self._n_shown != n_before:
            self._history.extend(self._moments.take.updates[n_before : self._n_shown])
            view.show_history(self._history)
        view.show_status(self._moments.status(until_s, self._levels.at(until_s)), self._history, ())
        for meter in self._meters:
            meter.advance(until_s - before_s)
        # Live timelines ease towards the present; here they are there at once.
        for timeline in self._timelines:
            timeline.advance(math.inf)

    def _move_plane(self, view: View, until_s: float) -> None:
        """Moves the point, giving it each prediction at its time."""
        n_known = self._moments.n_known(until_s)
        for update in self._moments.take.updates[self._n_shown : n_known]:
            view.plane.advance(max(update.time_s - self._shown_s, 0.0))
            self._shown_s = max(update.time_s, self._shown_s)
            view.plane.follow(update)
        view.plane.advance(until_s - self._shown_s)
        self._shown_s, self._n_shown = until_s, n_known
