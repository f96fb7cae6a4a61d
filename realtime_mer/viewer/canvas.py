"""A view that is drawn without a window: as pixels, or as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from realtime_mer.viewer.moments import Moments
from realtime_mer.viewer.projector import Projector
from realtime_mer.window.application import application
from realtime_mer.window.pictures import png
from realtime_mer.window.qt import QtCore, QtGui, QtWidgets
from realtime_mer.window.remembered import Look
from realtime_mer.window.view import VIEWS, theme_for

if TYPE_CHECKING:
    from PyQt5 import QtSvg
else:
    from pyqtgraph.Qt import QtSvg

# A small picture shows everything, however small.
_SMALLEST = 0.25


class Canvas:
    """Draws the moments of a take, one at a time. Creates the QApplication if there is none. For the main thread."""

    def __init__(self, moments: Moments, look: Look, width_px: int, height_px: int) -> None:
        application()
        self._title = moments.take.name
        theme = theme_for(look.theme, look.mode, QtCore.QSize(width_px, height_px), least=_SMALLEST)
        self._view = VIEWS[look.mode](theme, (), moments.take.trail_s)
        self._view.setAttribute(QtCore.Qt.WidgetAttribute.WA_DontShowOnScreen)
        self._view.setFixedSize(width_px, height_px)
        self._view.show()
        self._projector = Projector(moments)
        self._projector.use(self._view, look.span_s)
        # Some parts are only created once they have something to show.
        self._projector.show(moments.take.start_s)
        # The layout, and what it triggers.
        for _ in range(3):
            QtWidgets.QApplication.processEvents()
        self._image = QtGui.QImage(width_px, height_px, QtGui.QImage.Format.Format_RGB32)

    @property
    def size_px(self) -> tuple[int, int]:
        return self._image.width(), self._image.height()

    def image(self, time_s: float) -> QtGui.QImage:
        """A moment, RGB32; the next call draws into the same image."""
        self._show(time_s)
        painter = QtGui.QPainter(self._image)
        self._view.render(painter)
        painter.end()
        return self._image

    def pixels(self, time_s: float) -> bytes:
        """A moment: blue, green, red and an unused byte for each pixel, row by row."""
        image = self.image(time_s)
        bits = image.constBits()
        if bits is None:
            raise MemoryError("There is no room for a picture of this size.")
        content: bytes = bits.asstring(image.sizeInBytes())
        return content

    def png(self, time_s: float) -> bytes:
        return png(self.image(time_s))

    def svg(self, time_s: float) -> bytes:
        """A moment as an SVG file; text stays text."""
        self._show(time_s)
        buffer = QtCore.QBuffer()
        generator = QtSvg.QSvgGenerator()
        generator.setOutputDevice(buffer)
        # Qt does not escape it.
        generator.setTitle(escape(self._title))
        generator.setSize(self._view.size())
        generator.setViewBox(self._view.rect())
        # Else text would have another size than in pixels.
        generator.setResolution(self._view.logicalDpiX())
        painter = QtGui.QPainter(generator)
        self._view.render(painter)
        painter.end()
        return bytes(buffer.data())

    def close(self) -> None:
        """Closes the view and the sound file. Harmless when called twice."""
        self._projector.close()
        self._view.close()

    def _show(self, time_s: float) -> None:
        self._projector.show(time_s)
        # New texts may need another layout; no other pending event has a visible effect.
        QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.Type.LayoutRequest)
