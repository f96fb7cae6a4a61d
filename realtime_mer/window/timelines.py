"""Valence and arousal over time: from the last minute to everything so far."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from realtime_mer.moods import QUADRANT_WORDS, QUADRANTS
from realtime_mer.window.captions import signed
from realtime_mer.window.history import Flags, History, Name, Values, lasting
from realtime_mer.window.labels import Label, font
from realtime_mer.window.plots import PaintedItem, Ticks, faded, solid_pen, still_plot
from realtime_mer.window.qt import QtCore, QtGui, QtWidgets, pg
from realtime_mer.window.theme import Theme

_SPAN_S = 60.0
# Everything is shown with some room, so that the scale does not change all the time.
_ROOM = 1.1
_AXIS_PX, _AXIS_HEIGHT_PX, _RIGHT_MARGIN_PX, _TOP_MARGIN_PX = 34, 22, 14, 2
_VALUE_TICKS = ((-1.0, "−1"), (0.0, "0"), (1.0, "1"))
_VALUE_REACH = 1.05
_TICK_STEPS_S = (15.0, 30.0, *(60.0 * m for m in (1, 2, 5, 10, 20, 30)), *(3600.0 * h for h in (1, 2, 4, 8, 24, 72)))
_MOST_TICKS = 5
_LINE_PX, _DOT_PX, _MARK_PX = 2.0, 4.0, 2.0
# The least mean distance of two values to draw lines between them, in widths of a line.
_LEAST_LINE = 1.0
# The share of the time in view that music has to spend in a quadrant for that to be shown.
_LEAST_STAY = 1 / 60
_CHANGE_OPACITY = 0.6
# One step of a mouse's wheel, in Qt's eighths of a degree.
_WHEEL_STEP = 120
# The time constant of the curves' motion: they get the time ten times a second. Beyond the second they jump.
_EASE_S, _LEAP_S = 0.2, 2.0


class Timeline(QtWidgets.QWidget):
    """One of the two values: its name, the latest value, and its curve over the time in view.

    Held values have the ghost's colour. Thin lines show changes of quadrant, if the music stayed there for at least a
    sixtieth of the time in view; thicker ones, with a number and a text at the bottom, marked moments.

    colour: of the name and the curve. zoomed: by how many steps the mouse's wheel was turned, positive to zoom in.
    """

    zoomed = QtCore.pyqtSignal(int)

    def __init__(self, name: Name, colour: str, theme: Theme) -> None:
        super().__init__()
        self._name, self._colour, self._theme = name, colour, theme
        self._span_s: float | None = _SPAN_S
        self._history: History | None = None
        self._first_s: float | None = None
        self._now_s = self._goal_s = 0.0
        self._turned = 0
        self._value = Label("–", theme.large_pt, theme.ghost, bold=True)
        self._shown_s = _SPAN_S
        values = (-_VALUE_REACH, _VALUE_REACH)
        self._plot = still_plot(theme, _in_view(_SPAN_S), values, time_ticks(_SPAN_S), _VALUE_TICKS)
        item = self._plot.getPlotItem()
        margin = theme.px(_RIGHT_MARGIN_PX)
        item.setContentsMargins(0, theme.px(_TOP_MARGIN_PX), margin, 0)
        item.getAxis("left").setWidth(theme.px(_AXIS_PX))
        item.getAxis("bottom").setHeight(theme.px(_AXIS_HEIGHT_PX))
        self._curve = CurveItem(colour, theme)
        self._changes = LinesItem(theme, 1.0, _CHANGE_OPACITY, at_top=True)
        self._marks = LinesItem(theme, _MARK_PX, 1.0, at_top=False)
        self._timed = (self._changes, self._marks, self._curve)
        for each in (pg.InfiniteLine(0.0, angle=0, pen=pg.mkPen(theme.grid)), *self._timed):
            item.addItem(each)
        words = QtWidgets.QHBoxLayout()
        words.setContentsMargins(0, 0, margin, 0)
        words.addWidget(Label(name, theme.medium_pt, colour), 1, QtCore.Qt.AlignmentFlag.AlignBottom)
        words.addWidget(self._value)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(words)
        layout.addWidget(self._plot, 1)

    def show_history(self, history: History) -> None:
        """Shows the curve, the changes of quadrant and the marks."""
        self._history = history
        self._first_s = history.first_s
        self._fit()
        since_s = -math.inf if self._span_s is None else self._goal_s - self._shown_s
        curve = history.curve(self._name, since_s)
        self._curve.set_values(curve.time_s, curve.values, curve.held)
        self._changes.set_lines(
            [
                Line(each.time_s, QUADRANT_WORDS[QUADRANTS[each.quadrant]][0], self._theme.quadrants[each.quadrant - 1])
                for each in lasting(history.changes, _LEAST_STAY * self._shown_s)
            ]
        )
        self._marks.set_lines(
            [Line(mark.time_s, f"{mark.number} {mark.text}".strip(), self._theme.text) for mark in history.marks]
        )
        newest = history.newest
        self._value.show_text("–" if newest is None else signed(float(curve.values[-1])))

    def show_time(self, now_s: float) -> None:
        """Sets the stream time at the right end; `advance` moves there. A large step is made at once."""
        self._goal_s = now_s
        if abs(now_s - self._now_s) > _LEAP_S:
            self._move_to(now_s)

    def advance(self, elapsed_s: float) -> None:
        """Moves the curve towards the present for this much time."""
        if self._now_s != self._goal_s:
            share = 1.0 - math.exp(-max(elapsed_s, 0.0) / _EASE_S)
            self._move_to(self._now_s + share * (self._goal_s - self._now_s))

    def show_span(self, span_s: float | None) -> None:
        """Sets the time in view; None: everything so far, and at least a minute."""
        if span_s != self._span_s:
            self._span_s = span_s
            self._fit()
            if self._history is not None:
                self.show_history(self._history)

    def show_ghost(self, ghost: bool) -> None:
        """Whether the latest value follows the music or is only the last one known."""
        self._value.show_colour(self._theme.ghost if ghost else self._colour)
        self._curve.set_ghost(ghost)

    def wheelEvent(self, event: QtGui.QWheelEvent | None) -> None:  # noqa: N802 - Qt's name
        if event is None:
            return
        # Touch pads report parts of a step.
        self._turned += event.angleDelta().y()
        steps = int(self._turned / _WHEEL_STEP)
        self._turned -= steps * _WHEEL_STEP
        if steps:
            self.zoomed.emit(steps)
        event.accept()

    def _move_to(self, now_s: float) -> None:
        self._now_s = now_s
        self._fit()
        for item in self._timed:
            item.set_now(now_s)

    def _fit(self) -> None:
        """Adjusts the axis to the span; for "everything", to the time so far."""
        shown_s = self._span_s
        if shown_s is None:
            needed_s = 0.0 if self._first_s is None else self._goal_s - self._first_s
            fits = needed_s <= self._shown_s <= max(_ROOM**2 * needed_s, _SPAN_S)
            shown_s = self._shown_s if fits else max(_ROOM * needed_s, _SPAN_S)
        if shown_s != self._shown_s:
            self._shown_s = shown_s
            item = self._plot.getPlotItem()
            item.getViewBox().setRange(xRange=_in_view(shown_s), padding=0)
            item.getAxis("bottom").setTicks([list(time_ticks(shown_s))])
            for timed in self._timed:
                timed.set_span(shown_s)


class _TimedItem(PaintedItem):
    """Something at stream times, over a plot's width, with now at the right. Redrawn only after it moved by a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = self._drawn_s = 0.0
        self._px_per_s = 0.0
        self.set_span(_SPAN_S)

    def set_now(self, now_s: float) -> None:
        self._now_s = now_s
        if abs(now_s - self._drawn_s) * self._px_per_s >= 1.0:
            self.update()

    def set_span(self, span_s: float) -> None:
        self.prepareGeometryChange()
        left, right = _in_view(span_s)
        self._bounds = QtCore.QRectF(left, -_VALUE_REACH, right - left, 2.0 * _VALUE_REACH)
        self.update()

    def _to_px(self, painter: QtGui.QPainter) -> QtGui.QTransform:
        """The transform from the plot to pixels. From now on the painter draws in pixels, in which pens have widths."""
        transform = painter.worldTransform()
        device = painter.device()
        self._px_per_s = abs(transform.m11()) * (1.0 if device is None else device.devicePixelRatioF())
        self._drawn_s = self._now_s
        painter.setClipRect(self._bounds)
        painter.resetTransform()
        return transform


