"""The line of fields at the bottom of the window."""

from __future__ import annotations

from collections.abc import Sequence

from realtime_mer.window.captions import Field
from realtime_mer.window.labels import CutLabel, Label
from realtime_mer.window.qt import QtWidgets
from realtime_mer.window.theme import Theme

# The share of the width that a field gets, by its caption; the last is for all others.
_PARTS = {"source": 7, "lost sound": 4, "device lost": 4, "recording": 5, "OSC": 6, "commands": 4}
_OTHER_PARTS = 3
_LEAST_TEXT = "0:00:00"
_GAP_PX = 14


class StatusLine(QtWidgets.QWidget):
    """Fields side by side, each a caption over its value."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._values: dict[str, CutLabel] = {}
        self._grid = QtWidgets.QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(0)
        self._grid.setHorizontalSpacing(theme.px(_GAP_PX))

    def show_fields(self, fields: Sequence[Field]) -> None:
        """The same captions in the same order each time."""
        for field in fields:
            value = self._values.get(field.caption) or self._add(field.caption)
            value.show_text(field.value)
            value.show_colour(self._theme.of(field.tone))

    def _add(self, caption: str) -> CutLabel:
        column = len(self._values)
        value = CutLabel(self._theme.medium_pt, self._theme.text)
        value.setMinimumWidth(value.fontMetrics().horizontalAdvance(_LEAST_TEXT))
        self._grid.addWidget(Label(caption, self._theme.small_pt, self._theme.faint), 0, column)
        self._grid.addWidget(value, 1, column)
        self._grid.setColumnStretch(column, _PARTS.get(caption, _OTHER_PARTS))
        self._values[caption] = value
        return value
