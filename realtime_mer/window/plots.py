"""Parts that the window's plots have in common."""

from __future__ import annotations

from collections.abc import Sequence

from realtime_mer.window.labels import font
from realtime_mer.window.qt import QtCore, QtGui, QtWidgets, pg
from realtime_mer.window.theme import Theme

_LABEL_REACH_PX = 30
_TICK_PX = 5

Ticks = Sequence[tuple[float, str]]


class PaintedItem(QtWidgets.QGraphicsItem):
    """An item of a plot that draws itself within `_bounds`, in the plot's coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self._bounds = QtCore.QRectF()

    def boundingRect(self) -> QtCore.QRectF:  # noqa: N802 - Qt's name
        return self._bounds

    def paint(
        self,
        painter: QtGui.QPainter | None,
        _option: QtWidgets.QStyleOptionGraphicsItem | None,
        _widget: QtWidgets.QWidget | None = None,
    ) -> None:
        if painter is not None:
            self._draw(painter)

    def _draw(self, painter: QtGui.QPainter) -> None:
        raise NotImplementedError


def still_plot(
    theme: Theme, x_range: tuple[float, float], y_range: tuple[float, float], x_ticks: Ticks, y_ticks: Ticks
) -> pg.PlotWidget:
    """A plot of a fixed range with these ticks, which ignores the mouse."""
    plot = pg.PlotWidget(background=theme.background, enableMenu=False)
    plot.setAttribute(QtCore.Qt.WidgetAttribute.WA_TransparentForMouseEvents)
    item = plot.getPlotItem()
    item.hideButtons()
    box = item.getViewBox()
    box.setBackgroundColor(theme.panel)
    box.setRange(xRange=x_range, yRange=y_range, padding=0, disableAutoRange=True)
    for side, ticks in (("bottom", x_ticks), ("left", y_ticks)):
        axis = item.getAxis(side)
        axis.setPen(pg.mkPen(theme.grid))
        axis.setTextPen(pg.mkPen(theme.faint))
        axis.setStyle(
            tickFont=font(theme.small_pt),
            tickLength=-theme.px(_TICK_PX),
            # Labels at the ends of an axis reach beyond it, and would be left out.
            hideOverlappingLabels=theme.px(_LABEL_REACH_PX),
        )
        axis.setTicks([list(ticks)])
    return plot


def solid_pen(colour: QtGui.QColor, width_px: float) -> QtGui.QPen:
    """A pen with flat ends and round corners, its width in the painter's pixels."""
    pen = QtGui.QPen(colour, width_px)
    pen.setCapStyle(QtCore.Qt.PenCapStyle.FlatCap)
    pen.setJoinStyle(QtCore.Qt.PenJoinStyle.RoundJoin)
    return pen


def faded(colour: str, opacity: float) -> QtGui.QColor:
    """The colour with this opacity, 0 to 1."""
    result = QtGui.QColor(colour)
    result.setAlphaF(opacity)
    return result
