"""The input's level: its state in a word, its figures, and a bar."""

from __future__ import annotations

from realtime_mer.monitor.captions import level_text, level_tone
from realtime_mer.monitor.labels import CutLabel, Label, font
from realtime_mer.monitor.qt import QtCore, QtGui, QtWidgets
from realtime_mer.monitor.theme import Theme
from realtime_mer.status import InputLevel

_FLOOR_DB = -72.0
_MARKS_DB = (-60, -48, -36, -24, -12, 0)
_BAR_PX, _PEAK_PX = 18, 3
_RIGHT_MARGIN_PX = 14


class LevelMeter(QtWidgets.QWidget):
    """The level's state, its figures and its bar."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._word = Label("", theme.medium_pt, theme.text, bold=True)
        self._figures = CutLabel(theme.small_pt, theme.faint)
        self._figures.setAlignment(QtCore.Qt.AlignmentFlag.AlignRight)
        self._bar = LevelBar(theme)
        words = QtWidgets.QHBoxLayout()
        words.setSpacing(_RIGHT_MARGIN_PX)
        words.addWidget(Label("input level", theme.medium_pt, theme.text))
        words.addWidget(self._word)
        words.addWidget(self._figures, 1)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, _RIGHT_MARGIN_PX, 0)
        layout.setSpacing(2)
        layout.addLayout(words)
        layout.addWidget(self._bar)

    def show_level(self, level: InputLevel | None, gain_db: float) -> None:
        """level: None where there is no sound to speak of. gain_db: of the level stage."""
        colour = self._theme.of(level_tone(level))
        self._word.show_text("" if level is None else level.state.value)
        self._word.show_colour(colour)
        self._figures.show_text(level_text(level, gain_db))
        self._bar.show_level(level, colour)


class LevelBar(QtWidgets.QWidget):
    """A bar that is filled to the RMS and has a line at the peak, over a scale in dBFS."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._shown: tuple[InputLevel | None, str] = (None, theme.text)
        self.setFont(font(theme.small_pt))
        self.setFixedHeight(_BAR_PX + self.fontMetrics().lineSpacing())

    def show_level(self, level: InputLevel | None, colour: str) -> None:
        if (level, colour) != self._shown:
            self._shown = (level, colour)
            self.update()

    def paintEvent(self, _event: QtGui.QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        level, colour = self._shown
        painter = QtGui.QPainter(self)
        painter.fillRect(0, 0, self.width(), _BAR_PX, QtGui.QColor(self._theme.panel))
        if level is not None:
            painter.fillRect(0, 0, self._x(level.rms_db), _BAR_PX, QtGui.QColor(colour))
            peak_x = max(self._x(level.peak_db) - _PEAK_PX, 0)
            painter.fillRect(peak_x, 0, _PEAK_PX, _BAR_PX, QtGui.QColor(self._theme.text))
        for mark_db in _MARKS_DB:
            x = self._x(mark_db)
            painter.fillRect(x - 1, 0, 1, _BAR_PX, QtGui.QColor(self._theme.grid))
            label = f"−{-mark_db}" if mark_db else "0 dBFS"
            width = painter.fontMetrics().horizontalAdvance(label)
            painter.setPen(QtGui.QColor(self._theme.faint))
            painter.drawText(min(x - width // 2, self.width() - width), _BAR_PX + painter.fontMetrics().ascent(), label)
        painter.end()

    def _x(self, level_db: float) -> int:
        share = 1.0 - level_db / _FLOOR_DB
        return round(min(max(share, 0.0), 1.0) * self.width())
