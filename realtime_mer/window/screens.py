"""The areas of the screens that windows can use."""

from __future__ import annotations

from collections.abc import Sequence

from realtime_mer.window.qt import QtCore, QtGui, QtWidgets


def room_on(screen: QtGui.QScreen) -> QtCore.QRect:
    """The area of this screen for a window below its title bar, in Qt's pixels."""
    style = QtWidgets.QApplication.style()
    title_px = 0 if style is None else style.pixelMetric(QtWidgets.QStyle.PixelMetric.PM_TitleBarHeight)
    return screen.availableGeometry().adjusted(0, title_px, 0, 0)


def fitted(place: QtCore.QRect, rooms: Sequence[QtCore.QRect]) -> QtCore.QRect:
    """The place, moved and shrunk to fit into the room that it overlaps most, or the first. rooms: at least one."""

    def shared_px(room: QtCore.QRect) -> int:
        both = place.intersected(room)
        return both.width() * both.height() if both.isValid() else 0

    room = max(rooms, key=shared_px)
    size = place.size().boundedTo(room.size())
    left = min(max(place.left(), room.left()), room.right() + 1 - size.width())
    top = min(max(place.top(), room.top()), room.bottom() + 1 - size.height())
    return QtCore.QRect(QtCore.QPoint(left, top), size)
