"""Which of the last frames a prediction was made from."""

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
    "bar, the more that moment counts. All equally high: it listens to all of it alike."
)


class AttentionStrip(QtWidgets.QWidget):
    """A bar for each frame of the model's memory, from the oldest to the newest: how much it counts in the newest
    prediction. At the left a caption, below the bars how long ago. Of a fixed height."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._bars = WeightBars(theme)
        margin = theme.px(_RIGHT_MARGIN_PX)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, margin, 0)
        layout.setSpacing(margin)
        caption = Label("listens back to", theme.medium_pt, theme.text)
        layout.addWidget(caption, 0, QtCore.Qt.AlignmentFlag.AlignTop)
        layout.addWidget(self._bars, 1)
        self.setToolTip(_TOOL_TIP)

    def show_weights(self, weights: Sequence[float] | None) -> None:
        """Of the newest prediction (Update.attention), oldest frame first; they add up to 1. Fewer than N_FRAMES at the
        start of a run; None where the model has none to tell, or nothing has been predicted."""
        self._bars.show_weights(weights)


class WeightBars(QtWidgets.QWidget):
    """The bars, over a scale of time."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._weights: tuple[float, ...] = ()
        self.setFont(font(theme.small_pt))
        self.setFixedHeight(theme.px(_HEIGHT_PX) + self.fontMetrics().height())

    def show_weights(self, weights: Sequence[float] | None) -> None:
        """As AttentionStrip takes them."""
        shown = tuple(weights or ())[-N_FRAMES:]
        if shown != self._weights:
            self._weights = shown
            self.update()

    def paintEvent(self, _event: QtGui.QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        theme = self._theme
        painter = QtGui.QPainter(self)
        height, gap, foot = theme.px(_HEIGHT_PX), theme.px(_GAP_PX), theme.px(_FOOT_PX)
        # Where all frames count alike, the bars are of half the height.
        full = max((*self._weights, 2.0 / N_FRAMES))
        weights = (None,) * (N_FRAMES - len(self._weights)) + self._weights
        for i, weight in enumerate(weights):
            left, right = (round(j * (self.width() + gap) / N_FRAMES) for j in (i, i + 1))
            place = QtCore.QRect(left, 0, right - left - gap, height)
            painter.fillRect(place, QtGui.QColor(theme.panel))
            bar = foot if weight is None else max(round(height * weight / full), foot)
            place.setTop(height - bar)
            painter.fillRect(place, QtGui.QColor(theme.grid if weight is None else theme.text))
        painter.setPen(QtGui.QColor(theme.faint))
        metrics = painter.fontMetrics()
        below = height + metrics.ascent()
        painter.drawText(0, below, f"{N_FRAMES * HOP_S:g} s ago")
        painter.drawText(self.width() - metrics.horizontalAdvance("now"), below, "now")
        painter.end()
