"""Widgets drawn into memory, and what their pixels show."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from realtime_mer import window
from realtime_mer.types import Prediction
from realtime_mer.updates import InputLevel, LevelState, SourceState, Status, Update

if TYPE_CHECKING:
    from PyQt5 import QtCore, QtWidgets

    from realtime_mer.window.plane import PlaneView

Picture = npt.NDArray[np.int16]

MUSIC = InputLevel(-3.0, -18.0, LevelState.MUSIC)
RUNNING = Status("a device", SourceState.RUNNING, time_s=40.0, level=MUSIC)


def update(
    index: int,
    valence: float,
    arousal: float,
    *,
    held: bool = False,
    quadrant: int = 0,
    sds: tuple[float, float] | None = None,
) -> Update:
    """The prediction of this number, one every 0.5 s. sds: those of valence and arousal."""
    valence_sd, arousal_sd = sds or (None, None)
    prediction = Prediction(1.0 + 0.5 * index, valence, arousal, valence_sd, arousal_sd)
    return Update(index, prediction, held, 0.2, quadrant)


@functools.cache
def require_qt(platform: str = "offscreen") -> QtWidgets.QApplication:
    """Qt in this process, by default drawing into memory. Skips the test if Qt does not work here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QT_QPA_PLATFORM", platform)
        fault = window.display_fault()
        if fault is not None:
            pytest.skip(f"no window can be drawn here: {fault}")
        from realtime_mer.window.application import application

        return application()


def show(widget: QtWidgets.QWidget, width: int, height: int) -> None:
    """Lays the widget out and shows it, in so many of Qt's pixels."""
    widget.resize(width, height)
    widget.show()
    settle()


def settle() -> None:
    """Handles pending events: a new layout, and what it triggers."""
    from realtime_mer.window.qt import QtWidgets

    for _ in range(3):
        QtWidgets.QApplication.processEvents()


def picture(widget: QtWidgets.QWidget) -> Picture:
    """Shape (height, width, 3), 0 to 255: red, green, blue."""
    from realtime_mer.window.qt import QtGui

    settle()
    image = widget.grab().toImage().convertToFormat(QtGui.QImage.Format.Format_RGB888)
    data = image.constBits()
    assert data is not None
    flat = np.array(data.asarray(image.sizeInBytes()), dtype=np.int16)
    rows = flat.reshape(image.height(), image.bytesPerLine())[:, : 3 * image.width()]
    return rows.reshape(image.height(), image.width(), 3)


def plane_texts(plane: PlaneView) -> dict[str, QtCore.QRectF]:
    """The place of each text in the plane, in the plane's pixels."""
    import pyqtgraph as pg

    places = {}
    for item in plane._plot.scene().items():
        if isinstance(item, pg.TextItem) and item.toPlainText():
            margin = item.textItem.document().documentMargin()
            places[item.toPlainText()] = item.mapRectToScene(item.boundingRect()).adjusted(
                margin, margin, -margin, -margin
            )
    return places


def rgb(colour: str) -> npt.NDArray[np.int16]:
    """#rrggbb as three numbers from 0 to 255."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.int16)


def where(pixels: Picture, colour: str, tolerance: int = 0) -> npt.NDArray[np.intp]:
    """The pixels of a colour: shape (n, 2), row and column."""
    return np.argwhere((np.abs(pixels - rgb(colour)) <= tolerance).all(axis=2))


def linear(colour: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Light from sRGB, both per channel: 0 to 255 becomes 0 to 1."""
    parts = np.asarray(colour, dtype=np.float64) / 255.0
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """The contrast ratio of two colours, 1 to 21 (Web Content Accessibility Guidelines 2.1); each as 0 to 255."""
    luminances = [float(linear(colour) @ (0.2126, 0.7152, 0.0722)) for colour in (one, other)]
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)
