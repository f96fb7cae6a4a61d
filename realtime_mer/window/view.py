"""The contents of the window: everything for the operator, or the plane alone for the stage.

A view is made for one theme, sizes included. If that changes, the window makes a new view.
"""

from __future__ import annotations

from collections.abc import Sequence

from realtime_mer.osc.status import NetworkStatus
from realtime_mer.updates import SourceState, Status
from realtime_mer.window.attention import AttentionBars
from realtime_mer.window.captions import headline, network_fields, status_fields
from realtime_mer.window.history import History
from realtime_mer.window.labels import CutLabel, FieldGrid, Label
from realtime_mer.window.meter import LevelMeter
from realtime_mer.window.notices import Notice
from realtime_mer.window.overlays import KeyList, NoticeLines
from realtime_mer.window.plane import PlaneView
from realtime_mer.window.qt import QtCore, QtGui, QtWidgets
from realtime_mer.window.shortcuts import Key
from realtime_mer.window.theme import DARK, LIGHT, Theme, scaled
from realtime_mer.window.timelines import Timeline

# The themes' sizes are made for a window of this size.
SIZE_PX = (1280, 720)

_GAP_PX = 12
# Fields in a row.
_N_STATUS, _N_NETWORK = 8, 3
_THEMES = {"dark": DARK, "light": LIGHT}
# On a stage everything is larger, since it is seen from afar.
_STAGE_FACTOR = 1.5
# Sizes grow in steps, so that a change of one pixel does not rebuild everything.
_FACTOR_STEP = 0.0625
# That of a screen of 800 × 480.
_SMALLEST = 0.625


