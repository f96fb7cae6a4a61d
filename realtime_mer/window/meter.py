"""The input level: its state, its figures, and a bar."""

from __future__ import annotations

from realtime_mer.updates import InputLevel
from realtime_mer.window.captions import level_text, level_tone
from realtime_mer.window.labels import CutLabel, Label, font
from realtime_mer.window.qt import QtCore, QtGui, QtWidgets
from realtime_mer.window.theme import Theme

FLOOR_DB = -72.0
# A peak is held, then falls as fast as on a broadcast peak meter (IEC 60268-10, type I).
HOLD_S = 1.5
FALL_DB_PER_S = 20.0 / 1.7

_MARKS_DB = (-60, -48, -36, -24, -12, 0)
_BAR_PX, _PEAK_PX, _MARK_PX = 18, 3, 1
_GAP_PX, _RIGHT_MARGIN_PX = 2, 14


class LevelMeter(QtWidgets.QWidget):
    """The level's state and figures above its bar."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._word = Label("", theme.medium_pt, theme.text, bold=True)
        self._figures = CutLabel(theme.small_pt, theme.faint)
        self._figures.setAlignment(QtCore.Qt.AlignmentFlag.AlignRight)
        self._bar = LevelBar(theme)
        margin = theme.px(_RIGHT_MARGIN_PX)
        words = QtWidgets.QHBoxLayout()
        words.setSpacing(margin)
        words.addWidget(Label("input level", theme.medium_pt, theme.text))
        words.addWidget(self._word)
        words.addWidget(self._figures, 1)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, margin, 0)
        layout.setSpacing(theme.px(_GAP_PX))
        layout.addLayout(words)
        layout.addWidget(self._bar)

    def show_level(self, level: InputLevel | None, gain_db: float) -> None:
        """level: None if there is no sound. gain_db: of the gain stage."""
        colour = self._theme.of(level_tone(level))
        self._word.show_text("" if level is None else level.state.value)
        self._word.show_colour(colour)
        self._figures.show_text(level_text(level, gain_db))
        self._bar.show_level(level, colour)

    def advance(self, elapsed_s: float) -> None:
        """Lets the peak fall for this much time."""
        self._bar.advance(elapsed_s)


class LevelBar(QtWidgets.QWidget):
    """A bar that is filled to the RMS and has a line at the held peak, over a scale in dBFS."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._shown: tuple[InputLevel | None, str] = (None, theme.text)
        self._peak_db, self._peak_age_s = FLOOR_DB, 0.0
        self.setFont(font(theme.small_pt))
        self.setFixedHeight(theme.px(_BAR_PX) + self.fontMetrics().height())

    def show_level(self, level: InputLevel | None, colour: str) -> None:
        if level is None:
            self._peak_db = FLOOR_DB
        elif level.peak_db >= self._peak_db:
            self._peak_db, self._peak_age_s = level.peak_db, 0.0
        if (level, colour) != self._shown:
            self._shown = (level, colour)
            self.update()

    def advance(self, elapsed_s: float) -> None:
        level = self._shown[0]
        if level is None:
            return
        falling_s = min(elapsed_s, self._peak_age_s + elapsed_s - HOLD_S)
        self._peak_age_s += elapsed_s
        if falling_s > 0.0 and self._peak_db > level.peak_db:
            self._peak_db = max(self._peak_db - FALL_DB_PER_S * falling_s, level.peak_db)
            self.update()

    def paintEvent(self, _event: QtGui.QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        theme = self._theme
        level, colour = self._shown
        height, width = theme.px(_BAR_PX), theme.px(_MARK_PX)
        painter = QtGui.QPainter(self)
        metrics = painter.fontMetrics()
        painter.fillRect(0, 0, self.width(), height, QtGui.QColor(theme.panel))
        if level is not None:
            painter.fillRect(0, 0, self._x(level.rms_db), height, QtGui.QColor(colour))
        painter.setPen(QtGui.QColor(theme.faint))
        for mark_db in _MARKS_DB:
            x = self._x(mark_db)
            painter.fillRect(x - width, 0, width, height, QtGui.QColor(theme.grid))
            label = f"−{-mark_db}" if mark_db else "0 dBFS"
            length = metrics.horizontalAdvance(label)
            painter.drawText(min(x - length // 2, self.width() - length), height + metrics.ascent(), label)
        if level is not None:
            width = theme.px(_PEAK_PX)
            painter.fillRect(max(self._x(self._peak_db) - width, 0), 0, width, height, QtGui.QColor(theme.text))
        painter.end()

    def _x(self, level_db: float) -> int:
        share = 1.0 - level_db / FLOOR_DB
        return round(min(max(share, 0.0), 1.0) * self.width())
