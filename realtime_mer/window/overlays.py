"""Panels over the window: the list of keys, and messages."""

from __future__ import annotations

from collections.abc import Sequence

from realtime_mer.window.labels import Label
from realtime_mer.window.notices import Notice
from realtime_mer.window.qt import QtCore, QtWidgets
from realtime_mer.window.shortcuts import Key
from realtime_mer.window.theme import Theme

_MARGIN_PX, _GAP_PX, _FRAME_PX = 12, 6, 1
_MOST_LINES = 4
# Of the available width.
_WIDEST = 0.9


class Card(QtWidgets.QFrame):
    """A framed panel; hidden at first."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.setObjectName("card")
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        frame = f"border: {theme.px(_FRAME_PX)}px solid {theme.faint};"
        self.setStyleSheet(f"* {{background-color: {theme.panel};}} #card {{{frame}}}")
        self.hide()


class KeyList(Card):
    """The keys and what they do."""

    def __init__(self, keys: Sequence[Key], theme: Theme) -> None:
        super().__init__(theme)
        grid = QtWidgets.QGridLayout(self)
        margin = theme.px(2 * _MARGIN_PX)
        grid.setContentsMargins(margin, margin, margin, margin)
        grid.setHorizontalSpacing(margin)
        grid.setVerticalSpacing(theme.px(_GAP_PX))
        for row, key in enumerate(keys):
            grid.addWidget(Label("  ".join(key.labels), theme.medium_pt, theme.text, bold=True), row, 0)
            grid.addWidget(Label(key.does, theme.medium_pt, theme.text), row, 1)


class NoticeLines(Card):
    """The latest messages; visible only while there are any."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(theme)
        layout = QtWidgets.QVBoxLayout(self)
        side, above = theme.px(_MARGIN_PX), theme.px(_GAP_PX)
        layout.setContentsMargins(side, above, side, above)
        layout.setSpacing(0)
        self._lines = [Label("", theme.medium_pt, theme.text) for _ in range(_MOST_LINES)]
        for line in self._lines:
            layout.addWidget(line)

    def show_notices(self, notices: Sequence[Notice], room_px: int) -> None:
        """Shows the last of these, oldest first. room_px: the available width."""
        shown = list(notices)
        if len(shown) > _MOST_LINES:
            n_hidden = len(shown) - _MOST_LINES + 1
            shown = [Notice(f"{n_hidden} earlier messages"), *shown[n_hidden:]]
        widest_px = round(_WIDEST * room_px) - 2 * self._theme.px(_MARGIN_PX)
        for line in self._lines[len(shown) :]:
            line.hide()
        for line, notice in zip(self._lines, shown, strict=False):
            # The start and the end of a path matter most.
            middle = QtCore.Qt.TextElideMode.ElideMiddle
            line.show_text(line.fontMetrics().elidedText(notice.text, middle, widest_px))
            line.show_colour(self._theme.bad if notice.fault else self._theme.text)
            line.show()
        self.setVisible(bool(shown))
