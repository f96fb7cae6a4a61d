"""How much each of the last frames counts in the newest prediction."""

from __future__ import annotations

from collections.abc import Sequence

from realtime_mer.features.engine import HOP_S
from realtime_mer.window.labels import Label, font
from realtime_mer.window.qt import QtCore, QtGui, QtWidgets
from realtime_mer.window.theme import Theme

# The model's memory.
N_FRAMES = 8

_HEIGHT_PX, _GAP_PX, _FOOT_PX, _RIGHT_MARGIN_PX = 22, 3, 2, 14
_TOOL_TIP = (
    "For every prediction the model looks back over the last few seconds and weighs each half second: the higher its "
    "bar, the more that moment counts. All equally high: all moments count the same."
)


class AttentionBars(QtWidgets.QWidget):
    """A bar for each frame of the model's memory, oldest first, over a scale of time. Of a fixed height."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._weights: tuple[float, ...] = ()
        self.setFont(font(theme.small_pt))
        self.setFixedHeight(theme.px(_HEIGHT_PX) + self.fontMetrics().height())

    def show_weights(self, weights: Sequence[float] | None) -> None:
        """The newest prediction's attention, oldest frame first; the sum is 1. Fewer than N_FRAMES at the start of a
        run; None if the model has no attention, or there is no prediction."""
        shown = tuple(weights or ())[-N_FRAMES:]
        if shown != self._weights:
            self._weights = shown
            self.update()

    def captioned(self) -> QtWidgets.QWidget:
        """A new widget with the bars and a caption to the left of them."""
        strip = QtWidgets.QWidget()
        margin = self._theme.px(_RIGHT_MARGIN_PX)
        layout = QtWidgets.QHBoxLayout(strip)
        layout.setContentsMargins(0, 0, margin, 0)
        layout.setSpacing(margin)
        caption = Label("listens back to", self._theme.medium_pt, self._theme.text)
        layout.addWidget(caption, 0, QtCore.Qt.AlignmentFlag.AlignTop)
        layout.addWidget(self, 1)
        strip.setToolTip(_TOOL_TIP)
        return strip

    def paintEvent(self, _event: QtGui.QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        theme = self._theme
        painter = QtGui.QPainter(self)
        height, gap, foot = theme.px(_HEIGHT_PX), theme.px(_GAP_PX), theme.px(_FOOT_PX)
        # If all frames count the same, the bars have half the height.
        full = max((*self._weights, 2.0 / N_FRAMES))
        for i, weight in enumerate((None,) * (N_FRAMES - len(self._weights)) + self._weights):
            left, right = (round(j * (self.width() + gap) / N_FRAMES) for j in (i, i + 1))
            place = QtCore.QRect(left, 0, right - left - gap, height)
            painter.fillRect(place, QtGui.QColor(theme.panel))
            place.setTop(height - (foot if weight is None else max(round(height * weight / full), foot)))
            painter.fillRect(place, QtGui.QColor(theme.grid if weight is None else theme.text))
        painter.setPen(QtGui.QColor(theme.faint))
        metrics = painter.fontMetrics()
        below = height + metrics.ascent()
        painter.drawText(0, below, f"{N_FRAMES * HOP_S:g} s ago")
        painter.drawText(self.width() - metrics.horizontalAdvance("now"), below, "now")
        painter.end()
