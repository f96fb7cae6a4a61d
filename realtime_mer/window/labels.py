"""Text in the window. Layout and style are only updated on a change, because both are slow in Qt."""

from __future__ import annotations

from realtime_mer.window.qt import QtCore, QtGui, QtWidgets


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
        self._lines = lines
        self._whole = ""
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


def font(points: float, *, bold: bool = False) -> QtGui.QFont:
    """The application's font in this size."""
    result = QtGui.QFont()
    result.setPointSizeF(points)
    result.setBold(bold)
    return result
