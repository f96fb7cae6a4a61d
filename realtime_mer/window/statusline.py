"""The fields at the bottom of the window."""

from __future__ import annotations

from collections.abc import Sequence

from realtime_mer.window.captions import Field
from realtime_mer.window.labels import CutLabel, Label
from realtime_mer.window.qt import QtWidgets
from realtime_mer.window.theme import Theme

# The share of the width that a field gets, by its caption; the last is for all others.
_PARTS = {"source": 7, "lost sound": 6, "device lost": 4, "recording": 7}
_OTHER_PARTS = 3
_GAP_PX = 14


class FieldGrid(QtWidgets.QWidget):
    """Fields in rows of n_columns, each a caption over its value. Without fields it takes no room."""

    def __init__(self, theme: Theme, n_columns: int) -> None:
        super().__init__()
        self._theme, self._n_columns = theme, n_columns
        self._cells: list[tuple[CutLabel, CutLabel]] = []
        self._grid = QtWidgets.QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(theme.px(_GAP_PX / 4))
        self._grid.setHorizontalSpacing(theme.px(_GAP_PX))

    def show_fields(self, fields: Sequence[Field]) -> None:
        self.setHidden(not fields)
        while len(self._cells) < len(fields):
            self._add(fields[len(self._cells)].caption)
        for (caption, value), field in zip(self._cells, fields, strict=False):
            caption.show_text(field.caption)
            value.show_text(field.value)
            value.show_colour(self._theme.of(field.tone))
        for index, cell in enumerate(self._cells):
            for label in cell:
                label.setVisible(index < len(fields))

    def _add(self, caption: str) -> None:
        row, column = divmod(len(self._cells), self._n_columns)
        cell = CutLabel(self._theme.small_pt, self._theme.faint), CutLabel(self._theme.medium_pt, self._theme.text)
        layout = QtWidgets.QVBoxLayout()
        layout.setSpacing(0)
        for label in cell:
            layout.addWidget(label)
        self._grid.addLayout(layout, row, column)
        self._grid.setColumnStretch(column, _PARTS.get(caption, _OTHER_PARTS))
        self._cells.append(cell)
