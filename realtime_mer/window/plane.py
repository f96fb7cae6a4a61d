"""The valence-arousal plane: where the music is, how certain that is, and its recent path."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from realtime_mer.moods import QUADRANT_WORDS, QUADRANTS
from realtime_mer.updates import Update
from realtime_mer.window.captions import Headline
from realtime_mer.window.history import History
from realtime_mer.window.labels import font
from realtime_mer.window.plots import PaintedItem, faded, solid_pen, still_plot
from realtime_mer.window.qt import QtCore, QtGui, QtWidgets, pg
from realtime_mer.window.theme import Theme
from realtime_mer.window.trail import Trail, Values

CITATION = (
    "Warriner, Kuperman and Brysbaert, “Norms of valence, arousal, and dominance for 13,915 English lemmas”, "
    "Behavior Research Methods 45, 2013, doi:10.3758/s13428-012-0314-x"
)
# Mean valence and arousal that some 20 English speakers gave each word, 1 to 9, as published there (columns V.Mean.Sum
# and A.Mean.Sum). They are about words, not music. No word names a quadrant, and no two overlap in the plane.
_RATINGS = {
    "angry": (2.53, 6.20),
    "dramatic": (5.17, 6.59),
    "excited": (8.11, 6.43),
    "animated": (6.65, 5.77),
    "joyful": (8.21, 5.53),
    "dreamy": (7.52, 4.90),
    "peaceful": (8.00, 4.38),
    "tender": (6.47, 3.22),
    "sleepy": (4.36, 3.04),
    "bored": (2.95, 3.65),
    "melancholy": (3.74, 4.13),
}

# The plane ends at 1, with room for a point on its edge.
_REACH = 1.06
_LEFT_PX, _BOTTOM_PX, _TOP_PX = 60, 50, 14
_TICKS = [(-1.0, "−1"), (-0.5, "−0.5"), (0.0, "0"), (0.5, "0.5"), (1.0, "1")]
_POINT_PX, _OUTLINE_PX, _HOLLOW_PX = 11.0, 2.5, 3.5
# The trail's width and opacity, from its end to the point.
_THIN_PX, _THICK_PX = 2.0, 6.0
_FAINTEST, _STRONGEST = 0.05, 0.85
_FADE_STEPS = 24
# The ellipse ends at so many standard deviations. Its opacity in the middle and half-way, and that of its line at one.
_ELLIPSE_SDS = 2.0
_MIDDLE, _HALF_WAY, _LINE = 0.34, 0.14, 0.5
_LINE_PX = 1.5
# The time constant of the ellipse's change to a new size.
_EASE_S = 0.4
_SAME_SIZE = 1e-3
_TINT_SIDE = 128
# The quadrants' names are larger than the mood words by this factor.
_CORNER = 1.25


class PlaneView(QtWidgets.QWidget):
    """The plane [-1, 1] × [-1, 1] in the largest square that fits, with the point, its ellipse and its trail.

    The point follows the predictions like a spring, and the trail is its path in the last trail_s (trail.Trail). The
    soft ellipse around it shows the expected error, if the model gives one. A ghost is hollow and grey.
    """

    def __init__(self, theme: Theme, *, trail_s: float) -> None:
        super().__init__()
        self._theme = theme
        self._way = Trail(trail_s)
        self._headline: Headline | None = None
        # Of the ellipse: one standard deviation, now and once it has its new size.
        self._half_axes = self._goal_axes = (0.0, 0.0)
        self._plot = still_plot(theme, (-_REACH, _REACH), (-_REACH, _REACH), _TICKS, _TICKS)
        self._plot.setParent(self)
        item = self._plot.getPlotItem()
        item.setContentsMargins(0, theme.px(_TOP_PX), theme.px(_TOP_PX), 0)
        for side, label in (("bottom", "valence   (negative → positive)"), ("left", "arousal   (calm → energetic)")):
            item.setLabel(side, label, **{"color": theme.text, "font-size": f"{theme.medium_pt:.1f}pt"})
        item.getAxis("bottom").setHeight(theme.px(_BOTTOM_PX))
        item.getAxis("left").setWidth(theme.px(_LEFT_PX))
        self._ellipse, self._trail, self._point = EllipseItem(theme), TrailItem(theme), _round_point(theme)
        self._word = pg.TextItem("", color=theme.text, anchor=(0.5, 1.0))
        self._word.setFont(font(theme.large_pt, bold=True))
        self._word.setPos(0.0, -0.97)
        self._word.setZValue(30)
        for each in (TintItem(theme), *_scenery(theme), self._ellipse, self._trail, self._point, self._word):
            item.getViewBox().addItem(each)
        self.setToolTip(
            f"The point: the music now. Its trail: the last {trail_s:g} s. The soft ellipse: the expected error; the "
            "line is one standard deviation away, the end two.\n"
            f"Each mood word's middle is where people rated the word: {CITATION}."
        )

    def show_history(self, history: History) -> None:
        """Sends the point to the newest prediction by way of those before it."""
        newest = history.newest
        if newest is None:
            return
        if newest.time_s < self._way.newest_s:
            self._way.clear()
        for update in history.since(max(self._way.newest_s, newest.time_s - self._way.trail_s)):
            self.follow(update)
        self._draw_way()

    def follow(self, update: Update) -> None:
        """Takes the next prediction, to be drawn by the next `advance` or `show_history`."""
        prediction, is_first = update.prediction, self._way.newest_s == -math.inf
        self._way.follow(update.time_s, prediction.valence, prediction.arousal, held=update.held)
        # In silence the ellipse stays that of the last music.
        if is_first or not update.held:
            self._goal_axes = (prediction.valence_sd or 0.0, prediction.arousal_sd or 0.0)
        if is_first:
            self._half_axes = self._goal_axes

    def show_headline(self, headline: Headline) -> None:
        """Writes the headline's word over the plane, and makes the point a ghost if it does not follow the music."""
        if headline == self._headline:
            return
        self._headline = headline
        theme = self._theme
        self._word.setText(headline.word.upper(), color=theme.of(headline.tone))
        for item in (self._trail, self._ellipse):
            item.set_colour(theme.ghost if headline.ghost else theme.point)
        # Hollow, but the trail must not show through.
        self._point.setBrush(QtGui.QColor(theme.panel if headline.ghost else theme.point))
        outline, width = (theme.ghost, _HOLLOW_PX) if headline.ghost else (theme.background, _OUTLINE_PX)
        self._point.setPen(QtGui.QPen(QtGui.QColor(outline), width * theme.scale))

    def clear(self) -> None:
        """Forgets where the point is and was."""
        self._way.clear()
        self._half_axes = self._goal_axes = (0.0, 0.0)
        self._draw_way()

    def advance(self, elapsed_s: float) -> None:
        """Moves the point and fades the trail for this much time."""
        grown = self._grow(elapsed_s)
        if self._way.advance(elapsed_s) or grown:
            self._draw_way()

    def resizeEvent(self, _event: QtGui.QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        side = min(self.width(), self.height())
        self._plot.setGeometry((self.width() - side) // 2, (self.height() - side) // 2, side, side)

    def _draw_way(self) -> None:
        point = self._way.point
        self._point.setVisible(point is not None)
        self._trail.set_path(*self._way.way(), self._unit_px())
        if point is not None:
            self._point.setPos(*point)
            self._ellipse.set_shape(point, self._half_axes, self._unit_px())
        self._ellipse.setVisible(point is not None and min(self._half_axes) > _SAME_SIZE)

    def _unit_px(self) -> float:
        """The pixels from 0 to 1."""
        return max(float(self._plot.getPlotItem().getViewBox().width()) / (2 * _REACH), 1.0)

    def _grow(self, elapsed_s: float) -> bool:
        """Brings the ellipse nearer to its size; returns whether that changed anything."""
        goal = self._goal_axes
        if self._half_axes == goal:
            return False
        left = math.exp(-max(elapsed_s, 0.0) / _EASE_S)
        width, height = (end + left * (now - end) for now, end in zip(self._half_axes, goal, strict=True))
        self._half_axes = goal if math.dist((width, height), goal) < _SAME_SIZE else (width, height)
        return True


class TintItem(PaintedItem):
    """The plane's ground, coloured by position.

    Scaled once for each size and then only copied: Qt's own cache of items needs 40 % more CPU time at 3840 × 2160.
    """

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._image = _tinted(theme)
        self._copy = QtGui.QPixmap()
        self._bounds = QtCore.QRectF(-1.0, -1.0, 2.0, 2.0)
        self.setZValue(-10)

    def _draw(self, painter: QtGui.QPainter) -> None:
        place = painter.worldTransform().mapRect(self._bounds).toAlignedRect()
        device = painter.device()
        ratio = 1.0 if device is None else device.devicePixelRatioF()
        size = place.size() * ratio
        if self._copy.size() != size:
            smooth = QtCore.Qt.TransformationMode.SmoothTransformation
            scaled = self._image.scaled(size, QtCore.Qt.AspectRatioMode.IgnoreAspectRatio, smooth)
            self._copy = QtGui.QPixmap.fromImage(scaled)
            self._copy.setDevicePixelRatio(ratio)
        painter.resetTransform()
        painter.drawPixmap(place.topLeft(), self._copy)


class TrailItem(PaintedItem):
    """A line through the plane that gets thinner and fades with age."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._scale = theme.scale
        self.set_colour(theme.point)
        self._valence = self._arousal = np.zeros(0)
        # For each piece of the line, an index into the pens: 0 is the oldest.
        self._fades = np.zeros(0, dtype=np.intp)
        self.setZValue(10)

    def set_path(self, valence: Values, arousal: Values, ages: Values, unit_px: float) -> None:
        """Each of shape (n,), oldest first; ages: from 1 (the end of the trail) to 0. unit_px: pixels from 0 to 1."""
        self._valence, self._arousal = valence, arousal
        self._fades = np.clip((1.0 - ages[1:]) * _FADE_STEPS, 0, _FADE_STEPS - 1).astype(np.intp)
        self.prepareGeometryChange()
        self._bounds = QtCore.QRectF()
        if len(valence) > 1:
            left, bottom, right, top = valence.min(), arousal.min(), valence.max(), arousal.max()
            margin = (self._pens[-1].widthF() + 2.0) / unit_px
            self._bounds = QtCore.QRectF(left, bottom, right - left, top - bottom).adjusted(
                -margin, -margin, margin, margin
            )
        self.update()

    def set_colour(self, colour: str) -> None:
        self._pens = [
            solid_pen(
                faded(colour, _FAINTEST + share * (_STRONGEST - _FAINTEST)),
                (_THIN_PX + share * (_THICK_PX - _THIN_PX)) * self._scale,
            )
            for share in np.linspace(0.0, 1.0, _FADE_STEPS).tolist()
        ]
        self.update()

    def _draw(self, painter: QtGui.QPainter) -> None:
        if not len(self._fades):
            return
        # In pixels, in which pens have widths.
        to_px = painter.worldTransform()
        xs = (to_px.m11() * self._valence + to_px.dx()).tolist()
        ys = (to_px.m22() * self._arousal + to_px.dy()).tolist()
        places = [QtCore.QPointF(x, y) for x, y in zip(xs, ys, strict=True)]
        painter.resetTransform()
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        # One polyline for each step of the fading: single lines would overlap and show as dots.
        edges = [0, *(np.flatnonzero(np.diff(self._fades)) + 1).tolist(), len(self._fades)]
        for start, end in itertools.pairwise(edges):
            painter.setPen(self._pens[self._fades[start]])
            painter.drawPolyline(QtGui.QPolygonF(places[start : end + 1]))


class EllipseItem(PaintedItem):
    """An ellipse that fades out at two standard deviations, with a fine line at one."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._scale = theme.scale
        self.set_colour(theme.point)
        self._middle = QtCore.QPointF()
        self._half_axes = (0.0, 0.0)
        self.setZValue(5)

    def set_shape(self, middle: tuple[float, float], half_axes: tuple[float, float], unit_px: float) -> None:
        """Both as (valence, arousal); half_axes: one standard deviation. unit_px: pixels from 0 to 1."""
        self.prepareGeometryChange()
        self._middle, self._half_axes = QtCore.QPointF(*middle), half_axes
        x, y = (_ELLIPSE_SDS * half_axis + 2.0 / unit_px for half_axis in half_axes)
        self._bounds = QtCore.QRectF(middle[0] - x, middle[1] - y, 2.0 * x, 2.0 * y)
        self.update()

    def set_colour(self, colour: str) -> None:
        gradient = QtGui.QRadialGradient(QtCore.QPointF(), _ELLIPSE_SDS)
        for place, opacity in ((0.0, _MIDDLE), (0.5, _HALF_WAY), (1.0, 0.0)):
            gradient.setColorAt(place, faded(colour, opacity))
        self._brush, self._pen = QtGui.QBrush(gradient), QtGui.QPen(faded(colour, _LINE), _LINE_PX * self._scale)
        self.update()

    def _draw(self, painter: QtGui.QPainter) -> None:
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        to_px = painter.worldTransform()
        corner = QtCore.QPointF(*self._half_axes)
        one_sd = to_px.mapRect(QtCore.QRectF(self._middle - corner, self._middle + corner))
        painter.translate(self._middle)
        painter.scale(*self._half_axes)
        painter.setPen(QtCore.Qt.PenStyle.NoPen)
        painter.setBrush(self._brush)
        painter.drawEllipse(QtCore.QPointF(), _ELLIPSE_SDS, _ELLIPSE_SDS)
        painter.resetTransform()
        painter.setPen(self._pen)
        painter.setBrush(QtCore.Qt.BrushStyle.NoBrush)
        painter.drawEllipse(one_sd)


def tint(theme: Theme, valence: Values, arousal: Values) -> Values:
    """The colour of the plane's ground at these places, arrays of the same shape (...): shape (..., 3), 0 to 255.

    Each quadrant's tint has a share that falls linearly from its own corner to the two next to it. The sum is mixed
    with the panel's colour, from all of it in the plane's middle to 1 - tint_strength at distance 1.
    """
    x, y = (valence[..., None] + 1.0) / 2.0, (arousal[..., None] + 1.0) / 2.0
    shares = (x * y, (1.0 - x) * y, (1.0 - x) * (1.0 - y), x * (1.0 - y))
    mixed = sum((share * _rgb(colour) for share, colour in zip(shares, theme.tints, strict=True)), start=np.zeros(3))
    strength = theme.tint_strength * np.minimum(np.hypot(valence, arousal), 1.0)[..., None]
    result: Values = strength * mixed + (1.0 - strength) * _rgb(theme.panel)
    return result


def _tinted(theme: Theme) -> QtGui.QImage:
    """The whole ground, small."""
    places = (np.arange(_TINT_SIDE) + 0.5) / _TINT_SIDE * 2.0 - 1.0
    pixels = np.round(tint(theme, *np.meshgrid(places, places[::-1]))).astype(np.uint8).tobytes()
    image = QtGui.QImage(pixels, _TINT_SIDE, _TINT_SIDE, 3 * _TINT_SIDE, QtGui.QImage.Format.Format_RGB888)
    # A copy that owns its pixels.
    return image.convertToFormat(QtGui.QImage.Format.Format_RGB32)


def _rgb(colour: str) -> Values:
    return np.array(QtGui.QColor(colour).getRgb()[:3], dtype=np.float64)


def mood_words() -> dict[str, tuple[float, float]]:
    """Each word's valence and arousal, in [-1, 1]."""
    return {word: ((valence - 5.0) / 4.0, (arousal - 5.0) / 4.0) for word, (valence, arousal) in _RATINGS.items()}


def _round_point(theme: Theme) -> QtWidgets.QGraphicsEllipseItem:
    radius = theme.px(_POINT_PX)
    point = QtWidgets.QGraphicsEllipseItem(-radius, -radius, 2 * radius, 2 * radius)
    point.setFlag(QtWidgets.QGraphicsItem.GraphicsItemFlag.ItemIgnoresTransformations)
    point.setZValue(20)
    point.setVisible(False)
    return point


def _scenery(theme: Theme) -> Iterator[QtWidgets.QGraphicsItem]:
    """The frame, the axes, the quadrants' names in their corners, and the mood words centred on their places."""
    pen = QtGui.QPen(QtGui.QColor(theme.grid), theme.px(1.0))
    pen.setCosmetic(True)
    frame = QtWidgets.QGraphicsRectItem(-1.0, -1.0, 2.0, 2.0)
    frame.setPen(pen)
    yield frame
    for ends in ((-1.0, 0.0, 1.0, 0.0), (0.0, -1.0, 0.0, 1.0)):
        line = QtWidgets.QGraphicsLineItem(*ends)
        line.setPen(pen)
        yield line
    for number, (valence, arousal) in QUADRANTS.items():
        anchor = ((1 + valence) / 2, (1 - arousal) / 2)
        text = pg.TextItem(QUADRANT_WORDS[valence, arousal][0], color=theme.quadrants[number - 1], anchor=anchor)
        text.setFont(font(_CORNER * theme.medium_pt))
        text.setPos(0.985 * valence, 0.985 * arousal)
        yield text
    for word, place in mood_words().items():
        text = pg.TextItem(word, color=theme.faint, anchor=(0.5, 0.5))
        text.setFont(font(theme.medium_pt))
        text.setPos(*place)
        yield text