class CurveItem(_TimedItem):
    """A value's line, and a dot at its end."""

    def __init__(self, colour: str, theme: Theme) -> None:
        super().__init__()
        self._time_s = self._values = np.zeros(0)
        self._held = np.zeros(0, dtype=bool)
        self._pens = [solid_pen(QtGui.QColor(each), _LINE_PX * theme.scale) for each in (colour, theme.ghost)]
        self._dot_px = _DOT_PX * theme.scale
        self._is_ghost = False
        # The shapes for a plot with this many pixels per second and per 1, relative to the newest value's time.
        self._lines: list[tuple[bool, QtGui.QPolygonF]] = []
        self._columns: list[tuple[bool, list[QtCore.QRectF]]] = []
        self._made_for: tuple[float, float] | None = None

    def set_values(self, time_s: Values, values: Values, held: Flags) -> None:
        """Each of shape (n,), oldest first."""
        self._time_s, self._values, self._held = time_s, values, held
        self._made_for = None
        self.update()

    def set_ghost(self, ghost: bool) -> None:
        """Whether the dot has the ghost's colour."""
        if ghost != self._is_ghost:
            self._is_ghost = ghost
            self.update()

    def _draw(self, painter: QtGui.QPainter) -> None:
        if not len(self._time_s):
            return
        to_px = self._to_px(painter)
        if self._made_for != (to_px.m11(), to_px.m22()):
            self._made_for = (to_px.m11(), to_px.m22())
            self._make(*self._made_for)
        painter.translate(to_px.dx() - to_px.m11() * (self._now_s - float(self._time_s[-1])), to_px.dy())
        painter.setPen(QtCore.Qt.PenStyle.NoPen)
        for is_held, columns in self._columns:
            painter.setBrush(self._pens[is_held].color())
            if columns:
                painter.drawRects(*columns)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.setBrush(self._pens[self._is_ghost or bool(self._held[-1])].color())
        painter.drawEllipse(QtCore.QPointF(0.0, to_px.m22() * float(self._values[-1])), self._dot_px, self._dot_px)
        painter.setBrush(QtCore.Qt.BrushStyle.NoBrush)
        for is_held, line in self._lines:
            painter.setPen(self._pens[is_held])
            painter.drawPolyline(line)

    def _make(self, px_per_s: float, px_per_one: float) -> None:
        """Makes lines if they are apart, else columns: Qt draws many overlapping wide lines very slowly."""
        # Relative to the end, since the times of a long set are large.
        xs, ys = px_per_s * (self._time_s - self._time_s[-1]), px_per_one * self._values
        width = self._pens[0].widthF()
        self._lines, self._columns = [], []
        if len(xs) * _LEAST_LINE * width <= -xs[0]:
            # Each value is joined to the one before, in the ghost's colour if it repeats that one.
            repeats = self._held[1:]
            ends = [0, *(np.flatnonzero(np.diff(repeats)) + 1).tolist(), len(repeats)]
            for start, end in itertools.pairwise(ends):
                self._lines.append((bool(repeats[start]), _polyline(xs[start : end + 1], ys[start : end + 1])))
            return
        # Their edges are fixed in stream time, so that the columns do not flicker as they move. A value at each edge
        # joins the columns on both sides.
        width_s = width / px_per_s
        edges = np.arange(math.floor(self._time_s[0] / width_s) + 1, math.floor(self._time_s[-1] / width_s) + 1)
        at_edges = np.interp(edges * width_s, self._time_s, ys)
        held_at_edges = self._held[np.searchsorted(self._time_s, edges * width_s).clip(max=len(ys) - 1)]
        numbers = np.concatenate([np.floor(self._time_s / width_s), edges - 1, edges])
        order = np.argsort(numbers, kind="stable")
        starts = np.flatnonzero(np.diff(numbers[order], prepend=-math.inf))
        all_ys = np.concatenate([ys, at_edges, at_edges])[order]
        tops, bottoms = np.minimum.reduceat(all_ys, starts), np.maximum.reduceat(all_ys, starts)
        held = np.logical_and.reduceat(np.concatenate([self._held, held_at_edges, held_at_edges])[order], starts)
        lefts = width * numbers[order][starts] - px_per_s * self._time_s[-1]
        for is_held in (False, True):
            chosen = held == is_held
            places = zip(lefts[chosen].tolist(), tops[chosen].tolist(), bottoms[chosen].tolist(), strict=True)
            rects = [QtCore.QRectF(left, top - width / 2, width, bottom - top + width) for left, top, bottom in places]
            self._columns.append((is_held, rects))


