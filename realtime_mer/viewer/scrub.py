"""The bar below the view: the whole take and the present moment."""

from __future__ import annotations

from collections.abc import Callable

from realtime_mer.moods import QUADRANT_WORDS, QUADRANTS
from realtime_mer.viewer.moments import Moments
from realtime_mer.window.captions import duration
from realtime_mer.window.labels import Label, font
from realtime_mer.window.plots import faded
from realtime_mer.window.qt import QtCore, QtGui, QtWidgets
from realtime_mer.window.theme import Theme

_BAR_PX, _MARK_PX, _HEAD_PX, _GAP_PX = 26, 2, 3, 12
_SILENCE_OPACITY, _MUSIC_OPACITY = 0.35, 0.7
_LEGEND = "Space play   ← → one prediction   Shift ← → 10 s   Home End"


class ScrubBar(QtWidgets.QWidget):
    """A bar with the whole take; the mouse moves the moment. Below it the moment, the keys, and the end.

    Coloured by quadrant; silence is grey and thinner. Upright lines show interruptions of the sound over the whole
    height, and marks with their numbers and texts above.
    sought: the moment that was clicked, in seconds of stream time.
    """

    sought = QtCore.pyqtSignal(float)

    def __init__(self, moments: Moments, theme: Theme) -> None:
        super().__init__()
        self._bar = _Bar(moments, theme, self.sought.emit)
        self._now = Label("", theme.medium_pt, theme.text, bold=True)
        gap = theme.px(_GAP_PX)
        below = QtWidgets.QHBoxLayout()
        below.addWidget(self._now)
        below.addWidget(Label(_LEGEND, theme.small_pt, theme.faint), 1, QtCore.Qt.AlignmentFlag.AlignHCenter)
        below.addWidget(Label(_clock(moments.take.end_s), theme.medium_pt, theme.faint))
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(gap, 0, gap, gap)
        layout.setSpacing(theme.px(_MARK_PX))
        layout.addWidget(self._bar)
        layout.addLayout(below)
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_StyledBackground)
        self.setStyleSheet(f"background-color: {theme.background}; color: {theme.text};")

    def show_moment(self, time_s: float, *, playing: bool) -> None:
        self._bar.show_moment(time_s)
        self._now.show_text(f"{'▶' if playing else '❚❚'} {_clock(time_s)}")

    def x_of(self, time_s: float) -> int:
        """A moment's place in Qt's pixels from the left end of the widget."""
        return self._bar.x() + self._bar.x_of(time_s)


class _Bar(QtWidgets.QWidget):
    """The bar itself. Its fixed parts are painted once for each size."""

    def __init__(self, moments: Moments, theme: Theme, seek: Callable[[float], object]) -> None:
        super().__init__()
        self._take, self._runs, self._theme, self._seek = moments.take, moments.runs(), theme, seek
        self._time_s = moments.take.start_s
        self._ground: QtGui.QPixmap | None = None
        self.setFont(font(theme.small_pt))
        self.setFixedHeight(theme.px(_BAR_PX) + self.fontMetrics().height())
        words = ", ".join(QUADRANT_WORDS[QUADRANTS[number]][0] for number in QUADRANTS)
        self.setToolTip(f"Colours: the quadrants ({words}); grey: silence. Click to go there.")

    def show_moment(self, time_s: float) -> None:
        before, self._time_s = self.x_of(self._time_s), time_s
        if self.x_of(time_s) != before:
            self.update()

    def x_of(self, time_s: float) -> int:
        share = (time_s - self._take.start_s) / self._take.length_s if self._take.length_s > 0.0 else 0.0
        return round(min(max(share, 0.0), 1.0) * (self.width() - 1))

    def paintEvent(self, _event: QtGui.QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        theme = self._theme
        painter = QtGui.QPainter(self)
        if self._ground is None:
            self._ground = self._painted()
        painter.drawPixmap(0, 0, self._ground)
        width = theme.px(_HEAD_PX)
        x = min(max(self.x_of(self._time_s) - width // 2, 0), self.width() - width)
        painter.fillRect(x - 1, 0, width + 2, self.height(), QtGui.QColor(theme.background))
        painter.fillRect(x, 0, width, self.height(), QtGui.QColor(theme.text))
        painter.end()

    def resizeEvent(self, _event: QtGui.QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        self._ground = None

    def mousePressEvent(self, event: QtGui.QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        if event is not None and event.button() == QtCore.Qt.MouseButton.LeftButton:
            self._go(event.x())

    def mouseMoveEvent(self, event: QtGui.QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        if event is not None and event.buttons() & QtCore.Qt.MouseButton.LeftButton:
            self._go(event.x())

    def _go(self, x: int) -> None:
        share = min(max(x / max(self.width() - 1, 1), 0.0), 1.0)
        self._seek(self._take.start_s + share * self._take.length_s)

    def _painted(self) -> QtGui.QPixmap:
        theme, take = self._theme, self._take
        ratio = self.devicePixelRatioF()
        ground = QtGui.QPixmap(self.size() * ratio)
        ground.setDevicePixelRatio(ratio)
        ground.fill(QtGui.QColor(theme.background))
        painter = QtGui.QPainter(ground)
        painter.setFont(self.font())
        top, height = painter.fontMetrics().height(), theme.px(_BAR_PX)
        painter.fillRect(0, top, self.width(), height, QtGui.QColor(theme.panel))
        for run in self._runs:
            left = self.x_of(run.start_s)
            width = max(self.x_of(run.end_s) - left, 1)
            if run.held or run.quadrant == 0:
                thin = height // 3
                painter.fillRect(left, top + thin, width, height - 2 * thin, faded(theme.ghost, _SILENCE_OPACITY))
            else:
                painter.fillRect(left, top, width, height, faded(theme.quadrants[run.quadrant - 1], _MUSIC_OPACITY))
        line = theme.px(_MARK_PX)
        for time_s in take.breaks:
            painter.fillRect(self.x_of(time_s) - line // 2, top, line, height, QtGui.QColor(theme.bad))
        painter.setPen(QtGui.QColor(theme.text))
        free_from = 0
        for mark in take.marks:
            x = self.x_of(mark.time_s)
            painter.fillRect(x - line // 2, top // 2, line, top // 2 + height // 2, QtGui.QColor(theme.text))
            text = f"{mark.number} {mark.text}".strip()
            length = painter.fontMetrics().horizontalAdvance(text)
            left = x + 2 * line
            if left + length > self.width():
                left = x - 2 * line - length
            # If they are close, only the first have their texts.
            if left >= free_from:
                painter.drawText(left, painter.fontMetrics().ascent(), text)
                free_from = left + length + 2 * line
        painter.end()
        return ground


def _clock(time_s: float) -> str:
    return f"{duration(time_s)}.{int(10.0 * time_s + 1e-6) % 10}"
