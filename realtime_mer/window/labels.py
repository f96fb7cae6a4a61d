"""Text in the window. Layout and style are only updated on a change, because both are slow in Qt."""

from __future__ import annotations

from collections.abc import Sequence

from realtime_mer.window.captions import Field
from realtime_mer.window.qt import QtCore, QtGui, QtWidgets
from realtime_mer.window.theme import Theme

# The share of the width that a field gets, by its caption; the last is for all others.
_PARTS = {"source": 7, "lost sound": 6, "device lost": 4, "recording": 7}
_OTHER_PARTS = 3
_GAP_PX = 14


class Label(QtWidgets.QLabel):
    """Plain text in one size and colour."""

    def __init__(self, text: str, points: float, colour: str, *, bold: bool = False) -> None:
        super().__init__(text)
        self._colour = ""
        # Names of devices and folders may contain what Qt would take for markup.
        self.setTextFormat(QtCore.Qt.TextFormat.PlainText)
        self.setFont(font(points, bold=bold))
        self.show_colour(colour)

    def show_text(self, text: str) -> None:
        if text != self.text():
            self.setText(text)

    def show_colour(self, colour: str) -> None:
        if colour != self._colour:
            self._colour = colour
            self.setStyleSheet(f"color: {colour};")


class CutLabel(Label):
    """A text cut to the space that the layout gives it; the tool tip shows all of it.

    lines: how many lines it may take; a single line ends in … if it is cut.
    """

    def __init__(self, points: float, colour: str, *, lines: int = 1) -> None:
        super().__init__("", points, colour)
        self._lines, self._whole = lines, ""
        self.setWordWrap(lines > 1)
        self.setAlignment(QtCore.Qt.AlignmentFlag.AlignTop)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
        # Some fonts' lines are closer than their letters are high.
        metrics = self.fontMetrics()
        self.setFixedHeight((lines - 1) * metrics.lineSpacing() + metrics.height())

    def show_text(self, text: str) -> None:
        if text != self._whole:
            self._whole = text
            self._cut()

    def resizeEvent(self, event: QtGui.QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        super().resizeEvent(event)
        self._cut()

    def _cut(self) -> None:
        one_line = " ".join(self._whole.split())
        if self._lines == 1:
            one_line = self.fontMetrics().elidedText(one_line, QtCore.Qt.TextElideMode.ElideRight, self.width())
        self.setText(one_line)
        self.setToolTip(self._whole)


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


def font(points: float, *, bold: bool = False) -> QtGui.QFont:
    """The application's font in this size."""
    result = QtGui.QFont()
    result.setPointSizeF(points)
    result.setBold(bold)
    return result