@dataclass(frozen=True, slots=True)
class Line:
    """An upright line at a stream time, and a text beside it."""

    time_s: float
    text: str
    colour: str


class LinesItem(_TimedItem):
    """Upright lines, each with its text if there is room. A line too close to the next one is left out.

    at_top: where the texts are, else at the bottom. opacity: of the lines.
    """

    def __init__(self, theme: Theme, width_px: float, opacity: float, *, at_top: bool) -> None:
        super().__init__()
        self._theme, self._width, self._opacity, self._at_top = theme, theme.px(width_px), opacity, at_top
        self._lines: Sequence[Line] = ()

    def set_lines(self, lines: Sequence[Line]) -> None:
        """Oldest first; those after now are not drawn."""
        if lines != self._lines:
            self._lines = lines
            self.update()

    def _draw(self, painter: QtGui.QPainter) -> None:
        to_px = self._to_px(painter)
        area = to_px.mapRect(self._bounds)
        painter.setFont(font(self._theme.small_pt))
        metrics = painter.fontMetrics()
        gap = self._theme.px(4.0)
        baseline = area.top() + metrics.ascent() if self._at_top else area.bottom() - metrics.descent()
        free_to, last_x = area.right(), math.inf
        for line in reversed(self._lines):
            x = round(to_px.m11() * (line.time_s - self._now_s) + to_px.dx())
            if not self._bounds.left() < line.time_s - self._now_s <= 0.0 or last_x - x < self._width:
                continue
            painter.fillRect(
                QtCore.QRectF(x, area.top(), self._width, area.height()), faded(line.colour, self._opacity)
            )
            if x + 2 * gap + metrics.horizontalAdvance(line.text) <= free_to:
                painter.setPen(QtGui.QColor(line.colour))
                painter.drawText(QtCore.QPointF(x + gap, baseline), line.text)
            free_to = last_x = x


def _polyline(xs: Values, ys: Values) -> QtGui.QPolygonF:
    return QtGui.QPolygonF([QtCore.QPointF(x, y) for x, y in zip(xs.tolist(), ys.tolist(), strict=True)])


def _in_view(span_s: float) -> tuple[float, float]:
    """The range of a plot in seconds from now, with room for the dot at the right."""
    return -span_s, 0.015 * span_s


def time_ticks(span_s: float) -> Ticks:
    """Ticks on an axis from -span_s, in seconds, to 0, which is now: "now" and at most five more, at round times."""
    step_s = next((step for step in _TICK_STEPS_S if span_s / step <= _MOST_TICKS), span_s / _MOST_TICKS)
    ticks = [(-step_s * i, _ago(step_s * i, step_s)) for i in range(1, math.floor(span_s / step_s + 1e-9) + 1)]
    return [(0.0, "now"), *ticks]


def _ago(time_s: float, step_s: float) -> str:
    unit, name = (1.0, "s") if step_s < 60.0 else (60.0, "min") if step_s < 3600.0 else (3600.0, "h")
    return f"−{time_s / unit:g} {name}"
