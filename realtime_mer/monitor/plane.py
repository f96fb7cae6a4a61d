"""The valence-arousal plane: where the music is, and the way it came."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from realtime_mer.monitor.captions import Headline
from realtime_mer.monitor.history import History
from realtime_mer.monitor.labels import font
from realtime_mer.monitor.plots import still_plot
from realtime_mer.monitor.qt import QtCore, QtGui, QtWidgets, pg
from realtime_mer.monitor.theme import Theme
from realtime_mer.moods import QUADRANT_WORDS

Values = npt.NDArray[np.float64]

TRAIL_S = 30.0

# The plane's edge lies at 1; the point has to fit beside it.
_REACH = 1.06
# Of the point's way to a new prediction, seconds: long enough to see it move, short beside the 0.5 s between two.
_GLIDE_S = 0.1
# Nearer than this is the same place: less than a pixel.
_SAME_PLACE = 1e-3
_FADE_STEPS = 32
_FAINTEST, _STRONGEST = 0.06, 0.9
_POINT_RADIUS_PX = 11.0
_AXIS_PX = 50
_TICKS = [(-1.0, "−1"), (-0.5, "−0.5"), (0.0, "0"), (0.5, "0.5"), (1.0, "1")]


class PlaneView(QtWidgets.QWidget):
    """The plane [-1, 1] × [-1, 1] in the largest square that fits, with the point and its trail."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._plot = still_plot(theme, (-_REACH, _REACH), (-_REACH, _REACH), _TICKS, _TICKS)
        self._plot.setParent(self)
        item = self._plot.getPlotItem()
        item.setContentsMargins(0, 14, 14, 0)
        for side, label in (
            ("bottom", "valence   (negative → positive)"),
            ("left", "arousal   (calm → energetic)"),
        ):
            item.setLabel(side, label, **{"color": theme.text, "font-size": f"{theme.medium_pt}pt"})
        item.getAxis("bottom").setHeight(_AXIS_PX)
        item.getAxis("left").setWidth(_AXIS_PX)
        box = item.getViewBox()
        self._add_scenery(box)
        self._trail = TrailItem(theme)
        box.addItem(self._trail)
        self._point = _round_point(theme)
        box.addItem(self._point)
        self._word = pg.TextItem("", color=theme.text, anchor=(0.5, 1.0))
        self._word.setFont(font(theme.large_pt, bold=True))
        self._word.setPos(0.0, -0.97)
        self._word.setZValue(30)
        box.addItem(self._word)
        self._target: tuple[float, float] | None = None
        self._headline: Headline | None = None

    def show_history(self, history: History) -> None:
        """Draws the trail anew and sends the point to the newest prediction."""
        newest = history.newest
        if newest is None:
            return
        recent = history.time_s >= newest.time_s - TRAIL_S
        # The point itself is the trail's end: it is still on its way to the newest prediction.
        self._trail.set_path(
            history.valence[recent][:-1],
            history.arousal[recent][:-1],
            (newest.time_s - history.time_s[recent][:-1]) / TRAIL_S,
        )
        self._target = (newest.valence, newest.arousal)
        if not self._point.isVisible():
            self._point.setVisible(True)
            self._move_to(*self._target)

    def show_headline(self, headline: Headline) -> None:
        """Writes the headline's word over the plane, and makes a ghost of the point where it does not follow."""
        if headline == self._headline:
            return
        self._headline = headline
        self._word.setText(headline.word.upper(), color=self._theme.of(headline.tone))
        self._trail.set_ghost(headline.ghost)
        colour = QtGui.QColor(self._theme.ghost if headline.ghost else self._theme.point)
        self._point.setBrush(QtGui.QBrush(QtCore.Qt.BrushStyle.NoBrush) if headline.ghost else QtGui.QBrush(colour))
        outline = colour if headline.ghost else QtGui.QColor(self._theme.background)
        self._point.setPen(QtGui.QPen(outline, 2.5))

    @property
    def at_rest(self) -> bool:
        """Whether the point is where the newest prediction is, or there is none."""
        return self._target is None or self._target == (self._point.x(), self._point.y())

    def advance(self, elapsed_s: float) -> None:
        """Moves the point on its way, as far as it gets in this time."""
        if self._target is None or self.at_rest:
            return
        x, y = self._point.x(), self._point.y()
        to_go_x, to_go_y = self._target[0] - x, self._target[1] - y
        if math.hypot(to_go_x, to_go_y) < _SAME_PLACE:
            self._move_to(*self._target)
            return
        share = 1.0 - math.exp(-max(elapsed_s, 0.0) / _GLIDE_S)
        self._move_to(x + share * to_go_x, y + share * to_go_y)

    def resizeEvent(self, _event: QtGui.QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        side = min(self.width(), self.height())
        self._plot.setGeometry((self.width() - side) // 2, (self.height() - side) // 2, side, side)

    def _move_to(self, valence: float, arousal: float) -> None:
        self._point.setPos(valence, arousal)
        self._trail.set_end(valence, arousal)

    def _add_scenery(self, box: pg.ViewBox) -> None:
        frame = QtGui.QPen(QtGui.QColor(self._theme.grid), 1.0)
        frame.setCosmetic(True)
        square = QtWidgets.QGraphicsRectItem(-1.0, -1.0, 2.0, 2.0)
        square.setPen(frame)
        box.addItem(square)
        for ends in ((-1.0, 0.0, 1.0, 0.0), (0.0, -1.0, 0.0, 1.0)):
            line = QtWidgets.QGraphicsLineItem(*ends)
            line.setPen(frame)
            box.addItem(line)
        for (valence, arousal), words in QUADRANT_WORDS.items():
            text = pg.TextItem(
                ",\n".join(words), color=self._theme.faint, anchor=((1 + valence) / 2, (1 - arousal) / 2)
            )
            text.setFont(font(self._theme.medium_pt + 2))
            text.setPos(0.97 * valence, 0.97 * arousal)
            box.addItem(text)


class TrailItem(QtWidgets.QGraphicsItem):
    """A line through the plane that fades with its age; its pens are made once."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._live_pens = _fading_pens(theme.point, theme.panel)
        self._ghost_pens = _fading_pens(theme.ghost, theme.panel)
        self._pens = self._live_pens
        self._corners: list[QtCore.QPointF] = []
        self._fades: list[int] = []
        self._end: QtCore.QPointF | None = None
        self._bounds = QtCore.QRectF(-_REACH, -_REACH, 2 * _REACH, 2 * _REACH)
        self.setZValue(10)

    def set_path(self, valence: Values, arousal: Values, ages: Values) -> None:
        """All of shape (n,), oldest first; ages: 0 is new, 1 as old as the trail gets."""
        self._corners = [QtCore.QPointF(x, y) for x, y in zip(valence.tolist(), arousal.tolist(), strict=True)]
        self._fades = np.clip((1.0 - ages) * _FADE_STEPS, 0, _FADE_STEPS - 1).astype(int).tolist()
        self.update()

    def set_end(self, valence: float, arousal: float) -> None:
        """Where the point is that draws the trail behind it."""
        self._end = QtCore.QPointF(valence, arousal)
        self.update()

    def set_ghost(self, ghost: bool) -> None:
        self._pens = self._ghost_pens if ghost else self._live_pens
        self.update()

    def boundingRect(self) -> QtCore.QRectF:  # noqa: N802 - Qt's name
        return self._bounds

    def paint(
        self,
        painter: QtGui.QPainter | None,
        _option: QtWidgets.QStyleOptionGraphicsItem | None,
        _widget: QtWidgets.QWidget | None = None,
    ) -> None:
        if painter is None:
            return
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        ends = [*self._corners[1:], *([self._end] if self._end is not None else [])]
        for start, end, fade in zip(self._corners, ends, self._fades, strict=False):
            painter.setPen(self._pens[fade])
            painter.drawLine(start, end)


def _fading_pens(colour: str, background: str) -> list[QtGui.QPen]:
    pens = []
    for share in np.linspace(_FAINTEST, _STRONGEST, _FADE_STEPS).tolist():
        # Mixed rather than translucent: the lines' ends overlap, and would show as dots.
        pen = QtGui.QPen(_mixed(colour, background, share), 2.0)
        pen.setCosmetic(True)
        # Square ends would make, of a line without length, a dash across the whole plane.
        pen.setCapStyle(QtCore.Qt.PenCapStyle.RoundCap)
        pens.append(pen)
    return pens


def _mixed(one: str, other: str, share: float) -> QtGui.QColor:
    """This share of one colour, and the rest of the other."""
    pairs = ((colour.red(), colour.green(), colour.blue()) for colour in (QtGui.QColor(one), QtGui.QColor(other)))
    return QtGui.QColor(*(round(share * a + (1.0 - share) * b) for a, b in zip(*pairs, strict=True)))


def _round_point(theme: Theme) -> QtWidgets.QGraphicsEllipseItem:
    radius = _POINT_RADIUS_PX
    point = QtWidgets.QGraphicsEllipseItem(-radius, -radius, 2 * radius, 2 * radius)
    point.setFlag(QtWidgets.QGraphicsItem.GraphicsItemFlag.ItemIgnoresTransformations)
    point.setPen(QtGui.QPen(QtGui.QColor(theme.background), 2.5))
    point.setZValue(20)
    point.setVisible(False)
    return point
