"""Valence and arousal over the last minute."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from realtime_mer.monitor.captions import signed
from realtime_mer.monitor.labels import Label
from realtime_mer.monitor.plots import still_plot
from realtime_mer.monitor.qt import QtCore, QtWidgets, pg
from realtime_mer.monitor.theme import Theme

SPAN_S = 60.0

_AXIS_WIDTH_PX = 34
_RIGHT_MARGIN_PX = 14
_TIME_TICKS = ((-60.0, "−60 s"), (-45.0, "−45 s"), (-30.0, "−30 s"), (-15.0, "−15 s"), (0.0, "now"))
_VALUE_TICKS = ((-1.0, "−1"), (0.0, "0"), (1.0, "1"))


class Timeline(QtWidgets.QWidget):
    """One of the two values: its name, the latest value, and its curve over the last `SPAN_S` of stream time.

    Stretches in which the value was held are drawn in the ghost's colour. The curves lie at their stream times and are
    moved as a whole as time goes on, so that only a new prediction makes new ones.
    """

    def __init__(self, name: str, colour: str, theme: Theme) -> None:
        super().__init__()
        self._colour, self._theme = colour, theme
        caption = Label(name, theme.medium_pt, colour)
        self._value = Label("–", theme.large_pt, theme.ghost, bold=True)
        self._plot = still_plot(theme, (-SPAN_S, 0.0), (-1.05, 1.05), _TIME_TICKS, _VALUE_TICKS)
        item = self._plot.getPlotItem()
        item.setContentsMargins(0, 2, _RIGHT_MARGIN_PX, 0)
        item.getAxis("left").setWidth(_AXIS_WIDTH_PX)
        item.addItem(pg.InfiniteLine(0.0, angle=0, pen=pg.mkPen(theme.grid)))
        # Qt draws wider pens many times more slowly.
        self._curve = pg.PlotCurveItem(pen=pg.mkPen(colour, width=1), antialias=True)
        self._held_curve = pg.PlotCurveItem(pen=pg.mkPen(theme.ghost, width=1), antialias=True)
        item.addItem(self._held_curve)
        item.addItem(self._curve)
        words = QtWidgets.QHBoxLayout()
        words.setContentsMargins(0, 0, _RIGHT_MARGIN_PX, 0)
        words.addWidget(caption, 1, QtCore.Qt.AlignmentFlag.AlignBottom)
        words.addWidget(self._value)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(words)
        layout.addWidget(self._plot, 1)

    def show_values(
        self, time_s: npt.NDArray[np.float64], values: npt.NDArray[np.float64], held: npt.NDArray[np.bool_]
    ) -> None:
        """Draws the curve anew. All of shape (n,), oldest first, with n at least 1."""
        # A value is joined to the one before it: in the ghost's colour where it only repeats that one.
        repeats = np.append(held[1:], False)
        self._curve.setData(time_s, values, connect=~repeats)
        self._held_curve.setData(time_s, values, connect=repeats)
        self._value.show_text(signed(float(values[-1])))

    def show_time(self, now_s: float) -> None:
        """Moves the curves to where they are at this stream time."""
        for curve in (self._curve, self._held_curve):
            curve.setPos(-now_s, 0.0)

    def show_ghost(self, ghost: bool) -> None:
        """Whether the latest value follows the music or is only the last one known."""
        self._value.show_colour(self._theme.ghost if ghost else self._colour)