class View(QtWidgets.QWidget):
    """The parts that both modes have: the plane, and over it at times the list of keys and messages.

    keys: those that have an action. trail_s: how long the point's trail takes to fade.
    zoomed: by how many steps to zoom the timelines in, or out if negative.
    """

    zoomed = QtCore.pyqtSignal(int)

    def __init__(self, theme: Theme, keys: Sequence[Key], trail_s: float) -> None:
        super().__init__()
        self.theme = theme
        self.plane = PlaneView(theme, trail_s=trail_s)
        self._key_list, self._lines = KeyList(keys, theme), NoticeLines(theme)
        self._notices: tuple[Notice, ...] = ()
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_StyledBackground)
        self.setStyleSheet(f"background-color: {theme.background}; color: {theme.text};")

    def show_history(self, history: History) -> None:
        """To be called after new predictions."""
        self.plane.show_history(history)

    def show_status(self, status: Status, history: History, network: Sequence[NetworkStatus]) -> None:
        """To be called after a new status or new predictions."""
        self.plane.show_headline(headline(status, history.newest))

    def show_span(self, span_s: float | None) -> None:
        """How much of the past the timelines show, if there are any; None: everything."""

    def advance(self, elapsed_s: float) -> None:
        """To be called at every picture, with the time since the last one."""
        self.plane.advance(elapsed_s)

    @property
    def has_key_list(self) -> bool:
        return not self._key_list.isHidden()

    def toggle_key_list(self) -> None:
        self._key_list.setHidden(self.has_key_list)

    def show_notices(self, notices: tuple[Notice, ...]) -> None:
        if notices != self._notices:
            self._notices = notices
            self._lines.show_notices(notices, self.width())

    def resizeEvent(self, event: QtGui.QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        super().resizeEvent(event)
        self._lines.show_notices(self._notices, self.width())

    def _arrange(self, main: QtWidgets.QWidget, *below: QtWidgets.QWidget) -> None:
        """Puts these below one another, and the list of keys and the messages over the first."""
        gap = self.theme.px(_GAP_PX)
        grid = QtWidgets.QGridLayout(self)
        grid.setContentsMargins(gap, gap, gap, gap)
        grid.setSpacing(gap)
        grid.setRowStretch(0, 1)
        for row, widget in enumerate((main, *below)):
            grid.addWidget(widget, row, 0)
        grid.addWidget(self._key_list, 0, 0, QtCore.Qt.AlignmentFlag.AlignCenter)
        foot = QtCore.Qt.Alignment() | QtCore.Qt.AlignmentFlag.AlignHCenter | QtCore.Qt.AlignmentFlag.AlignBottom
        grid.addWidget(self._lines, 0, 0, foot)
        self._key_list.raise_()
        self._lines.raise_()


class StageView(View):
    """The plane alone."""

    def __init__(self, theme: Theme, keys: Sequence[Key], trail_s: float) -> None:
        super().__init__(theme, keys, trail_s)
        self._arrange(self.plane)


class OperatorView(View):
    """The plane; beside it the headline, the timelines, the attention and the level; below them the status line."""

    def __init__(self, theme: Theme, keys: Sequence[Key], trail_s: float) -> None:
        super().__init__(theme, keys, trail_s)
        self._word = Label("", theme.medium_pt, theme.text, bold=True)
        self._sentence = CutLabel(theme.medium_pt, theme.text, lines=2)
        self._timelines = (Timeline("valence", theme.valence, theme), Timeline("arousal", theme.arousal, theme))
        for timeline in self._timelines:
            timeline.zoomed.connect(self.zoomed)
        self._attention = AttentionBars(theme)
        self._meter = LevelMeter(theme)
        named = "   ".join(f"{key.labels[0]} {key.brief}" for key in keys if key.brief)
        self._keys = Label(named, theme.small_pt, theme.faint)
        self._status_line, self._network_line = FieldGrid(theme, _N_STATUS), FieldGrid(theme, _N_NETWORK)
        self._arrange(self._above(), self._status_line, self._network_line)

    def show_history(self, history: History) -> None:
        super().show_history(history)
        for timeline in self._timelines:
            timeline.show_history(history)

    def show_status(self, status: Status, history: History, network: Sequence[NetworkStatus]) -> None:
        super().show_status(status, history, network)
        newest = history.newest
        head = headline(status, newest)
        self._word.setVisible(bool(head.word))
        self._word.show_text(head.word.upper())
        self._word.show_colour(self.theme.of(head.tone))
        self._sentence.show_text(head.sentence)
        for timeline in self._timelines:
            timeline.show_ghost(head.ghost)
            timeline.show_time(status.time_s if newest is None else max(status.time_s, newest.time_s))
        self._attention.show_weights(None if newest is None or head.ghost else newest.prediction.attention)
        self._meter.show_level(status.level if status.state is SourceState.RUNNING else None, status.gain_db)
        self._status_line.show_fields(status_fields(status, newest))
        self._network_line.show_fields(network_fields(network))

    def show_span(self, span_s: float | None) -> None:
        for timeline in self._timelines:
            timeline.show_span(span_s)

    def advance(self, elapsed_s: float) -> None:
        super().advance(elapsed_s)
        for part in (*self._timelines, self._meter):
            part.advance(elapsed_s)

    def _above(self) -> QtWidgets.QWidget:
        """The plane and the parts beside it."""
        head = QtWidgets.QHBoxLayout()
        head.addWidget(self._word, 0, QtCore.Qt.AlignmentFlag.AlignTop)
        head.addWidget(self._sentence, 1)
        beside = QtWidgets.QVBoxLayout()
        beside.addLayout(head)
        for timeline in self._timelines:
            beside.addWidget(timeline, 1)
        beside.addWidget(self._attention.captioned())
        beside.addWidget(self._meter)
        beside.addWidget(self._keys, 0, QtCore.Qt.AlignmentFlag.AlignRight)
        both = QtWidgets.QWidget()
        layout = QtWidgets.QHBoxLayout(both)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plane, 11)
        layout.addLayout(beside, 9)
        for each in (head, beside, layout):
            each.setSpacing(self.theme.px(_GAP_PX))
        return both


# The view for each of config.MODES.
VIEWS: dict[str, type[View]] = {"operator": OperatorView, "stage": StageView}


def theme_for(name: str, mode: str, size: QtCore.QSize, *, least: float = _SMALLEST) -> Theme:
    """The theme scaled for a window of this size.

    name, mode: of config.THEMES and config.MODES. size: in Qt's pixels. least: the smallest scale, where 1 is that of
    SIZE_PX; by default still readable.
    """
    factor = min(size.width() / SIZE_PX[0], size.height() / SIZE_PX[1])
    if mode == "stage":
        factor *= _STAGE_FACTOR
    n_steps = max(int(factor / _FACTOR_STEP), round(least / _FACTOR_STEP))
    return scaled(_THEMES[name], n_steps * _FACTOR_STEP)
